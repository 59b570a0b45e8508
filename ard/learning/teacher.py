"""A teacher: a file of ours or a published checkpoint, which fits the dataset."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from ard.data.datasets import matched
from ard.data.splits import Dataset
from ard.models.published import teacher_for
from ard.models.sizes import check_fits
from ard.models.weight_files import load_known, load_model, load_published
from edge_bench.core.classes import require_same
from edge_bench.core.errors import InputError
from edge_bench.core.spec import ModelCard
from edge_bench.files.store import sha256_file


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A teacher that fits the dataset, and the file it came from; a published one has no card."""

    model: nn.Module
    sha256: str
    card: ModelCard | None = None


def load_teacher(path: Path, architecture: str | None, dataset: Dataset) -> Teacher:
    """Load a teacher written by ardx, or a published checkpoint.

    `architecture` is needed where the file is published under a name that `ard.models.published`
    does not know; it is an architecture, or the name of the known teacher that the file is.

    Raises:
        InputError: unreadable, or of other classes or another image shape.
    """
    model: nn.Module
    known = teacher_for(path, architecture, dataset.name)
    if known is not None:
        model, sha256 = load_known(path, known)
        return Teacher(model=model, sha256=sha256)
    if architecture is not None:
        check_fits(architecture, dataset.image_shape, option="--teacher-arch", trains=False)
        channels, height, width = dataset.image_shape
        model = load_published(
            path, architecture, channels, dataset.classes, image_size=(height, width)
        )
        return Teacher(model=model, sha256=sha256_file(path))
    if path.suffix in (".pt", ".pth"):
        raise InputError(
            f"{path}: a published checkpoint does not say what it is; give --teacher-arch, an "
            "architecture or a name that `ardx teachers` lists"
        )
    model, card = load_model(path)
    if card.classes != dataset.classes:
        require_same(dataset.class_names, card.class_names, f"{path}: a teacher", dataset.name)
    if card.classes != dataset.classes or card.input_shape != dataset.image_shape:
        raise InputError(
            f"{path}: a teacher of {card.classes} classes on images {card.input_shape} "
            f"({card.dataset}), but {dataset.name} has {dataset.classes} classes on "
            f"{dataset.image_shape}; give a teacher trained on {dataset.name}"
        )
    matched(path, card, dataset)
    return Teacher(model=model, sha256=sha256_file(path), card=card)
