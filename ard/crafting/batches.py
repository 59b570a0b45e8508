"""A set made batch by batch, whatever makes it, so that a killed run can go on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ard.attacks.pace import reported
from ard.data.sources import Source
from ard.data.splits import as_float
from ard.models.predict import predict
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
    report_progress: ProgressCallback = no_progress,
) -> SetManifest:
    """Write the set of `plan` to the folder `out`, going on where an earlier run of it ended.

    Args:
        make: gives a batch as it is stored; depends on the plan and the batch alone.
        attacked: the model that `make` asks, by whose passes progress is told.
    """
    n, size, on_grid = len(images), plan.batch_size, plan.manifest.on_grid
    with SetWriter(out, plan, force=force) as writer:
        report_progress(writer.done, n, writer.begun)
        for begin in range(writer.done, n, size):
            end = min(begin + size, n)
            read = images.read(begin, end)
            batch = Batch(
                levels=read.images.to(torch_device),
                labels=read.labels.to(torch_device),
                begin=begin,
                number=begin // size,
                on_grid=on_grid,
            )
            spec = plan.manifest.attack
            told: AbstractContextManager[None] = nullcontext()
            if attacked is not None:
                told = reported(attacked, spec, begin, end, n, report_progress)
            with told:
                made = make(batch)
            arrays = [made.stored, read.images, read.labels, made.fooled]
            arrays += [] if made.parent is None else [made.parent]
            writer.append(*(array.cpu().numpy() for array in arrays))
            report_progress(writer.done, n, "")
        manifest = writer.finish()
    report_progress(n, n, f"{WON.get(manifest.threat, WON_ELSE)} {writer.fooled / n:.1%}")
    return manifest


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
