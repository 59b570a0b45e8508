"""Craft an adversarial set to be replayed on a device, so that a killed run can go on."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ard.attacks.differential import Pair, pair_of
from ard.attacks.registry import ATTACKS, KNOWN_DIFFERENTIAL, needs_gradients
from ard.attacks.run import run_attack
from ard.attacks.steps.grid import levels_of, round_to_grid
from ard.attacks.victims import Victim
from ard.crafting.batches import Batch, Made, told_apart, write_set
from ard.data.sources import Source
from ard.data.splits import Split, as_float
from ard.models.deployed import reads_levels
from ard.models.predict import predict
from ard.processes.world import ALONE, World
from edge_bench.core.errors import InputError
from edge_bench.core.progress import ProgressCallback, no_progress
from edge_bench.core.spec import AttackSpec, SetManifest
from edge_bench.devices.process import runtime_versions
from edge_bench.files.set_writer import SetPlan, SetWriter
from edge_bench.files.sets import grid_radius, open_set
from edge_bench.robustness.square import square_attack

BATCH_SIZE = 250
SQUARES_AT_ONCE = 64


def craft_set(
    victim: Victim,
    images: Source,
    spec: AttackSpec,
    out: Path,
    *,
    threat: str = "white-box",
    on_grid: bool = True,
    force: bool = False,
    batch_size: int = BATCH_SIZE,
    torch_device: str = "cpu",
    world: World = ALONE,
    report_progress: ProgressCallback = no_progress,
) -> SetManifest:
    """Attack all `images` on a victim and write the set to the folder `out`.

    With the threat `differential` the victim is an artefact with its parent, and the set says what
    the parent answers, which nobody can ask on the board.

    Example:
        images = SplitSource(digits.test, digits.name, digits.classes)
        manifest = craft_set(victim, images, spec, Path("sets/pgd20"))

    Images that are already misclassified are attacked too: another model may still get them
    right. On the 8-bit grid, adversarial images are rounded inside the ball and judged again
    after rounding, in a forward pass of their own.

    One batch is in memory at a time. A run that was killed goes on with the batch it was at, and
    ends with the same bytes, since a batch's draws depend on the seed and its number alone.

    Args:
        threat: how the victim is attacked, in the words of a manifest; `black-box` asks it for
            scores alone, everything else for gradients too. The set of an attack that reads no
            gradients is told as `black-box` where the victim has them as well.
        world: processes that share the work (see `write_set`); the set is the same.
    """
    _refuse_what_finds_nothing(spec, threat, on_grid)
    manifest = replace(_manifest_of(images, victim, spec, threat), on_grid=on_grid)
    attacked = _attacked(victim, threat)
    attack = _by_scores if threat == "black-box" else _by_gradients

    def make(batch: Batch) -> Made:
        stored = attack(attacked, batch, spec)
        judged = as_float(stored) if on_grid else stored
        fooled = predict(victim.module, judged) != batch.labels
        if isinstance(attacked, Pair):
            return told_apart(attacked.parent, batch, stored, fooled, spec.direction)
        return Made(stored=stored, fooled=fooled)

    return write_set(
        images,
        plan_of(manifest, images, victim, batch_size, torch_device),
        out,
        make,
        attacked=attacked,
        force=force,
        torch_device=torch_device,
        world=world,
        report_progress=report_progress,
    )


def _attacked(victim: Victim, threat: str) -> nn.Module:
    """What an attack asks of a victim."""
    if threat == "differential":
        return pair_of(victim)
    return victim.module if threat == "black-box" else victim.cheapest()


def plan_of(
    manifest: SetManifest, images: Source, victim: Victim, batch_size: int, torch_device: str
) -> SetPlan:
    """All that decides the bytes of a set that is crafted on a victim."""
    made_from = {"images": images.identity, "runtime": victim.runtime}
    return SetPlan(
        manifest=manifest, batch_size=batch_size, made_from=made_from | arithmetic(torch_device)
    )


def _manifest_of(images: Source, victim: Victim, spec: AttackSpec, threat: str) -> SetManifest:
    """Of a set off the grid of the given images, whose labels are theirs."""
    return replace(
        _manifest(victim, spec, len(images), images.shape, images.dataset, threat=threat),
        classes=images.classes,
        class_names=images.class_names,
    )


def _refuse_what_finds_nothing(spec: AttackSpec, threat: str, on_grid: bool) -> None:
    if on_grid and spec.norm == "linf" and grid_radius(spec.epsilon) == 0:
        raise InputError(
            f"--epsilon {spec.epsilon:g}: less than one step (1/255) of the 8-bit grid, on which "
            "nothing would be attacked; use 1/255 or more, or --off-grid"
        )
    if (threat == "differential") != (spec.direction is not None):
        raise InputError(
            f"--attack {spec.name}: expected {KNOWN_DIFFERENTIAL} with --threat differential, and "
            "with no other"
        )
    if threat == "black-box" and (spec.name != "square" or spec.norm != "linf"):
        raise InputError(
            f"--attack {spec.name}: expected squareN in linf for --threat blackbox, which sees "
            "scores alone; leave --attack and --norm out"
        )


def _by_gradients(model: nn.Module, batch: Batch, spec: AttackSpec) -> Tensor:
    """Images (B, C, H, W) to store: uint8 levels on the grid, or floats in [0, 1]."""
    found = run_attack(model, as_float(batch.levels), batch.labels, spec, batch.number)
    if not batch.on_grid:
        return found
    return round_to_grid(found, batch.levels, spec.epsilon, spec.norm)


def _by_scores(model: nn.Module, batch: Batch, spec: AttackSpec) -> Tensor:
    """The same by Square, as `ardx bench --attack square` runs it on a device."""
    levels = batch.levels
    assert spec.steps is not None

    def scores(images: NDArray[Any]) -> NDArray[Any]:
        asked = torch.from_numpy(images).to(levels.device)
        with torch.no_grad():
            logits: Tensor = model(as_float(asked) if images.dtype == np.uint8 else asked)
        return logits.cpu().numpy()

    stored = levels.clone() if batch.on_grid else as_float(levels)
    for finished in square_attack(
        scores,
        levels.cpu().numpy(),
        batch.labels.cpu().numpy(),
        epsilon=spec.epsilon,
        queries=spec.steps,
        seed=spec.seed,
        batch_size=SQUARES_AT_ONCE,
        indices=np.arange(len(levels)),
        first=batch.begin,
        on_grid=batch.on_grid,
    ):
        stored[finished.indices] = torch.from_numpy(finished.images).to(levels.device)
    return stored


def keep_set(
    victim: Victim,
    split: Split,
    found: Tensor,
    spec: AttackSpec,
    out: Path,
    *,
    dataset: str,
    force: bool = False,
    torch_device: str = "cpu",
) -> SetManifest:
    """Write images (N, C, H, W) in [0, 1] that an evaluation ended with to the folder `out`.

    They are kept as they were judged: off the 8-bit grid, but of a victim that reads levels.
    Samples that the evaluation had seen broken before were not attacked, which the manifest says.
    """
    channels, height, width = found.shape[1:]
    shape = (channels, height, width)
    manifest = replace(
        _manifest(victim, spec, len(split), shape, dataset, threat=victim.threat),
        attacked="survivors",
        on_grid=reads_levels(victim.module),
    )
    plan = SetPlan(manifest=manifest, batch_size=BATCH_SIZE, made_from={"images": split.sha256})
    with SetWriter(out, plan, force=force) as writer:
        for begin in range(writer.done, len(split), BATCH_SIZE):
            clean = split.part(begin, begin + BATCH_SIZE)
            images = found[begin : begin + BATCH_SIZE].to(torch_device)
            fooled = predict(victim.module, images).cpu() != clean.labels
            stored = levels_of(images) if manifest.on_grid else images
            arrays = (stored.cpu(), clean.images, clean.labels, fooled)
            writer.append(*(array.numpy() for array in arrays))
        return writer.finish()


def _manifest(
    victim: Victim,
    spec: AttackSpec,
    samples: int,
    image_shape: tuple[int, int, int],
    dataset: str,
    *,
    threat: str,
) -> SetManifest:
    """Of images off the grid, all attacked, whose labels are the victim's classes."""
    if threat in ("white-box", "bpda") and not needs_gradients(spec):
        # Whatever the victim would have told: a doubt about gradients rests on who read them.
        threat = "black-box"
    return SetManifest(
        samples=samples,
        image_shape=image_shape,
        classes=victim.card.classes,
        class_names=victim.card.class_names,
        dataset=dataset,
        attack=spec,
        threat=threat,
        source_sha256=victim.sha256,
        source_name=victim.path.name,
        # Of an artefact that was asked for scores alone nobody saw the parent's gradients.
        surrogate_sha256=victim.surrogate_sha256 if threat in ("bpda", "differential") else None,
        parent_sha256=victim.surrogate_sha256 if threat == "differential" else None,
        on_grid=False,
        arrays={},
        versions=versions_of([spec]),
    )


def judge_set(model: nn.Module, folder: Path, torch_device: str = "cpu") -> float:
    """The share of a set's images that `model` (eval mode) still gets right."""
    opened, kept = open_set(folder), 0
    for begin in range(0, opened.manifest.samples, BATCH_SIZE):
        part = slice(begin, begin + BATCH_SIZE)
        images = torch.from_numpy(np.array(opened.images[part])).to(torch_device)
        labels = torch.from_numpy(np.array(opened.labels[part])).to(torch_device)
        floats = as_float(images) if opened.manifest.on_grid else images
        kept += int((predict(model, floats) == labels).sum())
    return kept / opened.manifest.samples


def versions_of(specs: list[AttackSpec]) -> dict[str, str]:
    """Versions of the libraries that the outcome of attacks depends on."""
    found = runtime_versions() | {"torch": str(torch.__version__)}
    names = (ATTACKS[spec.name].distribution for spec in specs if spec.name in ATTACKS)
    return found | {name: version(name) for name in names if name}


def arithmetic(torch_device: str) -> dict[str, str]:
    """What torch's rounding depends on besides the model and the images."""
    kind = torch.device(torch_device).type
    return {"torch_device": kind, "threads": str(torch.get_num_threads())}
