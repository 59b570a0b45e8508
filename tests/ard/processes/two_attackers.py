"""What processes that attack do, below torchrun or alone."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

import ard.crafting.craft
import ard.evaluation.accuracy
from ard.__main__ import main
from ard.attacks.differential import pair_of
from ard.attacks.registry import parse_attack
from ard.attacks.run import run_attack
from ard.attacks.victims import Victim, open_victim, weights_victim
from ard.crafting.corrupt import corrupt_set
from ard.crafting.craft import craft_set
from ard.crafting.refresh import refresh_set
from ard.data.datasets import load_dataset
from ard.data.sources import SplitSource
from ard.data.splits import Split, as_float, take_limit
from ard.evaluation.accuracy import evaluate_attack, told_apart_mask
from ard.processes.world import World
from edge_bench.core.errors import ArdxError
from edge_bench.files.sets import open_set
from edge_bench.statistics.metrics import encode_mask

EPSILON, BATCH, SAMPLES = 0.15, 40, 120
PATIENCE_S = 60


def judged(victim: Victim, split: Split, world: World) -> dict[str, Any]:
    """Masks by attack, and what the images became that they were judged on."""
    found: dict[str, Any] = {}
    for name in ("pgd5", "apgd_ce", "square30"):
        spec = parse_attack(name, epsilon=EPSILON, restarts=2, seed=3)
        images = as_float(split.images)
        mask = evaluate_attack(
            victim.module, split, spec, batch_size=BATCH, world=world, found=images
        )
        if world.leads:
            found[f"{name}, images"] = images.double().sum(dim=(1, 2, 3)).tolist()
        found[name] = encode_mask(mask)
    return found


def crafted(victim: Victim, deployed: Victim, source: SplitSource, out: Path, world: World) -> None:
    """Sets of every kind that several processes make."""
    pgd = parse_attack("pgd5", epsilon=EPSILON, seed=3)
    craft_set(victim, source, pgd, out / "pgd", batch_size=BATCH, world=world)
    craft_set(victim, source, pgd, out / "off-grid", on_grid=False, batch_size=BATCH, world=world)
    square = parse_attack("square30", epsilon=EPSILON, seed=3)
    craft_set(
        deployed, source, square, out / "square", threat="black-box", batch_size=BATCH, world=world
    )
    apart = parse_attack("diva3", epsilon=EPSILON, direction="artefact")
    craft_set(
        deployed,
        source,
        apart,
        out / "apart",
        threat="differential",
        batch_size=BATCH,
        world=world,
    )
    corrupt_set(deployed, source, "fog", 3, out / "fog", batch_size=BATCH, world=world)
    refresh_set(deployed, open_set(out / "pgd"), out / "again", batch_size=BATCH, world=world)


def share(out: Path, weights: Path, artefact: Path, world: World) -> None:
    """Attack in batches of 40, and leave what came of it in `out`."""
    data = load_dataset("digits", Path("unused"))
    split = take_limit(data.test, SAMPLES)
    victim = weights_victim(weights)
    source = SplitSource(split, data.name, data.classes, data.class_names)
    found = judged(victim, split, world)
    with open_victim(artefact, parent=weights, threads=1) as deployed:
        spec = parse_attack("diva3", epsilon=EPSILON, direction="artefact")
        apart = told_apart_mask(pair_of(deployed), split, spec, batch_size=BATCH, world=world)
        found["apart"] = encode_mask(apart)
        crafted(victim, deployed, source, out, world)
    if world.size > 1:
        found["too many"] = _refused(lambda: world.check_turns(BATCH, BATCH))
        other = Split(split.images ^ world.rank, split.labels)
        elsewhere = SplitSource(other, data.name, data.classes)
        pgd = parse_attack("pgd5", epsilon=EPSILON)
        found["other images"] = _refused(
            lambda: craft_set(victim, elsewhere, pgd, out / "other", batch_size=BATCH, world=world)
        )
    (out / f"attacks{world.rank}.json").write_text(json.dumps(found), encoding="utf-8")


def _refused(action: Any) -> str:
    try:
        action()
    except ArdxError as error:
        return str(error)
    return ""


def written(file: Path, text: str) -> bool:
    try:
        return text in file.read_text(encoding="utf-8")
    except OSError:
        return False


def die(batch: int, file: Path, text: str, arguments: list[str]) -> None:
    """Be ardx with the arguments, whose second process is killed by the system when it attacks its
    batch of that number (from 0), as soon as the first has written `text` into `file`."""
    attacked = 0

    def killed(*values: Any, **more: Any) -> torch.Tensor:
        nonlocal attacked
        if os.environ["RANK"] == "1" and attacked == batch:
            end = time.monotonic() + PATIENCE_S
            while not written(file, text) and time.monotonic() < end:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)
        attacked += 1
        return run_attack(*values, **more)

    ard.crafting.craft.run_attack = killed  # type: ignore[attr-defined]
    ard.evaluation.accuracy.run_attack = killed  # type: ignore[attr-defined]
    sys.argv[1:] = arguments
    main("ardx")
