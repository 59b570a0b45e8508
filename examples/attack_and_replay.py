"""Attack a student, store what was found, and replay it on the artefact that ships.

    python examples/attack_and_replay.py OUT

OUT is what distil_and_export.py wrote.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ard import SplitSource, craft_set, load_dataset, parse_attack, weights_victim
from edge_bench import BenchOptions, open_sets, run, summarise, write_json
from edge_bench.core.errors import ArdxError

EPSILON = 0.15


def main(out: Path) -> None:
    """Write OUT/sets and OUT/report.json."""
    digits = load_dataset("digits", Path("data"))
    images = SplitSource(digits.test, digits.name, digits.classes, digits.class_names)
    victim = weights_victim(out / "student/student.safetensors")
    for name in ("pgd20", "cw30"):
        craft_set(victim, images, parse_attack(name, epsilon=EPSILON), out / "sets" / name)
    options = BenchOptions(threads=1, min_seconds=0.5, settle_seconds=0.0)
    report = run(out / "student-int8.onnx", open_sets(out / "sets"), options)
    write_json(out / "report.json", report, force=True)
    for name, figure in summarise(report).items():
        print(f"{name}: {figure}")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except ArdxError as error:  # Such as sets of an earlier run, which nothing writes over.
        sys.exit(f"error: {error}")
