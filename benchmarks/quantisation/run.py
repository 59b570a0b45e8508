"""Export one student in every way and attack each artefact; one JSON line per artefact.

    python -m benchmarks.quantisation.run STUDENT --name resnet8 --qat QAT --data-dir DIR \
        --work runs/quantisation

Each artefact is made by `ardx export` as a user would, and attacked in ONNX Runtime itself: by
gradients of its parent at its own logits (BPDA) and by Square with its scores alone; an attack sees
what the earlier ones left, so the last one's accuracy is the worst case. Test images; what
`--max-robust-drop` decides by are training images. An artefact whose line is there already is
skipped.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from ard.attacks.budget import recipe_epsilon
from ard.attacks.registry import attack_label, parse_attack
from ard.attacks.victims import open_victim
from ard.cli import app
from ard.data.datasets import load_dataset
from ard.data.splits import Split, take_limit
from ard.evaluation.run import Evaluation
from ard.models.weight_files import load_model
from benchmarks import command
from benchmarks.lines import RESULTS, Line, append, commit, finished, machine, pack
from deploy.allowed_drop.search import latencies_ms
from edge_bench.core.spec import AttackSpec
from edge_bench.files.onnx_file import read_card
from edge_bench.files.store import sha256_file
from edge_bench.terminal.console import progress

LINES = RESULTS / "quantisation.jsonl"


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to export: its name, the options of `ardx export`, and whether of the QAT weights."""

    name: str
    options: tuple[str, ...]
    is_qat: bool = False


def ways(target: str, budget: str) -> list[Way]:
    """Every way, FP32 first."""
    int8 = ("--int8", "--target", target)
    return [
        Way(name="fp32", options=()),
        Way(name="int8", options=int8),
        Way(name="int8, adversarial calibration", options=(*int8, "--calibration", "adversarial")),
        Way(name=f"int8, budget {budget}", options=(*int8, "--max-robust-drop", budget)),
        Way(name="int8, qat", options=int8, is_qat=True),
    ]


def main(
    student: Annotated[Path, typer.Argument(help="The student's weights.")],
    name: Annotated[str, typer.Option(help="What tables call it.")],
    work: Annotated[Path, typer.Option(help="Folder for artefacts.")],
    qat: Annotated[Path | None, typer.Option(help="The same after `ardx distill --qat`.")] = None,
    target: Annotated[str, typer.Option(help="Of INT8.")] = "x86-vnni",
    budget: Annotated[str, typer.Option(help="Of --max-robust-drop.")] = "0.01",
    lines: Annotated[Path, typer.Option(help="Where finished artefacts are written.")] = LINES,
    data_dir: Annotated[Path, typer.Option(help="Folder with the dataset.")] = Path("data"),
    limit: Annotated[int, typer.Option(help="Stratified test images.")] = 500,
    attacks: Annotated[
        str, typer.Option(help="Separated by commas.")
    ] = "apgd_ce,apgd_t,square1000",
    with_latency: Annotated[
        bool, typer.Option("--latency", help="Time them in turns; best on a quiet machine.")
    ] = False,
    threads: Annotated[int, typer.Option(help="Threads of torch and of the runtime.")] = 1,
) -> None:
    """Export STUDENT in every way, and attack what has no line yet."""
    torch.set_num_threads(threads)
    origin = {"commit": commit(), "machine": machine()}
    _, card = load_model(student)
    split = take_limit(load_dataset(card.dataset, data_dir).test, limit)

    def path_of(way: Way) -> Path:
        return work / f"{name}-{way.name.replace(', ', '-').replace(' ', '-')}.onnx"

    for way in ways(target, budget):
        weights = qat if way.is_qat else student
        if weights is None:
            continue
        identifier = f"{name} {way.name} {target} {sha256_file(weights)[:12]} {limit} {attacks}"
        if identifier in finished(lines):
            continue
        artefact = path_of(way)
        begin = time.perf_counter()
        exported(weights, artefact, way, data_dir)
        seconds = time.perf_counter() - begin
        line = {"id": identifier, "name": name, "way": way.name, "target": target}
        specs = [parse_attack(each, epsilon=recipe_epsilon(card)) for each in attacks.split(",")]
        line |= attacked(artefact, weights, split, specs, threads)
        append(lines, line | origin | {"export_seconds": round(seconds, 1)})
    if with_latency:
        made = {way.name: path_of(way) for way in ways(target, budget) if path_of(way).exists()}
        medians = latencies_ms(list(made.values()), split.images[:1].numpy())
        line = {"id": f"{name} latency", "name": name, "way": "latency", "target": target}
        append(lines, line | origin | {"median_ms": dict(zip(made, medians, strict=True))})


def exported(weights: Path, artefact: Path, way: Way, data_dir: Path) -> None:
    """Run `ardx export`."""
    artefact.parent.mkdir(parents=True, exist_ok=True)
    arguments = ["export", str(weights), "--out", str(artefact), *way.options]
    app([*arguments, "--data-dir", str(data_dir), "--force"], standalone_mode=False)


def attacked(
    artefact: Path, parent: Path, split: Split, specs: list[AttackSpec], threads: int
) -> Line:
    """Masks of every attack on the artefact, and what the artefact is."""
    with open_victim(artefact, parent=parent, threads=threads) as victim:
        dataset = victim.card.dataset
        asked = Evaluation(victim=victim, split=split, dataset=dataset, specs=specs)
        masks = asked.run(doubting=False, monitor=progress).masks
    card = read_card(artefact)
    recipe: dict[str, Any] = card.recipe if card else {}
    return {
        "artefact_sha256": sha256_file(artefact),
        "parent_sha256": sha256_file(parent),
        "size_bytes": artefact.stat().st_size,
        "float_layers": recipe.get("float_layers", []),
        "epsilon": specs[0].epsilon,
        "attacks": [attack_label(spec) for spec in specs],
        "images": len(split),
        "test": {label: float(mask.mean()) for label, mask in masks.items()},
        "masks": {label: pack(mask) for label, mask in masks.items()},
    }


if __name__ == "__main__":
    command.run(main)
