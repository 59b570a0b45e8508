"""Craft an adversarial set to be replayed on a device, so that a killed run can go on."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ard.attacks import run_attack
from ard.data import as_float
from ard.evaluate import predict
from ard.sources import Source
from edge_bench.bench import runtime_versions
from edge_bench.console import ProgressCallback, no_progress
from edge_bench.errors import InputError
from edge_bench.set_writer import SetPlan, SetWriter
from edge_bench.sets import grid_radius
from edge_bench.spec import AttackSpec, SetManifest

BATCH_SIZE = 250


def craft_set(
    model: nn.Module,
    images: Source,
    spec: AttackSpec,
    out: Path,
    *,
    source: Path,
    source_sha256: str,
    on_grid: bool = True,
    force: bool = False,
    batch_size: int = BATCH_SIZE,
    torch_device: str = "cpu",
    report_progress: ProgressCallback = no_progress,
) -> SetManifest:
    """Attack all `images` on `model` (eval mode) and write the set to the folder `out`.

    Images that are already misclassified are attacked too: another model may still get them
    right. On the 8-bit grid, adversarial images are rounded inside the ball and judged again
    after rounding, in a forward pass of their own.

    One batch is in memory at a time. A run that was killed goes on with the batch it was at, and
    ends with the same bytes, since a batch's draws depend on the seed and its number alone.

    Args:
        source: file of the model's weights.
    """
    n = len(images)
    if on_grid and grid_radius(spec.epsilon) == 0:
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
        threat="white-box",
        source_sha256=source_sha256,
        source_name=source.name,
        on_grid=on_grid,
        arrays={},
        versions=runtime_versions() | {"torch": str(torch.__version__)},
    )
    plan = SetPlan(
        manifest=manifest,
        batch_size=batch_size,
        made_from={"images": images.identity} | arithmetic(torch_device),
    )
    with SetWriter(out, plan, force=force) as writer:
        report_progress(writer.done, n, writer.begun)
        for begin in range(writer.done, n, batch_size):
            batch = images.read(begin, min(begin + batch_size, n))
            levels, labels = batch.images.to(torch_device), batch.labels.to(torch_device)
            found = run_attack(model, as_float(levels), labels, spec, begin // batch_size)
            stored = round_to_grid(found, levels, spec.epsilon) if on_grid else found
            judged = as_float(stored) if on_grid else stored
            fooled = predict(model, judged) != labels
            arrays = (stored, batch.images, batch.labels, fooled)
            writer.append(*(array.cpu().numpy() for array in arrays))
            report_progress(writer.done, n, "")
        manifest = writer.finish()
    report_progress(n, n, f"fools the source on {writer.fooled / n:.1%}")
    return manifest


def arithmetic(torch_device: str) -> dict[str, str]:
    """What torch's rounding depends on besides the model and the images."""
    return {"torch_device": torch_device, "threads": str(torch.get_num_threads())}


def round_to_grid(adversarial: Tensor, levels: Tensor, epsilon: float) -> Tensor:
    """Round images in [0, 1] to 8-bit levels without leaving the ball around uint8 `levels`.

    In whole levels, so that no rounding error can push a pixel over epsilon.
    """
    radius = grid_radius(epsilon)
    clean = levels.to(torch.int16)
    rounded = (adversarial * 255).round().to(torch.int16)
    inside = rounded.clamp(clean - radius, clean + radius)
    return inside.clamp(0, 255).to(torch.uint8)
