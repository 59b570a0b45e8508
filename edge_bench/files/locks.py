"""A file that one process holds; the kernel lets go of it when that process dies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


@contextmanager
def writing(out: Path, file: Path | None = None) -> Iterator[None]:
    """Be the one process that writes the output `out`, by a hidden file beside `file` or itself.

    What was looked at before may be another's by now: look again within.

    Raises:
        InputError: another process is writing it.
    """
    guarded = file or out
    path = guarded.with_name(f".{guarded.name}.lock")
    made = not path.parent.exists()
    lock = hold(
        path,
        f"{out}: another process is writing it; wait for it to end, or choose another --out",
    )
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.close()
        if made:
            with suppress(OSError):  # Something was written there.
                path.parent.rmdir()


def _is_at(file: BinaryIO, path: Path) -> bool:
    """Is the open file still the one at `path`?"""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
