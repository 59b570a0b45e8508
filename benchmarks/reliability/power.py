"""A power cut, as a file system may take it: names are kept, content that was not synced is not.

In the process under test, renames and syncs are noted; at the chosen rename every file that was
written since its last sync is cut back to what it was then, and the process ends at once.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.reliability.children import run

NEVER = -1
COUNT = "renames"


def renames_in(arguments: Sequence[str], folder: Path) -> int:
    """How many renames the command makes from start to end."""
    told = folder.with_name(f"{folder.name}.{COUNT}")
    told.unlink(missing_ok=True)
    run(arguments, folder, prepare=lambda: _watch(folder, NEVER, told))
    count = told.stat().st_size if told.exists() else 0
    told.unlink(missing_ok=True)
    return count


def cut_after(index: int, arguments: Sequence[str], folder: Path) -> None:
    """Run the command until the power goes, right after its rename of that index, from 0 on."""
    told = folder.with_name(f"{folder.name}.{COUNT}")
    told.unlink(missing_ok=True)
    run(arguments, folder, prepare=lambda: _watch(folder, index, told))
    told.unlink(missing_ok=True)


def _watch(root: Path, index: int, told: Path) -> None:
    """Note what this process syncs below `root`, and cut the power after a rename."""
    begin_ns = time.time_ns()
    synced: dict[tuple[int, int], tuple[int, int]] = {}
    replace, rename, fsync = os.replace, os.rename, os.fsync

    def noted(file: Any) -> None:
        fsync(file)
        found = os.fstat(file if isinstance(file, int) else file.fileno())
        synced[found.st_dev, found.st_ino] = found.st_size, found.st_mtime_ns

    def cutting(real: Callable[..., None]) -> Callable[..., None]:
        def renamed(source: Any, target: Any, **more: Any) -> None:
            real(source, target, **more)
            if not Path(target).absolute().is_relative_to(root):
                return
            with told.open("ab") as file:
                file.write(b".")
            if told.stat().st_size == index + 1:
                _drop(root, begin_ns, synced)
                os.kill(os.getpid(), signal.SIGKILL)

        return renamed

    # Set where they are looked up, in this process alone, which ends with the command.
    for name, ours in (("replace", cutting(replace)), ("rename", cutting(rename))):
        setattr(os, name, ours)
        setattr(Path, name, ours)
    os.fsync = noted  # type: ignore[assignment]


def _drop(root: Path, begin_ns: int, synced: dict[tuple[int, int], tuple[int, int]]) -> None:
    for path in root.rglob("*"):
        if not path.is_file() or path.is_symlink():
            continue
        found = path.stat()
        size, at_ns = synced.get((found.st_dev, found.st_ino), (0, 0))
        if found.st_mtime_ns > max(begin_ns, at_ns):
            os.truncate(path, min(size, found.st_size))
