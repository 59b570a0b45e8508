"""Pictures in one folder per class, as a source of clean images that decodes what is read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ard.data.picture_files import token
from ard.data.splits import Split
from edge_bench.core.classes import ClassNames, are_indices, shown
from edge_bench.core.errors import InputError
from edge_bench.core.pictures.preprocessing import Preprocessing
from edge_bench.core.spec import ModelCard
from edge_bench.files.pictures.decode import DECODED, MODES, read_picture
from edge_bench.files.pictures.tree import labels_of, open_tree, sorted_pictures


@dataclass(frozen=True, kw_only=True)
class ClassFolder:
    """One class of a folder of pictures: how many, and a digest of their names, sizes, times.

    `label` is its index among the model's classes.
    """

    path: Path
    label: int
    count: int
    digest: str


class PictureSource:
    """Pictures in one folder per class, decoded when they are read.

    Pictures follow in the order of their names, class by class, as in torchvision's ImageFolder.
    Only the names of one class are held at a time.
    """

    def __init__(
        self,
        folders: list[ClassFolder],
        card: ModelCard,
        preprocessing: Preprocessing | None = None,
        skipped: str = "",
    ) -> None:
        self._folders = folders
        self.skipped = skipped
        self._ends = np.cumsum([folder.count for folder in folders])
        self._preprocessing = preprocessing
        self._listed: tuple[int, list[Path]] = (-1, [])
        self.dataset, self.classes, self.shape = card.dataset, card.classes, card.input_shape
        self.class_names = card.class_names

    @property
    def identity(self) -> str:
        """Digest of the files' names, sizes and times, and of the size they are brought to."""
        parts = [f"{folder.digest}{folder.label}\0" for folder in self._folders]
        text = f"{DECODED}\0{token(self._preprocessing)}\0{''.join(parts)}"
        return hashlib.sha256(text.encode()).hexdigest()

    def __len__(self) -> int:
        return int(self._ends[-1])

    def labels(self) -> NDArray[np.int64]:
        """(N,) labels, without reading a picture."""
        labels = np.asarray([folder.label for folder in self._folders], dtype=np.int64)
        return np.repeat(labels, [folder.count for folder in self._folders])

    def read(self, begin: int, end: int) -> Split:
        """Decode the pictures `begin` to `end`."""
        return self.at(np.arange(begin, end))

    def at(self, index: NDArray[np.int64]) -> Split:
        """Decode the pictures at `index`."""
        channels, height, width = self.shape
        images = np.empty((len(index), channels, height, width), dtype=np.uint8)
        which = np.searchsorted(self._ends, index, side="right")
        for row, (place, sample) in enumerate(zip(which, index, strict=True)):
            first = self._ends[place] - self._folders[place].count
            path = self._paths(int(place))[sample - first]
            picture = read_picture(path, MODES[channels], self._preprocessing)
            if picture.shape[:2] != (height, width):
                raise InputError(
                    f"{path}: {picture.shape[1]}x{picture.shape[0]} pixels, but the model reads "
                    f"{width}x{height}; give --image-size to resize them all"
                )
            images[row] = picture.reshape(height, width, channels).transpose(2, 0, 1)
        labels = np.asarray([self._folders[place].label for place in which], dtype=np.int64)
        return Split(torch.from_numpy(images), torch.from_numpy(labels))

    def _paths(self, place: int) -> list[Path]:
        if self._listed[0] != place:
            folder = self._folders[place]
            paths, _ = sorted_pictures(folder.path)
            if digest_files(folder.path, paths) != folder.digest:
                raise InputError(
                    f"{folder.path}: its pictures changed while they were read; give the command "
                    "again once they stay as they are"
                )
            self._listed = (place, paths)
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
    def class_names(self) -> ClassNames | None:
        """Those of the whole folder."""
        return self.whole.class_names

    @property
    def skipped(self) -> str:
        """That of the whole folder."""
        return self.whole.skipped

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


def open_pictures(
    path: Path, card: ModelCard, preprocessing: Preprocessing | None, told: str = ""
) -> PictureSource:
    """Find the pictures of a folder, without decoding one, and see that they fit the model.

    `told` is a line about how they are prepared, which goes before those about what was skipped.
    """
    channels = card.input_shape[0]
    if channels not in MODES:
        raise InputError(
            f"--images {path}: the model reads {channels} channels, but pictures have 1 or 3; give "
            "a folder with images.npy and labels.npy"
        )
    tree = open_tree(path)
    folders = []
    for name, label in zip(
        tree.names, labels_of(tree.class_names, card, f"--images {path}"), strict=True
    ):
        paths = tree.pictures(name)
        root = path / name
        digest = digest_files(root, paths)
        folders.append(ClassFolder(path=root, label=label, count=len(paths), digest=digest))
    lines = (told, str(tree.skipped), taken_as_indices(tree.class_names, card))
    return PictureSource(folders, card, preprocessing, "\n".join(filter(None, lines)))


def taken_as_indices(names: Sequence[str], card: ModelCard) -> str:
    """A line where classes named by numbers stand for those of a model that names them by words."""
    if card.class_names is None or not are_indices(names, card.class_names):
        return ""
    meant = shown(card.class_names)
    return f"classes 0 to {len(names) - 1}: taken as the model's in their order, {meant}"


def digest_files(root: Path, paths: list[Path]) -> str:
    """Digest of files by name, size and time of change, so that none needs to be read twice."""
    digest = hashlib.sha256(os.fsencode(root.name))
    for path in paths:
        found = path.stat()
        name = os.fsencode(path.relative_to(root))
        digest.update(name + f"\0{found.st_size}\0{found.st_mtime_ns}\0".encode())
    return digest.hexdigest()
