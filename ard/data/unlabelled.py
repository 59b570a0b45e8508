"""Pictures without labels: a folder of any depth, or an array in an .npz file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor

from ard.data import npz
from ard.data.picture_files import pictures_of
from ard.data.splits import Split, Stored
from edge_bench.core.errors import InputError
from edge_bench.core.pictures.preprocessing import Preprocessing
from edge_bench.files.pictures.tree import sorted_pictures

KEYS = ("images", "image", "x", "data")
"""Names that the array of pictures has in published sets: of several, the first of these."""
NO_LABEL = -1
ROWS = 4096


def load_unlabelled(
    path: Path,
    image_shape: tuple[int, int, int],
    option: str,
    preprocessing: Preprocessing | None = None,
) -> Split:
    """Pictures of a dataset's (channels, height, width), each with the label `NO_LABEL`.

    Those of a folder are brought to it as the dataset's are, or stretched; in a file they are
    levels, (N, H, W, C) or (N, C, H, W) of uint8, and have that size already. Labels that lie
    beside them are not read.

    Raises:
        InputError: no pictures, or of another shape; names `option`.
    """
    if path.is_dir():
        return _folder(path, image_shape, option, preprocessing)
    if path.suffix.lower() == ".npz":
        return _array(path, image_shape, option)
    raise InputError(
        f"{option} {path}: expected a folder of pictures or an .npz file with an array of uint8"
    )


def count_unlabelled(path: Path) -> int:
    """How many pictures `load_unlabelled` finds, none of which is read; 0 where it refuses."""
    if path.is_dir():
        return len(sorted_pictures(path)[0])
    if path.suffix.lower() != ".npz":
        return 0
    key = next((key for key in KEYS if key in npz.keys_of(path)), None)
    shape = npz.open_member(path, key).shape if key else ()
    return shape[0] if shape else 0


def _folder(
    path: Path, image_shape: tuple[int, int, int], option: str, preprocessing: Preprocessing | None
) -> Split:
    channels, height, width = image_shape
    if height != width or channels not in (1, 3):
        raise InputError(
            f"{option} {path}: pictures are grey or coloured, and brought to a square, but the "
            f"dataset has {channels} channels of {width}x{height} pixels; give an .npz file"
        )
    paths, _ = sorted_pictures(path)
    if not paths:
        raise InputError(f"{option} {path}: no picture below this folder; name another")
    how = preprocessing or Preprocessing(side=height)
    mode = "RGB" if channels == 3 else "L"
    return pictures_of(paths, [NO_LABEL] * len(paths), path, how, mode)


def _array(path: Path, image_shape: tuple[int, int, int], option: str) -> Split:
    keys = npz.keys_of(path)
    key = next((key for key in KEYS if key in keys), None)
    if key is None:
        raise InputError(
            f"{option} {path}: expected an array {KEYS[0]!r}, found {', '.join(sorted(keys))}; "
            f"save the pictures under that name"
        )
    member = npz.open_member(path, key)
    channels, height, width = image_shape
    last = member.shape[1:] == (height, width, channels)
    if member.dtype != "uint8" or not (last or member.shape[1:] == image_shape):
        raise InputError(
            f"{option} {path}: expected uint8 of shape (N, {height}, {width}, {channels}) in "
            f"{key!r}, found {member.dtype} of shape {member.shape}; convert it"
        )
    if not member.shape[0]:
        raise InputError(f"{option} {path}: {key!r} holds no picture; give another file")
    images = torch.empty((member.shape[0], *image_shape), dtype=torch.uint8)
    begin = 0
    for part in member.batches(ROWS):
        rows = torch.from_numpy(part.copy())
        images[begin : begin + len(rows)] = rows.permute(0, 3, 1, 2) if last else rows
        begin += len(rows)
    return Split(images, torch.full((len(images),), NO_LABEL))


@dataclass(frozen=True)
class Joined:
    """Pictures of several places as one array; those that are in files stay there.

    `index` counts through the parts, one after another.
    """

    parts: tuple[Tensor | Stored, ...]
    index: Tensor

    @property
    def shape(self) -> torch.Size:
        """(N, C, H, W)."""
        return torch.Size((len(self.index), *self.parts[0].shape[1:]))

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(part.shape[0] for part in self.parts))

    def at(self, index: Tensor) -> Joined:
        """Some of them; nothing is read yet."""
        return Joined(self.parts, self.index[index])

    def read(self) -> Tensor:
        """All of them, (N, C, H, W) uint8."""
        images = torch.empty(self.shape, dtype=torch.uint8)
        for part, begin, end in zip(self.parts, [0, *self._ends], self._ends, strict=False):
            here = (self.index >= begin) & (self.index < end)
            wanted = self.index[here] - begin
            if len(wanted):
                images[here] = part[wanted] if isinstance(part, Tensor) else part.at(wanted).read()
        return images

    def digest(self) -> str:
        """Hex digest of the parts and of the choice."""
        digest = hashlib.sha256(self.index.numpy().tobytes())
        for part in self.parts:
            told = part.numpy().tobytes() if isinstance(part, Tensor) else part.digest().encode()
            digest.update(hashlib.sha256(told).digest())
        return digest.hexdigest()


def joined(splits: Sequence[Split]) -> Split:
    """The samples of several splits, in order; in memory where all of them are."""
    labels = torch.cat([split.labels for split in splits])
    stored = tuple(split.stored for split in splits)
    if all(isinstance(part, Tensor) for part in stored):
        return Split(torch.cat([split.images for split in splits]), labels)
    return Split(Joined(stored, torch.arange(len(labels))), labels)
