"""Corrupted test images as a set, replayed beside attacks, with what the parent makes of them."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import __version__ as pillow_version
from torch import nn

from ard.attacks.victims import Victim
from ard.crafting.batches import Batch, Made, said_by, write_set
from ard.crafting.corrupting import corrupted
from ard.crafting.corruptions import CORRUPTIONS
from ard.data.sources import Source
from ard.data.splits import as_float
from ard.models.deployed import Deployed
from ard.models.predict import predict
from ard.processes.world import ALONE, World
from edge_bench.core.errors import InputError
from edge_bench.core.progress import ProgressCallback, no_progress
from edge_bench.core.spec import AttackSpec, SetManifest
from edge_bench.devices.process import runtime_versions
from edge_bench.files.set_writer import SetPlan

BATCH_SIZE = 250


def corrupt_set(
    victim: Victim,
    images: Source,
    name: str,
    severity: int,
    out: Path,
    *,
    seed: int = 0,
    force: bool = False,
    batch_size: int = BATCH_SIZE,
    torch_device: str = "cpu",
    world: World = ALONE,
    report_progress: ProgressCallback = no_progress,
) -> SetManifest:
    """Write the images, corrupted, to the folder `out`; the victim only says what it makes of them.

    The parent whose answers the set holds is the victim where that is weights, or the parent that
    an artefact was opened with. Without one the set tells no loss against it.

    Args:
        name: key of `corruptions.CORRUPTIONS`.
        severity: 1 to 5.

    Raises:
        InputError: images of channels that the corruption is not defined for.
    """
    able, channels = CORRUPTIONS[name].channels, images.shape[0]
    if able is not None and channels not in able:
        raise InputError(
            f"--corruption {name}: is defined for images of {' or '.join(map(str, able))} "
            f"channels, came {channels}; choose another corruption"
        )
    parent, sha256 = _parent_of(victim)
    manifest = _manifest(victim, images, name, severity, seed, sha256)

    def make(batch: Batch) -> Made:
        levels = batch.levels.cpu().numpy()
        stored = torch.from_numpy(corrupted(levels, name, severity, seed=seed, first=batch.begin))
        stored = stored.to(torch_device)
        return Made(
            stored=stored,
            fooled=predict(victim.module, as_float(stored)) != batch.labels,
            parent=None if parent is None else said_by(parent, batch, stored),
        )

    made_from = {
        "images": images.identity,
        "runtime": victim.runtime,
        "strengths": str(CORRUPTIONS[name].strength(severity, max(images.shape[1:]))),
    }
    return write_set(
        images,
        SetPlan(manifest=manifest, batch_size=batch_size, made_from=made_from),
        out,
        make,
        force=force,
        torch_device=torch_device,
        world=world,
        report_progress=report_progress,
    )


def _manifest(
    victim: Victim, images: Source, name: str, severity: int, seed: int, parent_sha256: str | None
) -> SetManifest:
    return SetManifest(
        samples=len(images),
        image_shape=images.shape,
        classes=images.classes,
        class_names=images.class_names,
        dataset=images.dataset,
        attack=AttackSpec(
            name=name, epsilon=1, step_size=None, steps=None, seed=seed, severity=severity
        ),
        threat="corruption",
        source_sha256=victim.sha256,
        source_name=victim.path.name,
        parent_sha256=parent_sha256,
        on_grid=True,
        arrays={},
        versions=runtime_versions() | {"pillow": pillow_version},
    )


def _parent_of(victim: Victim) -> tuple[nn.Module | None, str | None]:
    if victim.own_graph is not None:
        return None, None
    if isinstance(victim.module, Deployed):
        return victim.module.parent, victim.surrogate_sha256
    return victim.module, victim.sha256
