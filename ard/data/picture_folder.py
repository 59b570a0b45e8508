"""Pictures in one folder per class, as a source of clean images that decodes what is read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ard.data.picture_files import read_picture
from ard.data.splits import Split
from edge_bench.core.errors import InputError
from edge_bench.core.spec import ModelCard

# Those of torchvision's ImageFolder.
PICTURES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
MODES = {1: "L", 3: "RGB"}


@dataclass(frozen=True, kw_only=True)
class ClassFolder:
    """One class of a folder of pictures: how many, and a digest of their names, sizes, times."""

    path: Path
    count: int
    digest: str


class PictureSource:
    """Pictures in one folder per class, decoded when they are read.

    Classes are the folders in the order of their names and pictures follow in the order of theirs,
    as in torchvision's ImageFolder. Only the names of one class are held at a time.
    """

    def __init__(
        self, folders: list[ClassFolder], card: ModelCard, image_size: int | None = None
    ) -> None:
        self._folders = folders
        self._ends = np.cumsum([folder.count for folder in folders])
        self._image_size = image_size
        self._listed: tuple[int, list[Path]] = (-1, [])
        self.dataset, self.classes, self.shape = card.dataset, card.classes, card.input_shape

    @property
    def identity(self) -> str:
        """Digest of the files' names, sizes and times, and of the size they are brought to."""
        text = "".join(folder.digest for folder in self._folders) + str(self._image_size)
        return hashlib.sha256(text.encode()).hexdigest()

    def __len__(self) -> int:
        return int(self._ends[-1])

    def labels(self) -> NDArray[np.int64]:
        """(N,) labels, without reading a picture."""
        counts = [folder.count for folder in self._folders]
        return np.repeat(np.arange(len(counts), dtype=np.int64), counts)

    def read(self, begin: int, end: int) -> Split:
        """Decode the pictures `begin` to `end`."""
        return self.at(np.arange(begin, end))

    def at(self, index: NDArray[np.int64]) -> Split:
        """Decode the pictures at `index`."""
        channels, height, width = self.shape
        images = np.empty((len(index), channels, height, width), dtype=np.uint8)
        labels = np.searchsorted(self._ends, index, side="right")
        for row, (label, sample) in enumerate(zip(labels, index, strict=True)):
            first = self._ends[label] - self._folders[label].count
            path = self._paths(int(label))[sample - first]
            picture = read_picture(path, MODES[channels], self._image_size)
            if picture.shape[:2] != (height, width):
                raise InputError(
                    f"{path}: {picture.shape[1]}x{picture.shape[0]} pixels, but the model reads "
                    f"{width}x{height}; give --image-size to resize them all"
                )
            images[row] = picture.reshape(height, width, channels).transpose(2, 0, 1)
        return Split(torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64)))

    def _paths(self, label: int) -> list[Path]:
        if self._listed[0] != label:
            folder = self._folders[label]
            paths = list(_pictures_below(folder.path))
            if digest_files(folder.path, paths) != folder.digest:
                raise InputError(
                    f"{folder.path}: its pictures changed while they were read; give the command "
                    "again once they stay as they are"
                )
            self._listed = (label, paths)
        return self._listed[1]


@dataclass(frozen=True)
class SomePictures:
    """The pictures at `index` (sorted) of a folder."""

    whole: PictureSource
    index: NDArray[np.int64]

    @property
    def dataset(self) -> str:
        """That of the whole folder."""
        return self.whole.dataset

    @property
    def classes(self) -> int:
        """Those of the whole folder."""
        return self.whole.classes

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return self.whole.shape

    @property
    def identity(self) -> str:
        """Digest of the folder's and of the choice."""
        digest = hashlib.sha256(self.whole.identity.encode())
        digest.update(self.index.tobytes())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.index)

    def read(self, begin: int, end: int) -> Split:
        """Decode the chosen pictures `begin` to `end`."""
        return self.whole.at(self.index[begin:end])


def open_pictures(path: Path, card: ModelCard, image_size: int | None) -> PictureSource:
    """Find the pictures of a folder, without decoding one, and see that they fit the model."""
    channels, height, width = card.input_shape
    if channels not in MODES:
        raise InputError(
            f"--images {path}: the model reads {channels} channels, but pictures have 1 or 3; give "
            "a folder with images.npy and labels.npy"
        )
    if image_size is not None and (height, width) != (image_size, image_size):
        raise InputError(
            f"--image-size {image_size}: the model reads {width}x{height} pixels; give that size"
        )
    roots = sorted(entry for entry in path.iterdir() if entry.is_dir())
    if len(roots) != card.classes:
        raise InputError(
            f"--images {path}: expected {card.classes} folders, one per class of the model, found "
            f"{len(roots)}; name the folder that holds the classes' folders"
        )
    folders = []
    for root in roots:
        paths = list(_pictures_below(root))
        folders.append(ClassFolder(path=root, count=len(paths), digest=digest_files(root, paths)))
    if not any(folder.count for folder in folders):
        raise InputError(f"--images {path}: no pictures ({', '.join(PICTURES)}) in its folders")
    return PictureSource(folders, card, image_size)


def _pictures_below(root: Path) -> Iterator[Path]:
    """Pictures in a class's folder and the folders in it, in ImageFolder's order."""
    for folder, _, names in sorted(os.walk(root, followlinks=True)):
        for name in sorted(names):
            if name.lower().endswith(PICTURES):
                yield Path(folder, name)


def digest_files(root: Path, paths: list[Path]) -> str:
    """Digest of files by name, size and time of change, so that none needs to be read twice."""
    digest = hashlib.sha256(root.name.encode())
    for path in paths:
        found = path.stat()
        digest.update(f"{path.relative_to(root)}\0{found.st_size}\0{found.st_mtime_ns}\0".encode())
    return digest.hexdigest()
