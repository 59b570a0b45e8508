"""Where the arrays of a set come from: a file of numpy or torch, or a dataset's test images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ard.crafting.torch_arrays import SUFFIXES, open_tensors
from ard.data import npz
from ard.data.sources import Source
from edge_bench.core.errors import InputError


class Member(Protocol):
    """An array that is read a batch at a time."""

    @property
    def key(self) -> str:
        """Its name."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes, N first."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Its type."""

    @property
    def where(self) -> str:
        """For sentences: where it is from."""

    def batches(self, size: int) -> Iterator[NDArray[Any]]:
        """Parts of `size` entries, in order."""


@dataclass(frozen=True, kw_only=True)
class SourceMember:
    """The first `count` clean images of a source, or with `labels` their labels."""

    source: Source
    count: int
    labels: bool = False

    @property
    def key(self) -> str:
        """For sentences."""
        return "labels" if self.labels else "clean"

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W), or (N,) of labels."""
        return (self.count,) if self.labels else (self.count, *self.source.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of levels, or of class numbers."""
        return np.dtype(np.int64 if self.labels else np.uint8)

    @property
    def where(self) -> str:
        """For sentences."""
        return f"the test images of {self.source.dataset}"

    def batches(self, size: int) -> Iterator[NDArray[Any]]:
        """Parts of `size` entries, in order."""
        for begin in range(0, self.count, size):
            part = self.source.read(begin, min(begin + size, self.count))
            yield (part.labels if self.labels else part.images).numpy()


def open_members(
    path: Path, names: dict[str, tuple[str, ...]], *, optional: bool, how: str
) -> dict[str, Member]:
    """By role, the first array of the file that has one of its names.

    Args:
        names: of each role; the first role must be there, and the others unless `optional`.
        how: the option that chooses names.

    Raises:
        InputError: no such file, a damaged one, or one without a role.
    """
    tensors = open_tensors(path) if path.suffix.lower() in SUFFIXES else None
    there = npz.keys_of(path) if tensors is None else list(tensors)
    found: dict[str, Member] = {}
    for role, known in names.items():
        name = next((name for name in known if name in there), None)
        if name is not None:
            found[role] = npz.open_member(path, name) if tensors is None else tensors[name]
        elif not (found and optional):
            raise InputError(
                f"{path}: no array {known[0]!r} in it, but {', '.join(there) or 'no array at all'}"
                f"; name it: {how}"
            )
    return found
