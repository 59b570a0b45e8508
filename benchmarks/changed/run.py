"""What compression changed, by three questions; one JSON line per finished answer.

    python -m benchmarks.changed.run WEIGHTS ARTEFACT ... --data-dir DIR

Each ARTEFACT was exported from WEIGHTS. Asked of each: on which images within the budget do the two
disagree (differential attacks, both directions), what do common corruptions cost it, and what does
an attacker find who sees its class alone (RayS), beside one who sees its scores (Square) and one
who follows gradients (BPDA). An answer whose line is there already is skipped, so the same command
goes on after an interruption.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from ard.attacks.budget import recipe_epsilon
from ard.attacks.differential import pair_of
from ard.attacks.registry import parse_attack
from ard.attacks.run import run_attack
from ard.attacks.steps.grid import round_to_grid
from ard.attacks.victims import Victim, open_victim, weights_victim
from ard.crafting.corrupting import corrupted
from ard.crafting.corruptions import CORRUPTIONS
from ard.data.datasets import dataset_of
from ard.data.splits import Split, as_float, take_limit
from ard.models.predict import predict
from benchmarks import command
from benchmarks.lines import RESULTS, append, commit, finished, machine, pack
from edge_bench.core.saturation import saturation
from edge_bench.core.threats.attack import DIRECTIONS, SEVERITIES
from edge_bench.devices import ROOT
from edge_bench.devices.generic import has_vnni
from edge_bench.robustness.black_box import ATTACKS
from edge_bench.statistics.metrics import BoolArray

LINES = RESULTS / "changed.jsonl"
DIFFERENTIAL = ("apgd_apart25", "diva20")
BY_GRADIENTS = "cw20"
AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One artefact, opened with its parent, and the images that it is asked about."""

    victim: Victim
    split: Split
    epsilon: float

    def right(self, images: torch.Tensor) -> tuple[BoolArray, BoolArray]:
        """(N,) twice: is the parent right on images in [0, 1], and is the artefact?"""
        pair = pair_of(self.victim)
        theirs = predict(pair.parent, images) == self.split.labels
        ours = predict(pair.artefact, images) == self.split.labels
        return theirs.numpy(), ours.numpy()


Job = Callable[[Asked], dict[str, BoolArray]]


def main(
    model: Annotated[Path, typer.Argument(help="The weights.")],
    artefacts: Annotated[list[Path], typer.Argument(help="Exported from them.")],
    lines: Annotated[Path, typer.Option(help="Where answers are written.")] = LINES,
    data_dir: Annotated[Path, typer.Option(help="Folder with the dataset.")] = Path("data"),
    limit: Annotated[int, typer.Option(help="Stratified test images.")] = 200,
    queries: Annotated[int, typer.Option(help="Of RayS and of Square, for each image.")] = 300,
    only: Annotated[str, typer.Option(help="Only jobs whose name begins so.")] = "",
) -> None:
    """Ask every artefact everything that has no line yet."""
    torch.set_num_threads(1)
    card = weights_victim(model).card
    split = take_limit(dataset_of(model, card, None, data_dir).test, limit)
    origin = {"commit": commit(), "machine": machine()}
    for name, job in jobs(queries):
        if not name.startswith(only):
            continue
        for path in artefacts:
            with open_victim(path, parent=model, threads=1) as victim:
                asked = Asked(victim=victim, split=split, epsilon=recipe_epsilon(card))
                line_id = f"{path.stem} {name} {digest(asked)}"
                if line_id not in finished(lines):
                    began = time.perf_counter()
                    masks = job(asked)
                    told = told_of(asked, name, path) | origin
                    told["seconds"] = round(time.perf_counter() - began, 1)
                    told["masks"] = {key: pack(mask) for key, mask in masks.items()}
                    append(lines, {"id": line_id} | told)


def jobs(queries: int) -> Iterator[tuple[str, Job]]:
    """Every question by its name; those that cost least first."""
    yield "clean", clean
    for name in CORRUPTIONS:
        yield f"corruption {name}", partial(corruption, name)
    for attack in DIFFERENTIAL:
        for direction in DIRECTIONS:
            yield f"{attack}, {direction} errs", partial(differential, attack, direction)
    yield f"bpda {BY_GRADIENTS}", by_gradients
    for attack in ("rays", "square"):
        yield f"{attack}{queries}", partial(on_the_spot, attack, queries)


def digest(asked: Asked) -> str:
    """Of all that an answer follows from besides its name."""
    parts = (asked.victim.sha256, asked.split.sha256, asked.epsilon)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def told_of(asked: Asked, name: str, path: Path) -> dict[str, Any]:
    """What a line says besides its masks."""
    card = asked.victim.card
    return {
        "artefact": path.stem,
        "precision": card.precision,
        "architecture": card.architecture,
        "dataset": card.dataset,
        "question": name,
        "images": len(asked.split),
        "epsilon": asked.epsilon,
        "runtime": asked.victim.runtime,
        "vnni": has_vnni(ROOT),
        "saturates": saturation(card, "ort", has_vnni(ROOT)) is not None,
    }


def clean(asked: Asked) -> dict[str, BoolArray]:
    """Who is right on the clean images."""
    images = as_float(asked.split.images)
    pair = pair_of(asked.victim)
    theirs, ours = asked.right(images)
    differ = predict(pair.parent, images) != predict(pair.artefact, images)
    return {"parent": theirs, "artefact": ours, "differ": differ.numpy()}


def differential(attack: str, direction: str, asked: Asked) -> dict[str, BoolArray]:
    """On which images the pair is told apart, on the 8-bit grid."""
    split = asked.split
    pair = pair_of(asked.victim)
    spec = parse_attack(attack, epsilon=asked.epsilon, direction=direction)
    found = run_attack(pair, as_float(split.images), split.labels, spec, 0)
    stored = round_to_grid(found, split.images, asked.epsilon)
    theirs, ours = asked.right(as_float(stored))
    return {"parent": theirs, "artefact": ours}


def corruption(name: str, asked: Asked) -> dict[str, BoolArray]:
    """Who is right at each severity."""
    found: dict[str, BoolArray] = {}
    for severity in SEVERITIES:
        levels = corrupted(asked.split.images.numpy(), name, severity, seed=0)
        theirs, ours = asked.right(as_float(torch.from_numpy(levels)))
        found |= {f"parent {severity}": theirs, f"artefact {severity}": ours}
    return found


def on_the_spot(attack: str, queries: int, asked: Asked) -> dict[str, BoolArray]:
    """What an attack without gradients leaves, of what is right on the clean image."""
    split, right = asked.split, asked.right(as_float(asked.split.images))[1]

    def scores(images: NDArray[Any]) -> NDArray[Any]:
        with torch.no_grad():
            logits: torch.Tensor = asked.victim.module(as_float(torch.from_numpy(images)))
        return logits.numpy()

    for over in ATTACKS[attack](
        scores,
        split.images.numpy(),
        split.labels.numpy(),
        epsilon=asked.epsilon,
        queries=queries,
        seed=0,
        batch_size=AT_ONCE,
        indices=np.flatnonzero(right),
    ):
        right[over.indices[over.success]] = False
    return {"artefact": right}


def by_gradients(asked: Asked) -> dict[str, BoolArray]:
    """What the artefact keeps of an attack with its own logits and its parent's gradients."""
    split = asked.split
    spec = parse_attack(BY_GRADIENTS, epsilon=asked.epsilon)
    images = as_float(split.images)
    found = run_attack(asked.victim.module, images, split.labels, spec, 0)
    stored = round_to_grid(found, split.images, asked.epsilon)
    return {"artefact": asked.right(images)[1] & asked.right(as_float(stored))[1]}


if __name__ == "__main__":
    command.run(main)
