"""How long `gate`, `compare` and `report` take on reports of many images, start of Python included.

    python -m benchmarks.gate.speed --report report.json
    python -m benchmarks.gate.speed --report report.json --images 1000000

The figures do not hang on what the report is of: its masks, answers and latencies are replaced by
drawn ones of so many images under two attacks, and 2,000 calls.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from edge_bench.core.series import encode_series
from edge_bench.core.spec import Report
from edge_bench.files.report_file import read_report, write_report
from edge_bench.statistics.metrics import encode_mask

CALLS, RUNS = 2_000, 5
POLICY = """confidence = 0.95
critical = ["worst_case >= 10%", "drop(worst_case) <= 3%", "class:* >= 1%", "latency_p95_ms <= 30"]
"""


def drawn(report: Report, images: int, seed: int) -> Report:
    """The report with drawn figures; two attacks, whatever it had."""
    generator = np.random.default_rng(seed)
    result = replace(report.sets[0], answers=None)
    manifest = replace(result.manifest, samples=images)
    masks = [encode_mask(generator.random(images) < rate) for rate in (0.9, 0.5, 0.5)]
    calls = 1e6 * (1 + generator.exponential(size=CALLS))
    return replace(
        report,
        clean_mask=masks[0],
        clean_answers=None,
        labels=encode_series(i % manifest.classes for i in range(images)),
        sets=tuple(
            replace(result, name=name, manifest=manifest, mask=mask)
            for name, mask in zip(("a", "b"), masks[1:], strict=True)
        ),
        latency=replace(report.latency, latency_ns=tuple(int(call) for call in calls)),
        content_sha256=None,
    )


def main(
    report: Annotated[Path, typer.Option(help="A report with replayed sets.")],
    images: Annotated[int, typer.Option(help="Images of the drawn reports.")] = 10_000,
) -> None:
    """Print the least, median and largest seconds of each command, and its largest memory."""
    with tempfile.TemporaryDirectory() as name:
        folder, source = Path(name), read_report(report)
        for seed, file in enumerate(("old.json", "new.json")):
            write_report(folder / file, drawn(source, images, seed), force=True)
        (folder / "gate.toml").write_text(POLICY, encoding="utf-8")
        ardx = [sys.executable, "-m", "edge_bench"]
        commands = {
            "gate": [*ardx, "gate", "new.json", "--policy", "gate.toml", "--baseline", "old.json"],
            "compare": [*ardx, "compare", "old.json", "new.json"],
            "report": [*ardx, "report", "new.json", "--html", "page.html"],
        }
        for what, command in commands.items():
            runs = sorted(measured(command, folder) for _ in range(RUNS))
            seconds = ", ".join(f"{runs[at][0]:.2f}" for at in (0, RUNS // 2, RUNS - 1))
            print(f"{what}: {seconds} s, {max(peak for _, peak in runs):.0f} MiB")
        print(f"page: {(folder / 'page.html').stat().st_size / 1e6:.2f} MB")


def measured(command: list[str], folder: Path) -> tuple[float, float]:
    """Seconds and MiB of one run; it must have decided something."""
    with (folder / "said").open("w+b") as said:
        begin = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, stdout=said, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        if process.returncode not in (0, 1, 4) or b"Traceback" in said.read():
            sys.exit(f"error: {' '.join(command[1:])} ended with {process.returncode}")
    return seconds, used.ru_maxrss / 1024


if __name__ == "__main__":
    typer.run(main)
