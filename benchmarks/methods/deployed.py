"""What the INT8 artefact of a student keeps, and what makes the robustness of either doubtful.

    python -m benchmarks.methods.deployed --data-dir DIR --work runs/methods --label ard

Each student is exported (`ardx export --int8`), and both are attacked on the same images: the
student by its own gradients, its artefact by its own logits and the student's gradients (BPDA), and
both by scores alone (Square), every attack on every image; then doubted as `ardx evaluate` does.
One JSON line per student; those whose line is there already are skipped.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from ard.attacks.budget import recipe_epsilon
from ard.attacks.registry import parse_attack
from ard.attacks.victims import open_victim
from ard.data.datasets import load_dataset
from ard.data.splits import Dataset, take_limit
from ard.evaluation.run import Evaluation, Result
from ard.exporting.export import export
from benchmarks import command
from benchmarks.lines import LINES, append, commit, machine, pack
from benchmarks.methods.again import students
from edge_bench.files.store import sha256_file
from edge_bench.terminal.console import progress

ATTACKS = ["apgd_ce", "apgd_t", "square1000"]
STAGE = "deployed"


def main(
    work: Annotated[Path, typer.Option(help="Folder with the students, as run.py left it.")],
    lines: Annotated[Path, typer.Option(help="Lines to read and to add to.")] = LINES,
    data_dir: Annotated[Path, typer.Option(help="Folder with the dataset.")] = Path("data"),
    stage: Annotated[str, typer.Option(help="Whose students.")] = "main",
    images: Annotated[int, typer.Option(help="Stratified test images.")] = 500,
    attack: Annotated[list[str], typer.Option(help="Each on every image.")] = ATTACKS,
    label: Annotated[list[str] | None, typer.Option(help="Only this method; several.")] = None,
) -> None:
    """Add a line of stage `deployed` for every student that has none."""
    torch.set_num_threads(1)
    origin = {"commit": commit(), "machine": machine()}
    for student in students(lines, work, of=stage, stage=STAGE, labels=label):
        begin = time.perf_counter()
        dataset = load_dataset(student.line["settings"]["dataset"], data_dir)
        told = student.line | compared(student.weights, dataset, images, attack)
        told["images"] = min(images, len(dataset.test))
        told["seconds"] = {"judging": round(time.perf_counter() - begin, 1)}
        append(lines, told | origin)


def compared(weights: Path, dataset: Dataset, images: int, attacks: list[str]) -> dict[str, Any]:
    """What a line says of a student and of its artefact, each by its precision."""
    artefact = weights.with_name("student-int8.onnx")
    with progress(f"{weights.parent.name} int8") as report_progress:
        report_progress(0, 1, "export")
        export(weights, dataset, artefact, int8_target="x86", force=True)
    found: dict[str, Any] = {"artefact_sha256": sha256_file(artefact)}
    for precision, path, parent in (("fp32", weights, None), ("int8", artefact, weights)):
        result = judged(path, parent, dataset, images, attacks)
        found[precision] = {
            "test": {name: float(mask.mean()) for name, mask in result.masks.items()},
            "masks": {name: pack(mask) for name, mask in result.masks.items()},
            "doubts": [doubt.sentence for doubt in result.doubts],
        }
    return found


def judged(
    path: Path, parent: Path | None, dataset: Dataset, images: int, attacks: list[str]
) -> Result:
    """The evaluation of one of them on the first stratified test images."""
    with open_victim(path, parent=parent, threads=1) as victim:
        epsilon = recipe_epsilon(victim.card)
        return Evaluation(
            victim=victim,
            split=take_limit(dataset.test, images),
            dataset=dataset.name,
            specs=[parse_attack(name, epsilon=epsilon) for name in attacks],
            each=True,
            parent=parent,
        ).run(monitor=progress)


if __name__ == "__main__":
    command.run(main)
