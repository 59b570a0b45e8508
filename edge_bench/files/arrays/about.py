"""Arrays in an .npz file, and what they are: JSON under the name `about`."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_bench.core.errors import InputError, first_line
from edge_bench.core.parse import json_of
from edge_bench.files.store import BROKEN_ARRAY, array_header, atomic_file, to_json

ABOUT = "about"
MOST_BYTES = 256 << 20
"""More than any such file takes; one that claims more is not read."""


def write_with_about(path: Path, about: Any, force: bool, **arrays: NDArray[Any]) -> None:
    """Write them atomically, without pickle."""
    with atomic_file(path, force) as partial, partial.open("wb") as file:
        np.savez(file, **{ABOUT: np.array(to_json(about)), **arrays})  # type: ignore[arg-type]


def read_with_about(
    path: Path, names: Sequence[str], damaged: Callable[[Path, str], InputError]
) -> tuple[list[NDArray[Any]], Any]:
    """The arrays `names`, and the JSON; `damaged` makes the error of a file and what is wrong."""
    try:
        with zipfile.ZipFile(path) as archive:
            claimed = sum(member.file_size for member in archive.infolist())
        if claimed > MOST_BYTES:
            raise ValueError(f"it claims {claimed} bytes")
        with array_header(), np.load(path, allow_pickle=False) as arrays:
            found, about = [arrays[name] for name in names], arrays[ABOUT]
        return found, json_of(str(about))
    except (
        zipfile.BadZipFile,
        zlib.error,
        KeyError,  # an array that is not there
        *BROKEN_ARRAY,  # not numpy's, pickled, or not JSON
        EOFError,
        OSError,  # a seek to where a damaged directory points
        NotImplementedError,  # an unknown compression
        RuntimeError,  # a password
    ) as error:
        raise damaged(path, first_line(error)) from None
