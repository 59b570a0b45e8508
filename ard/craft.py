"""Craft an adversarial set to be replayed on a device, so that a killed run can go on."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ard.attacks import expand, run_attack
from ard.data import Split, as_float
from ard.ensemble import PARTS
from ard.evaluate import predict
from ard.pace import reported
from ard.sources import Source
from ard.victims import Victim
from edge_bench.bench import runtime_versions
from edge_bench.console import ProgressCallback, no_progress
from edge_bench.errors import InputError
from edge_bench.set_writer import SetPlan, SetWriter
from edge_bench.sets import grid_radius, open_set
from edge_bench.spec import AttackSpec, SetManifest
from edge_bench.square import square_attack

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
    report_progress: ProgressCallback = no_progress,
) -> SetManifest:
    """Attack all `images` on a victim and write the set to the folder `out`.

    Images that are already misclassified are attacked too: another model may still get them
    right. On the 8-bit grid, adversarial images are rounded inside the ball and judged again
    after rounding, in a forward pass of their own.

    One batch is in memory at a time. A run that was killed goes on with the batch it was at, and
    ends with the same bytes, since a batch's draws depend on the seed and its number alone.

    Args:
        threat: how the victim is attacked, in the words of a manifest; `black-box` asks it for
            scores alone, everything else for gradients too.
    """
    n = len(images)
    if on_grid and spec.norm == "linf" and grid_radius(spec.epsilon) == 0:
        raise InputError(
            f"--epsilon {spec.epsilon:g}: less than one step (1/255) of the 8-bit grid, on which "
            "nothing would be attacked; use 1/255 or more, or --off-grid"
        )
    manifest = SetManifest(
        samples=n,
        image_shape=images.shape,
        classes=images.classes,
        dataset=images.dataset,
        attack=spec,
        threat=threat,
        source_sha256=victim.sha256,
        source_name=victim.path.name,
        surrogate_sha256=victim.surrogate_sha256 if threat == "bpda" else None,
        on_grid=on_grid,
        arrays={},
        versions=versions_of([spec]),
    )
    plan = SetPlan(
        manifest=manifest,
        batch_size=batch_size,
        made_from={"images": images.identity, "runtime": victim.runtime} | arithmetic(torch_device),
    )
    attack = _by_scores if threat == "black-box" else _by_gradients
    attacked = victim.module if threat == "black-box" else victim.cheapest()
    with SetWriter(out, plan, force=force) as writer:
        report_progress(writer.done, n, writer.begun)
        for begin in range(writer.done, n, batch_size):
            batch = images.read(begin, min(begin + batch_size, n))
            levels, labels = batch.images.to(torch_device), batch.labels.to(torch_device)
            with reported(attacked, spec, begin, begin + len(labels), n, report_progress):
                stored = attack(attacked, levels, labels, spec, begin, batch_size, on_grid)
            judged = as_float(stored) if on_grid else stored
            fooled = predict(victim.module, judged) != labels
            arrays = (stored, batch.images, batch.labels, fooled)
            writer.append(*(array.cpu().numpy() for array in arrays))
            report_progress(writer.done, n, "")
        manifest = writer.finish()
    report_progress(n, n, f"fools the source on {writer.fooled / n:.1%}")
    return manifest


def _by_gradients(
    model: nn.Module,
    levels: Tensor,
    labels: Tensor,
    spec: AttackSpec,
    begin: int,
    batch_size: int,
    on_grid: bool,
) -> Tensor:
    """Images (B, C, H, W) to store for the batch of clean `levels` that starts at `begin`."""
    found = run_attack(model, as_float(levels), labels, spec, begin // batch_size)
    if not on_grid:
        return found
    return round_to_grid(found, levels, spec.epsilon, spec.norm)


def _by_scores(
    model: nn.Module,
    levels: Tensor,
    labels: Tensor,
    spec: AttackSpec,
    begin: int,
    batch_size: int,
    on_grid: bool,
) -> Tensor:
    """The same by Square, as `ardx bench --attack square` runs it on a device."""
    if spec.name != "square" or spec.norm != "linf":
        raise InputError(
            f"--attack {spec.name}: expected squareN in linf for --threat blackbox, which sees "
            "scores alone; leave --attack and --norm out"
        )
    assert spec.steps is not None

    def scores(images: NDArray[Any]) -> NDArray[Any]:
        asked = torch.from_numpy(images).to(levels.device)
        with torch.no_grad():
            logits: Tensor = model(as_float(asked) if images.dtype == np.uint8 else asked)
        return logits.cpu().numpy()

    stored = levels.clone() if on_grid else as_float(levels)
    for finished in square_attack(
        scores,
        levels.cpu().numpy(),
        labels.cpu().numpy(),
        epsilon=spec.epsilon,
        queries=spec.steps,
        seed=spec.seed,
        batch_size=SQUARES_AT_ONCE,
        indices=np.arange(len(levels)),
        first=begin,
        on_grid=on_grid,
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

    They are kept as they were judged, off the 8-bit grid. Samples that the evaluation had seen
    broken before were not attacked, which the manifest says.
    """
    channels, height, width = found.shape[1:]
    manifest = SetManifest(
        samples=len(split),
        image_shape=(channels, height, width),
        classes=victim.card.classes,
        dataset=dataset,
        attack=spec,
        threat=victim.threat,
        attacked="survivors",
        source_sha256=victim.sha256,
        source_name=victim.path.name,
        surrogate_sha256=victim.surrogate_sha256,
        on_grid=False,
        arrays={},
        versions=versions_of([spec]),
    )
    plan = SetPlan(manifest=manifest, batch_size=BATCH_SIZE, made_from={"images": split.sha256})
    with SetWriter(out, plan, force=force) as writer:
        for begin in range(writer.done, len(split), BATCH_SIZE):
            part = slice(begin, begin + BATCH_SIZE)
            images, labels = found[part].to(torch_device), split.labels[part]
            fooled = predict(victim.module, images).cpu() != labels
            arrays = (found[part], split.images[part], labels, fooled)
            writer.append(*(array.numpy() for array in arrays))
        return writer.finish()


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
    if any(part.name in PARTS for spec in specs for part in expand(spec)):
        found["pyautoattack"] = version("pyautoattack")
    return found


def arithmetic(torch_device: str) -> dict[str, str]:
    """What torch's rounding depends on besides the model and the images."""
    return {"torch_device": torch_device, "threads": str(torch.get_num_threads())}


def round_to_grid(
    adversarial: Tensor, levels: Tensor, epsilon: float, norm: str = "linf"
) -> Tensor:
    """Round images in [0, 1] to 8-bit levels without leaving the ball around uint8 `levels`.

    In whole levels, so that no rounding error can push an image over epsilon.
    """
    clean = levels.to(torch.int32)
    wanted = (adversarial * 255).double() - clean
    if norm == "linf":
        radius = grid_radius(epsilon)
        change = wanted.round().clamp(-radius, radius)
    else:
        change = _shortened(wanted, epsilon * 255)
    return (clean + change.to(torch.int32)).clamp(0, 255).to(torch.uint8)


def _shortened(wanted: Tensor, radius: float) -> Tensor:
    """Whole numbers near `wanted` (B, ...) of L2 length at most `radius`, for each sample.

    Rounding to the nearest lengthens some components; where the whole is too long then, those that
    were lengthened most are rounded towards 0 instead, as few as it takes. With all of them it is
    no longer than `wanted`.
    """
    flat = wanted.flatten(1)
    nearest, inward = flat.round(), flat.trunc()
    lengthened = nearest.abs() - flat.abs()
    order = lengthened.argsort(dim=1, descending=True)
    saved = (nearest.square() - inward.square()).gather(1, order).cumsum(dim=1)
    excess = nearest.square().sum(dim=1, keepdim=True) - radius**2
    # Position p of the order is shortened unless those before it were enough.
    enough_before = torch.cat((torch.zeros_like(saved[:, :1]), saved[:, :-1]), dim=1) >= excess
    shorten = torch.zeros_like(flat, dtype=torch.bool).scatter(1, order, ~enough_before)
    return torch.where(shorten, inward, nearest).view_as(wanted)
