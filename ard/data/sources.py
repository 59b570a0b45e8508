"""Where clean images come from, a batch at a time: a dataset, a folder of pictures, two arrays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ard.data.datasets import prepared_for
from ard.data.picture_folder import SomePictures, digest_files, open_pictures
from ard.data.splits import SPLIT_SEED, Split, any_subset
from edge_bench.core.classes import ClassNames
from edge_bench.core.errors import InputError, first_line
from edge_bench.core.spec import ModelCard
from edge_bench.files.sets import batches, release
from edge_bench.files.store import BROKEN_ARRAY, array_header, require_file

LABELS_AT_ONCE = 65_536


class Source(Protocol):
    """Clean images with labels in a fixed order, none of which need be in memory."""

    @property
    def dataset(self) -> str:
        """Name of the dataset that they belong to."""

    @property
    def classes(self) -> int:
        """Labels are below this."""

    @property
    def class_names(self) -> ClassNames | None:
        """Of the classes, in the order of their labels."""

    @property
    def skipped(self) -> str:
        """Lines about files that were passed over, as of a Dataset."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of every image."""

    @property
    def identity(self) -> str:
        """Hex digest that changes when the images, the labels or their order do."""

    def __len__(self) -> int: ...

    def read(self, begin: int, end: int) -> Split:
        """Samples `begin` to `end` (not included)."""


@dataclass(frozen=True)
class SplitSource:
    """A part of a dataset."""

    split: Split
    dataset: str
    classes: int
    class_names: ClassNames | None = None
    skipped: str = ""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return self.split.image_shape

    @property
    def identity(self) -> str:
        """sha256 of images and labels."""
        return self.split.sha256

    def __len__(self) -> int:
        return len(self.split)

    def read(self, begin: int, end: int) -> Split:
        """A part of the split, in memory."""
        return self.split.part(begin, end)


@dataclass(frozen=True, kw_only=True)
class ArraySource:
    """`images.npy` (N, C, H, W) uint8 and `labels.npy` (N,) integers of one folder, as they lie."""

    folder: Path
    images: NDArray[np.uint8]
    labels: NDArray[Any]
    dataset: str
    classes: int
    class_names: ClassNames | None
    identity: str
    skipped: str = ""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, begin: int, end: int) -> Split:
        """Copies, so that no page of the files stays in memory."""
        images, labels = self.images[begin:end], self.labels[begin:end]
        split = Split(torch.from_numpy(images.copy()), torch.from_numpy(labels.astype(np.int64)))
        release(images)
        release(labels)
        return split


def open_images(
    path: Path,
    card: ModelCard,
    *,
    image_size: int | None = None,
    resize: str | None = None,
    limit: int | None = None,
) -> Source:
    """The value of `--images`: a folder with one folder of pictures per class, or with two arrays.

    Raises:
        InputError: no such folder, or one that does not fit the model of `card`.
    """
    if limit is not None and limit < 1:
        raise InputError(f"--limit {limit}: expected 1 or more")
    if not path.is_dir():
        raise InputError(
            f"--images {path}: expected a folder with one folder of pictures per class, or with "
            "images.npy and labels.npy; check the path"
        )
    if (path / "images.npy").is_file():
        for option, value in (
            ("--image-size", image_size),
            ("--resize", resize),
            ("--limit", limit),
        ):
            if value is not None:
                raise InputError(
                    f"{option} {value}: applies to pictures, but {path} holds arrays; leave it out"
                )
        return _open_arrays(path, card)
    how, told = prepared_for(card, image_size, resize)
    pictures = open_pictures(path, card, how, told)
    if limit is None or limit >= len(pictures):
        return pictures
    labels = torch.from_numpy(pictures.labels())
    # The choice follows the labels alone; no picture is read for it.
    split = Split(torch.empty((len(labels), 0), dtype=torch.uint8), labels)
    return SomePictures(pictures, any_subset(split, limit, SPLIT_SEED).numpy())


def _open_arrays(folder: Path, card: ModelCard) -> ArraySource:
    images = _open_array(folder / "images.npy")
    labels = _open_array(folder / "labels.npy")
    if images.dtype != np.uint8 or images.shape[1:] != card.input_shape or not len(images):
        raise InputError(
            f"{folder / 'images.npy'}: expected uint8 images of shape (N, "
            f"{', '.join(map(str, card.input_shape))}), which the model reads, came "
            f"{images.dtype.name} of shape {images.shape}"
        )
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise InputError(
            f"{folder / 'labels.npy'}: expected integers of shape ({len(images)},), came "
            f"{labels.dtype.name} of shape {labels.shape}"
        )
    for part in batches(labels, LABELS_AT_ONCE):
        check_labels(part, card.classes, f"{folder / 'labels.npy'}")
    return ArraySource(
        folder=folder,
        images=images,
        labels=labels,
        dataset=card.dataset,
        classes=card.classes,
        class_names=card.class_names,
        identity=digest_files(folder, [folder / "images.npy", folder / "labels.npy"]),
    )


def check_labels(labels: NDArray[Any], classes: int, where: str) -> None:
    """Refuse labels that are no class."""
    if labels.min() < 0 or labels.max() >= classes:
        raise InputError(
            f"{where}: expected labels from 0 to {classes - 1}, the model's classes, came "
            f"{labels.min()} to {labels.max()}"
        )


def _open_array(path: Path) -> NDArray[Any]:
    require_file(path, "an array of clean images or labels")
    try:
        with array_header():
            array: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except BROKEN_ARRAY as error:
        why = first_line(error)
        raise InputError(f"{path}: not a numpy array file ({why}); save it again") from None
    if not array.flags.c_contiguous:
        raise InputError(f"{path}: in Fortran's order; save it with numpy.ascontiguousarray")
    return array
