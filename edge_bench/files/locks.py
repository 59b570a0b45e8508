"""A file that one process holds; the kernel lets go of it when that process dies."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from edge_bench.core.errors import InputError


class LockedError(InputError):
    """Another process works on the same files."""


def hold(path: Path, refusal: str) -> BinaryIO:
    """Open `path` (made where it is missing) to read and append, held until it is closed.

    Raises:
        LockedError: another process holds it; the sentence is `refusal`.
    """
    import fcntl  # Not on every system, and not for every command.

    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b", buffering=0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise LockedError(refusal) from None
        # A process that finishes may remove the file; one that was removed guards nothing.
        if _is_at(file, path):
            return file
        file.close()


def _is_at(file: BinaryIO, path: Path) -> bool:
    """Is the open file still the one at `path`?"""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
