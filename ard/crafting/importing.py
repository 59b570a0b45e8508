"""Adversarial sets that another library made: read from its file, checked, judged anew.

Nothing in the file is believed: images, labels and budget are checked sample by sample, and
whether an image fools the model is decided here.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ard.attacks.budget import budget_of
from ard.crafting.craft import BATCH_SIZE, arithmetic
from ard.crafting.foreign import ImportKeys, open_arrays
from ard.crafting.foreign_pictures import are_levels
from ard.data.sources import Source
from ard.models.deployed import reads_levels
from ard.models.predict import predict
from edge_bench.core.errors import InputError
from edge_bench.core.progress import ProgressCallback, no_progress
from edge_bench.core.spec import AttackSpec, ModelCard, SetManifest
from edge_bench.devices.process import runtime_versions
from edge_bench.files.set_writer import SetPlan, SetWriter
from edge_bench.files.sets import as_unit
from edge_bench.files.store import sha256_file
from edge_bench.statistics.metrics import BoolArray


def imported_spec(name: str | None, epsilon: str | None, norm: str, card: ModelCard) -> AttackSpec:
    """What --attack, --epsilon and --norm say of an attack that was made elsewhere.

    The name is a label; the budget is by default the L-infinity one of the model's training.
    """
    budget = budget_of(epsilon, norm, card)
    return AttackSpec(
        name=name or "imported", norm=norm, epsilon=budget, step_size=None, steps=None
    )


def import_set(
    model: nn.Module,
    card: ModelCard,
    path: Path,
    spec: AttackSpec,
    out: Path,
    *,
    model_sha256: str,
    keys: ImportKeys | None = None,
    source: Source | None = None,
    force: bool = False,
    batch_size: int = BATCH_SIZE,
    torch_device: str = "cpu",
    report_progress: ProgressCallback = no_progress,
) -> SetManifest:
    """Turn the arrays of `path` into a set in the folder `out`, judged on `model` (eval mode).

    Args:
        spec: the attack's name, norm and budget; every image is held to the budget.
        source: test images, the first of which are the clean ones of a file without its own.

    Raises:
        InputError: a damaged file, a missing key, or images, labels or distances that no set may
            hold; names the first image at fault.
    """
    keys = keys or ImportKeys()
    arrays = open_arrays(path, keys, card, source)
    n = arrays.labels.shape[0]
    sha256 = sha256_file(path)
    on_grid = are_levels(arrays.images, batch_size)
    if not on_grid:
        _refuse_for_levels(model, path)
    manifest = replace(_manifest(card, spec, n, path.name, sha256), on_grid=on_grid)
    made_from = {"file": sha256, "keys": str(keys), "model": model_sha256}
    if source is not None:
        made_from["clean"] = source.identity
    plan = SetPlan(
        manifest=manifest, batch_size=batch_size, made_from=made_from | arithmetic(torch_device)
    )
    with SetWriter(out, plan, force=force) as writer:
        report_progress(writer.done, n, writer.begun)
        try:
            for begin, images, clean, labels in arrays.batches(manifest, batch_size):
                # An archive can only be read from its start.
                if begin >= writer.done:
                    success = _fools(model, images, labels, torch_device)
                    writer.append(images, clean, labels, success)
                    report_progress(writer.done, n, "")
        except InputError:
            # The file will be the same the next time.
            writer.discard()
            raise
        manifest = writer.finish()
    told = f"fools the model on {writer.fooled / n:.1%}"
    if clipped := max(arrays.images.clipped, arrays.clean.clipped):
        told += f"; values up to {clipped:.1e} outside [0, 1], as rounding leaves, were clipped"
    report_progress(n, n, told)
    return manifest


def _refuse_for_levels(model: nn.Module, path: Path) -> None:
    if reads_levels(model):
        raise InputError(
            f"--import {path}: holds images between 8-bit levels, and the model reads levels "
            "alone; round them inside of the budget before they are saved, or name a model that "
            "reads floats"
        )


def _manifest(
    card: ModelCard, spec: AttackSpec, samples: int, name: str, sha256: str
) -> SetManifest:
    """Of a set off the grid that was read from the file `name`."""
    return SetManifest(
        samples=samples,
        image_shape=card.input_shape,
        classes=card.classes,
        class_names=card.class_names,
        dataset=card.dataset,
        attack=spec,
        threat="imported",
        source_sha256=sha256,
        source_name=name,
        on_grid=False,
        arrays={},
        versions=runtime_versions() | {"torch": str(torch.__version__)},
    )


def _fools(
    model: nn.Module, images: NDArray[Any], labels: NDArray[np.int64], torch_device: str
) -> BoolArray:
    """(B,) booleans: does the model take the image for another class?"""
    judged = torch.from_numpy(np.ascontiguousarray(as_unit(images))).to(torch_device)
    predicted: NDArray[np.int64] = predict(model, judged).cpu().numpy()
    return np.not_equal(predicted, labels)
