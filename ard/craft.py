"""Craft an adversarial set to be replayed on a device, and write it atomically."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.lib.format import write_array_header_1_0
from torch import Tensor, nn

from ard.attacks import run_attack
from ard.data import Split, as_float
from ard.evaluate import predict
from edge_bench.bench import runtime_versions
from edge_bench.console import ProgressCallback, no_progress
from edge_bench.errors import InputError
from edge_bench.sets import ARRAYS, MANIFEST, grid_radius
from edge_bench.spec import AttackSpec, SetManifest
from edge_bench.store import atomic_directory, sha256_file, write_json

BATCH_SIZE = 250


def craft_set(
    model: nn.Module,
    split: Split,
    spec: AttackSpec,
    out: Path,
    *,
    dataset: str,
    classes: int,
    source: Path,
    source_sha256: str,
    on_grid: bool = True,
    force: bool = False,
    torch_device: str = "cpu",
    report_progress: ProgressCallback = no_progress,
) -> SetManifest:
    """Attack every image of `split` on `model` (eval mode) and write the set to the folder `out`.

    Images that are already misclassified are attacked too: another model may still get them
    right. On the 8-bit grid, adversarial images are rounded inside the ball and judged again
    after rounding, in a forward pass of their own.
    """
    n, shape = len(split), tuple(split.images.shape[1:])
    if on_grid and grid_radius(spec.epsilon) == 0:
        raise InputError(
            f"--epsilon {spec.epsilon:g}: less than one step (1/255) of the 8-bit grid, on which "
            "nothing would be attacked; use 1/255 or more, or --off-grid"
        )
    with atomic_directory(out, force, MANIFEST) as folder:
        success = np.zeros(n, dtype=np.bool_)
        with (folder / "images.npy").open("wb") as file:
            # Written in order rather than through a memory map, which a full disk would crash.
            _write_header(file, (n, *shape), "|u1" if on_grid else "<f4")
            for batch_index, begin in enumerate(range(0, n, BATCH_SIZE)):
                part = slice(begin, min(begin + BATCH_SIZE, n))
                levels = split.images[part].to(torch_device)
                labels = split.labels[part].to(torch_device)
                found = run_attack(model, as_float(levels), labels, spec, batch_index)
                stored = round_to_grid(found, levels, spec.epsilon) if on_grid else found
                judged = as_float(stored) if on_grid else stored
                success[part] = (predict(model, judged) != labels).cpu().numpy()
                file.write(stored.cpu().numpy().tobytes())
                report_progress(part.stop, n, "")
        np.save(folder / "clean.npy", split.images.numpy())
        np.save(folder / "labels.npy", split.labels.numpy())
        np.save(folder / "source_success.npy", success)
        channels, height, width = shape
        manifest = SetManifest(
            samples=n,
            image_shape=(channels, height, width),
            classes=classes,
            dataset=dataset,
            attack=spec,
            threat="white-box",
            source_sha256=source_sha256,
            source_name=source.name,
            on_grid=on_grid,
            arrays={name: sha256_file(folder / name) for name in ARRAYS},
            versions=runtime_versions() | {"torch": str(torch.__version__)},
        )
        write_json(folder / MANIFEST, asdict(manifest), force=True)
    report_progress(n, n, f"fools the source on {success.mean():.1%}")
    return manifest


def _write_header(file: BinaryIO, shape: tuple[int, ...], descr: str) -> None:
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    write_array_header_1_0(file, header)


def round_to_grid(adversarial: Tensor, levels: Tensor, epsilon: float) -> Tensor:
    """Round images in [0, 1] to 8-bit levels without leaving the ball around uint8 `levels`.

    In whole levels, so that no rounding error can push a pixel over epsilon.
    """
    radius = grid_radius(epsilon)
    clean = levels.to(torch.int16)
    rounded = (adversarial * 255).round().to(torch.int16)
    inside = rounded.clamp(clean - radius, clean + radius)
    return inside.clamp(0, 255).to(torch.uint8)
