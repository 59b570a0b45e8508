"""Attack one model's FP32 and INT8 artefacts by every threat; one JSON line per finished attack.

    python -m benchmarks.int8_threats.run STUDENT --data-dir DIR --work runs/int8_threats

The artefacts are exported from STUDENT. Sets that were crafted on its weights are replayed on each
of them, and each is attacked itself: with its own logits and its parent's gradients (BPDA), by its
scores (Square), and by images that were made for the other artefacts. An attack whose line is
there already is skipped, so the same command goes on after an interruption; several processes may
share one `--work` and one file of lines.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor, nn

from ard.attacks.attempt import margin
from ard.attacks.budget import recipe_epsilon
from ard.attacks.registry import parse_attack
from ard.attacks.run import run_attack
from ard.attacks.steps.grid import round_to_grid
from ard.attacks.victims import Victim, open_victim, weights_victim
from ard.crafting.craft import craft_set, versions_of
from ard.data.datasets import load_dataset
from ard.data.sources import SplitSource
from ard.data.splits import Dataset, Split, as_float, take_limit
from ard.evaluation.accuracy import BATCH_SIZE
from ard.exporting.export import export
from ard.models.predict import predict
from benchmarks import command
from benchmarks.lines import (
    RESULTS,
    Line,
    append,
    claim,
    commit,
    finished,
    machine,
    pack,
    recorded,
    unpack,
)
from edge_bench.core.spec import AttackSpec
from edge_bench.files.sets import open_set
from edge_bench.robustness.square import square_attack
from edge_bench.statistics.metrics import BoolArray
from edge_bench.terminal.console import progress

LINES = RESULTS / "int8_threats.jsonl"
ARTEFACTS: dict[str, str | None] = {
    "fp32": None,
    "x86": "x86",
    "x86-vnni": "x86-vnni",
    "arm": "arm",
}
"""Our names of the artefacts, and the target each is quantised for."""

ATTACKS = ("pgd20", "cw30", "apgd_ce", "apgd_t")
"""Crafted once on the weights, to be replayed, and run on every artefact itself."""

MORE = ("pgd100", "cw100")
"""With two starts each, on what the attacks above left of an artefact, and with the rounding to
the 8-bit grid inside the loop: not all floats that fool an INT8 model do so when rounded."""

SQUARES = ("square", "square, strict")
"""As `ardx bench` runs it, and as published: without squares that leave the margin as it is."""

# Another draw than that of the sets: otherwise an attack on the FP32 artefact would walk the very
# path of its set, and the control would have one chance where an INT8 artefact has two.
SEED_OF_SETS, SEED_OF_ATTACKS = 0, 1
SQUARES_AT_ONCE = 64


class OnGrid(nn.Module):
    """A model that reads 8-bit levels: rounds its images, and passes gradients straight through."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to logits (B, C)."""
        rounded = (images.detach() * 255).round() / 255
        # The value is `rounded` up to one rounding error; crafting judges the levels themselves.
        passed: Tensor = self.module(images + (rounded - images).detach())
        return passed


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What every attack is run on."""

    model: Path
    split: Split
    dataset: Dataset
    epsilon: float
    work: Path
    queries: int


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Masks of one attack, (N,) each, by how the images were judged, and what else is told."""

    masks: dict[str, BoolArray]
    told: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One attack on one artefact. `threat` is clean, replay, bpda, transfer or black-box."""

    threat: str
    attack: str

    @property
    def label(self) -> str:
        """How lines and tables name it."""
        alone = self.threat in ("clean", "black-box")
        return self.attack if alone else f"{self.threat} {self.attack}"


def main(
    model: Annotated[Path, typer.Argument(help="The student's weights.")],
    work: Annotated[Path, typer.Option(help="Folder for artefacts, sets and images.")],
    lines: Annotated[Path, typer.Option(help="Where finished attacks are written.")] = LINES,
    data_dir: Annotated[Path, typer.Option(help="Folder with the dataset.")] = Path("data"),
    limit: Annotated[int, typer.Option(help="Stratified test images.")] = 1000,
    queries: Annotated[int, typer.Option(help="Of Square, for each image.")] = 5000,
    only: Annotated[str, typer.Option(help="Only these threats, separated by commas.")] = "",
) -> None:
    """Run every attack on every artefact of MODEL that has no line yet."""
    torch.set_num_threads(1)
    bench = opened(model, work, data_dir, limit, queries)
    wanted = set(filter(None, only.split(",")))
    origin = {"commit": commit(), "machine": machine()}
    artefacts = {name: exported(bench, name) for name in ARTEFACTS}
    for job in jobs():
        if wanted and job.threat not in wanted:
            continue
        for name, path in artefacts.items():
            if not (job.threat == "transfer" and job.attack == name):
                one(bench, job, name, path, lines, origin)


def opened(model: Path, work: Path, data_dir: Path, limit: int, queries: int) -> Bench:
    """The images and the budget of the model's own training."""
    card = weights_victim(model).card
    dataset = load_dataset(card.dataset, data_dir)
    return Bench(
        model=model,
        split=take_limit(dataset.test, limit),
        dataset=dataset,
        epsilon=recipe_epsilon(card),
        work=work,
        queries=queries,
    )


def exported(bench: Bench, name: str) -> Path:
    """The artefact, exported once."""
    out = bench.work / f"{name}.onnx"
    with claim(bench.work / "claims" / "export", wait=True):
        if not out.exists():
            export(bench.model, bench.dataset, out, int8_target=ARTEFACTS[name])
    return out


def jobs() -> Iterator[Job]:
    """All attacks, in an order in which each finds what it goes on from."""
    yield Job(threat="clean", attack="clean")
    for attack in (*ATTACKS, "strongest"):
        yield Job(threat="replay", attack=attack)
    for attack in (*ATTACKS, *MORE):
        yield Job(threat="bpda", attack=attack)
    for name in ARTEFACTS:
        yield Job(threat="transfer", attack=name)
    for attack in SQUARES:
        yield Job(threat="black-box", attack=attack)


def one(bench: Bench, job: Job, name: str, path: Path, lines: Path, origin: dict[str, str]) -> None:
    """Run a job on an artefact unless it has a line or somebody else is at it."""
    with ExitStack() as stack:
        victim = stack.enter_context(open_victim(path, parent=bench.model, threads=1))
        line_id = f"{name} {job.label} {digest(bench, job, victim)}"
        is_ours = stack.enter_context(claim(bench.work / "claims" / line_id))
        if not is_ours or line_id in finished(lines) or not is_ready(job, name, lines):
            return
        begin = time.perf_counter()
        with progress(f"{name} {job.label}") as report_progress:
            outcome = THREATS[job.threat](bench, job, victim, earlier(lines, victim))
            kept = outcome.masks["grid"].mean()
            report_progress(1, 1, f"{kept:.1%}")
        line: Line = {
            "id": line_id,
            "artefact": name,
            "threat": job.threat,
            "attack": job.attack,
            "label": job.label,
            "artefact_sha256": victim.sha256,
            "parent_sha256": victim.surrogate_sha256,
            "bytes": path.stat().st_size,
            "runtime": victim.runtime,
            "images_sha256": bench.split.sha256,
            "images": len(bench.split),
            "epsilon": bench.epsilon,
            "masks": {kind: pack(mask) for kind, mask in outcome.masks.items()},
            "accuracy": {kind: float(mask.mean()) for kind, mask in outcome.masks.items()},
            "seconds": round(time.perf_counter() - begin, 1),
        }
        append(lines, line | outcome.told | origin)


def is_ready(job: Job, name: str, lines: Path) -> bool:
    """Are the lines there that the job goes on from? Another process may still be at them."""
    needs = {
        "clean": [],
        "replay": [],
        "bpda": [f"{name} clean"],
        "transfer": [f"{name} clean"],
        "black-box": [f"{name} clean"],
    }[job.threat]
    if job.threat == "bpda" and job.attack in MORE:
        needs += [f"{name} bpda {attack}" for attack in ATTACKS]
    if job.threat == "transfer":
        needs += [f"{job.attack} bpda {attack}" for attack in (*ATTACKS, *MORE)]
    return set(needs) <= {line_id.rpartition(" ")[0] for line_id in finished(lines)}


def digest(bench: Bench, job: Job, victim: Victim) -> str:
    """What a line stands for: the files, the images and the attack."""
    facts = [victim.sha256, victim.surrogate_sha256, bench.split.sha256, bench.epsilon, job.label]
    facts += [bench.queries] if job.threat == "black-box" else []
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]


def earlier(lines: Path, victim: Victim) -> dict[str, BoolArray]:
    """Masks on the 8-bit grid of the attacks on this artefact that are finished, by label."""
    return {
        line["label"]: unpack(line, "grid")
        for line in recorded(lines).values()
        if line["artefact_sha256"] == victim.sha256
    }


def clean(bench: Bench, job: Job, victim: Victim, masks: dict[str, BoolArray]) -> Outcome:
    """The clean images."""
    return Outcome(masks={"grid": judged(victim, bench.split.images, bench.split.labels)}, told={})


def replay(bench: Bench, job: Job, victim: Victim, masks: dict[str, BoolArray]) -> Outcome:
    """A set that was crafted on the weights, of which the artefact knows nothing."""
    if job.attack == "strongest":
        return Outcome(masks=_both(bench, victim, strongest(bench)), told={})
    floats, spec = crafted(bench, job.attack)
    return Outcome(masks=_both(bench, victim, floats), told={"spec": asdict(spec)})


def bpda(bench: Bench, job: Job, victim: Victim, masks: dict[str, BoolArray]) -> Outcome:
    """The artefact's own logits, and its parent's Jacobian.

    Nothing stops where the artefact is fooled first (except inside APGD), so that images are as
    far over the boundary as they come, before they are rounded.
    """
    module = OnGrid(victim.module) if job.attack in MORE else victim.module
    spec = parse_attack(
        job.attack,
        epsilon=bench.epsilon,
        restarts=2 if job.attack in MORE else 1,
        seed=SEED_OF_ATTACKS,
    )
    attacked = masks["clean"].copy()
    if job.attack in MORE:
        for attack in ATTACKS:
            attacked &= masks[f"bpda {attack}"]
    floats = as_float(bench.split.images)
    index = torch.from_numpy(np.flatnonzero(attacked))
    for number, part in enumerate(torch.split(index, BATCH_SIZE)):
        labels = bench.split.labels[part]
        floats[part] = run_attack(module, floats[part], labels, spec, number)
    path = attacked_images(bench, victim, job.attack)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, on_grid(bench, floats).numpy())
    told = {
        "spec": asdict(spec),
        "attacked": int(attacked.sum()),
        "versions": versions_of([spec]),
    }
    kept = {kind: mask & masks["clean"] for kind, mask in _both(bench, victim, floats).items()}
    return Outcome(masks=kept, told=told)


def transfer(bench: Bench, job: Job, victim: Victim, masks: dict[str, BoolArray]) -> Outcome:
    """All images that BPDA made for another artefact."""
    kept = masks["clean"].copy()
    with open_victim(bench.work / f"{job.attack}.onnx", parent=bench.model, threads=1) as source:
        for attack in (*ATTACKS, *MORE):
            images = np.load(attacked_images(bench, source, attack))
            kept &= judged(victim, torch.from_numpy(images), bench.split.labels)
    return Outcome(masks={"grid": kept}, told={})


def square(bench: Bench, job: Job, victim: Victim, masks: dict[str, BoolArray]) -> Outcome:
    """Scores alone, on every image that is right when clean."""
    spec = parse_attack(f"square{bench.queries}", epsilon=bench.epsilon, seed=SEED_OF_ATTACKS)

    def scores(images: NDArray[Any]) -> NDArray[Any]:
        with torch.no_grad():
            logits: Tensor = victim.module(as_float(torch.from_numpy(images)))
        return logits.numpy()

    images, labels = bench.split.images.clone(), bench.split.labels
    used = np.zeros(len(labels), dtype=np.int64)
    index = np.flatnonzero(masks["clean"])
    with progress(f"{victim.path.stem} {job.attack}") as report_progress:
        for over in square_attack(
            scores,
            bench.split.images.numpy(),
            labels.numpy(),
            epsilon=spec.epsilon,
            queries=bench.queries,
            seed=spec.seed,
            batch_size=SQUARES_AT_ONCE,
            indices=index,
            keep_equal=job.attack == "square",
            report_progress=report_progress,
        ):
            images[torch.from_numpy(over.indices)] = torch.from_numpy(over.images)
            used[over.indices] = over.queries
    kept = masks["clean"] & judged(victim, images, labels)
    broken = used[masks["clean"] & ~kept]
    told = {
        "spec": asdict(spec),
        "attacked": len(index),
        "queries": {
            "all": int(used.sum()),
            "most to break one": int(broken.max(initial=0)),
            "median to break one": float(np.median(broken)) if len(broken) else None,
        },
    }
    return Outcome(masks={"grid": kept}, told=told)


THREATS: dict[str, Callable[[Bench, Job, Victim, dict[str, BoolArray]], Outcome]] = {
    "clean": clean,
    "replay": replay,
    "bpda": bpda,
    "transfer": transfer,
    "black-box": square,
}


def attacked_images(bench: Bench, victim: Victim, attack: str) -> Path:
    """Where the rounded images of BPDA on an artefact lie."""
    return bench.work / "images" / f"{victim.path.stem}-{victim.sha256[:12]}-{attack}.npy"


def crafted(bench: Bench, attack: str) -> tuple[Tensor, AttackSpec]:
    """Float images (N, C, H, W) of the set of an attack on the weights, crafted once."""
    spec = parse_attack(attack, epsilon=bench.epsilon, seed=SEED_OF_SETS)
    folder = bench.work / "sets" / f"{attack}-{len(bench.split)}"
    with claim(bench.work / "claims" / folder.name, wait=True):
        if not folder.exists():
            source = SplitSource(bench.split, bench.dataset.name, bench.dataset.classes)
            with progress(f"set {attack}") as report_progress:
                craft_set(
                    weights_victim(bench.model),
                    source,
                    spec,
                    folder,
                    on_grid=False,
                    report_progress=report_progress,
                )
    return torch.from_numpy(np.array(open_set(folder).images)), spec


def strongest(bench: Bench) -> Tensor:
    """One set out of all: for each sample the image with the largest margin on the weights.

    It is the margin of the rounded image that decides, since that is what is replayed.
    """
    victim = weights_victim(bench.model)
    best = as_float(bench.split.images)
    most = torch.full((len(bench.split),), -torch.inf)
    for attack in ATTACKS:
        images, _ = crafted(bench, attack)
        value = margin(logits(victim.module, on_grid(bench, images)), bench.split.labels)
        larger = value > most
        best[larger], most[larger] = images[larger], value[larger]
    return best


def _both(bench: Bench, victim: Victim, floats: Tensor) -> dict[str, BoolArray]:
    """Masks of float images as they are, and rounded to the 8-bit grid as a device reads them."""
    labels = bench.split.labels
    return {
        "grid": judged(victim, on_grid(bench, floats), labels),
        "float": judged(victim, floats, labels),
    }


def on_grid(bench: Bench, floats: Tensor) -> Tensor:
    """uint8 levels (N, C, H, W) inside the ball, as a set on the grid stores them."""
    return round_to_grid(floats, bench.split.images, bench.epsilon)


def judged(victim: Victim, images: Tensor, labels: Tensor) -> BoolArray:
    """(N,) booleans: is the artefact right on images, uint8 levels or floats in [0, 1]?"""
    pairs = zip(torch.split(images, BATCH_SIZE), torch.split(labels, BATCH_SIZE), strict=True)
    right = [predict(victim.module, _floats(batch)) == wanted for batch, wanted in pairs]
    mask: BoolArray = torch.cat(right).numpy()
    return mask


def logits(module: nn.Module, images: Tensor) -> Tensor:
    """(N, classes) logits of uint8 levels or floats."""
    with torch.no_grad():
        return torch.cat([module(_floats(batch)) for batch in torch.split(images, BATCH_SIZE)])


def _floats(images: Tensor) -> Tensor:
    return as_float(images) if images.dtype == torch.uint8 else images


if __name__ == "__main__":
    command.run(main)
