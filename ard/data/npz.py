"""Arrays of an .npz file, a batch at a time: numpy itself can only read one whole."""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from edge_bench.core.errors import InputError, first_line
from edge_bench.files.store import BROKEN_ARRAY, array_header, require_file

HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


@dataclass(frozen=True, kw_only=True)
class Member:
    """One array of an .npz file: its place there, and what its header says."""

    path: Path
    key: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    data_offset: int

    @property
    def where(self) -> str:
        """For sentences: the file and the key."""
        return f"{self.path}: {self.key}"

    def batches(self, size: int) -> Iterator[NDArray[Any]]:
        """Parts of `size` entries, in order, read as they are asked for.

        Raises:
            InputError: the file is damaged; its checksum is known at the end of the array.
        """
        row_bytes = prod(self.shape[1:]) * self.dtype.itemsize
        with (
            _reading(self.path),
            zipfile.ZipFile(self.path) as archive,
            archive.open(f"{self.key}.npy") as file,
        ):
            file.seek(self.data_offset)
            for begin in range(0, self.shape[0], size):
                count = min(size, self.shape[0] - begin)
                content = file.read(count * row_bytes)
                if len(content) != count * row_bytes:
                    raise zipfile.BadZipFile(f"{self.key} ends early")
                part = np.frombuffer(content, dtype=self.dtype)
                yield part.reshape(count, *self.shape[1:])
            file.read(1)


def keys_of(path: Path) -> list[str]:
    """Names of the arrays in the file.

    Raises:
        InputError: no .npz file.
    """
    require_file(path, "an .npz file")
    with _reading(path), zipfile.ZipFile(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


def open_member(path: Path, key: str) -> Member:
    """Read the header of an array of the file.

    Raises:
        InputError: no array of plain numbers.
    """
    with _reading(path), zipfile.ZipFile(path) as archive:
        with archive.open(f"{key}.npy") as file:
            try:
                version = npy.read_magic(file)
                if version not in HEADERS:
                    raise ValueError(f"its version is {version}")
                with array_header():
                    shape, fortran_order, dtype = HEADERS[version](file)
            except BROKEN_ARRAY as error:
                raise InputError(
                    f"{path}: {key} is no numpy array ({first_line(error)}); save it again"
                ) from None
            offset = file.tell()
        member = Member(path=path, key=key, shape=shape, dtype=dtype, data_offset=offset)
        if dtype.hasobject:
            raise InputError(
                f"{member.where} holds Python objects, which are not read since they can run "
                "code; save it as an array of numbers"
            )
        if fortran_order:
            raise InputError(
                f"{member.where} is in Fortran's order; save it with numpy.ascontiguousarray"
            )
        if archive.getinfo(f"{key}.npy").file_size != offset + prod(shape) * dtype.itemsize:
            raise zipfile.BadZipFile(f"{key} is not as long as its header says")
    return member


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """A damaged archive ends as one of many exceptions; make it one sentence."""
    try:
        yield
    except (
        zipfile.BadZipFile,
        OSError,  # a seek to where a damaged directory points
        ValueError,
        struct.error,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        NotImplementedError,  # an unknown compression
        RuntimeError,  # a password
    ) as error:
        raise InputError(
            f"{path}: not a readable .npz file ({first_line(error)}); save it again with "
            "numpy.savez"
        ) from None
