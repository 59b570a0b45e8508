"""Arrays of a .pt or .pth file: the tensors that `torch.save` wrote, and nothing else of it."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_bench.core.errors import InputError
from edge_bench.files.store import require_file

SUFFIXES = (".pt", ".pth")
ALONE = "images"
"""What a tensor that was saved by itself is called."""


@dataclass(frozen=True, kw_only=True)
class TensorMember:
    """One tensor of a file."""

    path: Path
    key: str
    array: NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes, N first."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Its type."""
        return self.array.dtype

    @property
    def where(self) -> str:
        """For sentences: the file and the key."""
        return f"{self.path}: {self.key}"

    def batches(self, size: int) -> Iterator[NDArray[Any]]:
        """Parts of `size` entries, in order."""
        for begin in range(0, len(self.array), size):
            yield self.array[begin : begin + size]


def open_tensors(path: Path) -> dict[str, TensorMember]:
    """The tensors of a file by name: of a dict its keys, of a list or tuple their numbers.

    They stay in the file where its format lets them; older files are read whole.

    Raises:
        InputError: no such file, a damaged one, or one with other objects in it.
    """
    require_file(path, "a file of torch.save")
    try:
        found: Any = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except Exception as error:
        # torch.load raises a dozen unrelated types for damaged or unsafe files.
        raise InputError(
            f"{path}: cannot be read as tensors alone ({type(error).__name__}): damaged, or it "
            "holds other objects; save a dict of tensors, or arrays with numpy.savez"
        ) from None
    if isinstance(found, Tensor):
        found = {ALONE: found}
    elif isinstance(found, list | tuple):
        found = dict(enumerate(found))
    if not isinstance(found, dict):
        found = {}
    return {
        str(key): TensorMember(path=path, key=str(key), array=_array(path, str(key), value))
        for key, value in found.items()
        if isinstance(value, Tensor)
    }


def _array(path: Path, key: str, tensor: Tensor) -> NDArray[Any]:
    try:
        array: NDArray[Any] = tensor.detach().numpy()
    except (TypeError, RuntimeError):
        raise InputError(
            f"{path}: {key} is a tensor of {tensor.dtype} in the layout {tensor.layout}, which "
            "numpy does not have; save it as float32"
        ) from None
    return array if array.ndim else array.reshape(1)
