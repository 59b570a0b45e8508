"""A set made batch by batch, whatever makes it, so that a killed run can go on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ard.attacks.pace import reported
from ard.data.sources import Source
from ard.data.splits import as_float
from ard.models.predict import predict
from ard.processes.world import ALONE, World
from edge_bench.core.progress import ProgressCallback, no_progress
from edge_bench.core.spec import SetManifest
from edge_bench.files.set_writer import SetPlan, SetWriter


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Clean uint8 images `levels` (B, C, H, W), those from sample `begin` of a set on."""

    levels: Tensor
    labels: Tensor
    begin: int
    number: int
    on_grid: bool


@dataclass(frozen=True, kw_only=True)
class Made:
    """What becomes of a batch.

    Attributes:
        stored: (B, C, H, W), uint8 levels on the grid, or floats in [0, 1].
        fooled: (B,) the attack reached what it was after.
        parent: (B, 2) the parent's classes of the clean and of the stored images, where the set
            says them.
    """

    stored: Tensor
    fooled: Tensor
    parent: Tensor | None = None


def write_set(
    images: Source,
    plan: SetPlan,
    out: Path,
    make: Callable[[Batch], Made],
    *,
    attacked: nn.Module | None = None,
    force: bool = False,
    torch_device: str = "cpu",
    world: World = ALONE,
    report_progress: ProgressCallback = no_progress,
) -> SetManifest:
    """Write the set of `plan` to the folder `out`, going on where an earlier run of it ended.

    Args:
        make: gives a batch as it is stored; depends on the plan and the batch alone.
        attacked: the model that `make` asks, by whose passes progress is told.
        world: processes that make a batch each, time after time; the first writes them in order.
    """
    n, at_once = len(images), plan.batch_size * world.size
    world.check_turns(n, plan.batch_size)
    world.check_agreement(_decides(plan, images) if world.size > 1 else {})
    writing = SetWriter(out, plan, force=force) if world.leads else nullcontext()
    with writing as writer:
        done = world.from_first(lambda: writer.done if writer else 0)
        report_progress(done, n, writer.begun if writer else "")
        for begin in range(done, n, at_once):
            end = min(begin + at_once, n)
            told: AbstractContextManager[None] = nullcontext()
            if attacked is not None:
                spec = plan.manifest.attack
                told = reported(attacked, spec, begin, end, n, report_progress)
            with told:
                ours = _made(images, plan, make, begin + world.rank * plan.batch_size, torch_device)
            for arrays in world.at_first(ours):
                assert writer is not None
                writer.append(**{name: array.numpy() for name, array in arrays.items()})
            report_progress(end, n, "")
        written = world.from_first(lambda: writer.finish().arrays if writer else {})
        fooled = world.from_first(lambda: writer.fooled if writer else 0)
    manifest = replace(plan.manifest, arrays=written)
    report_progress(n, n, f"{WON.get(manifest.threat, WON_ELSE)} {fooled / n:.1%}")
    return manifest


def _made(
    images: Source, plan: SetPlan, make: Callable[[Batch], Made], begin: int, torch_device: str
) -> dict[str, Tensor] | None:
    """The arrays of the batch from sample `begin` on, by `SetWriter.append`; None behind the last.

    The last turn may have fewer batches than there are processes.
    """
    if begin >= len(images):
        return None
    read = images.read(begin, min(begin + plan.batch_size, len(images)))
    batch = Batch(
        levels=read.images.to(torch_device),
        labels=read.labels.to(torch_device),
        begin=begin,
        number=begin // plan.batch_size,
        on_grid=plan.manifest.on_grid,
    )
    made = make(batch)
    arrays = {"images": made.stored, "clean": read.images, "labels": read.labels}
    arrays |= {"success": made.fooled} | ({} if made.parent is None else {"parent": made.parent})
    return {name: array.cpu() for name, array in arrays.items()}


def _decides(plan: SetPlan, images: Source) -> dict[str, object]:
    """What must be the same wherever a part of a set is made, by names for people.

    Of the images their number and some of them: an identity may be of files' times, which are
    others on another machine's disk.
    """
    manifest, n = plan.manifest, len(images)
    some = hashlib.sha256(f"{n} {images.shape}".encode())
    for sample in (0, n // 2, n - 1):
        read = images.read(sample, sample + 1)
        some.update(read.images.numpy().tobytes() + read.labels.numpy().tobytes())
    models = {"model": manifest.source_sha256, "surrogate": manifest.surrogate_sha256}
    told: dict[str, object] = {
        **models,
        "threat": manifest.threat,
        **plan.made_from,
        **manifest.versions,
    }
    return told | {"images": some.hexdigest()}


WON = {"differential": "tells the two apart on", "corruption": "turns wrong"}
WON_ELSE = "fools the source on"


def said_by(parent: nn.Module, batch: Batch, stored: Tensor) -> Tensor:
    """(B, 2) classes that the parent gives to the clean images of a batch and to those stored."""
    judged = as_float(stored) if batch.on_grid else stored
    both = predict(parent, as_float(batch.levels)), predict(parent, judged)
    return torch.stack(both, dim=1)


def told_apart(
    parent: nn.Module, batch: Batch, stored: Tensor, artefact_errs: Tensor, direction: str | None
) -> Made:
    """What a differential attack stored, judged by both in a pass of their own."""
    said = said_by(parent, batch, stored)
    parent_errs = said[:, 1] != batch.labels
    fooled = artefact_errs & ~parent_errs
    if direction == "parent":
        fooled = parent_errs & ~artefact_errs
    return Made(stored=stored, fooled=fooled, parent=said)
