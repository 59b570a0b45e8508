"""The lines of finished runs: how they are claimed, written and read."""

from __future__ import annotations

import fcntl
import json
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edge_bench import devices
from edge_bench.core.errors import InputError
from edge_bench.files.store import require_file
from edge_bench.statistics.metrics import BoolArray

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs/results"
LINES = RESULTS / "frontiers.jsonl"

Line = dict[str, Any]


@contextmanager
def claim(folder: Path, *, wait: bool = False) -> Iterator[bool]:
    """Whether this process may work on the run; a process that dies gives its claims back.

    Args:
        wait: until whoever works on it is done, instead of leaving it to them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "claim").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def finished(lines: Path) -> set[str]:
    """Identifiers of the runs that have a line."""
    return set(recorded(lines))


def recorded(lines: Path) -> dict[str, Line]:
    """The lines by the identifiers of their runs; none where nothing was written yet."""
    if not lines.exists() or lines.stat().st_size == 0:
        return {}
    return {line["id"]: line for line in read_lines(lines)}


def read_lines(lines: Path) -> list[Line]:
    """The lines, in their order.

    Raises:
        InputError: there is no such file, or a line of it is no JSON object; names it.
    """
    require_file(lines, "lines of finished runs")
    found = []
    for number, text in enumerate(lines.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        if not isinstance(line, dict):
            raise InputError(
                f"{lines}: line {number}: expected a JSON object, found {text[:40]!r}; take it out "
                "(its run is made again)"
            )
        found.append(line)
    return found


def append(lines: Path, line: Line) -> None:
    """Add one line; a single short write, so that processes do not mix theirs."""
    lines.parent.mkdir(parents=True, exist_ok=True)
    with lines.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, sort_keys=True) + "\n")


def pack(mask: BoolArray) -> str:
    """The bits of a mask as hexadecimal text."""
    return np.packbits(mask).tobytes().hex()


def commit() -> str:
    """The commit of the code, with a plus where files were changed."""
    done = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--abbrev=10"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


def machine() -> str:
    """What computed, in words."""
    device = devices.probe("local").cpu or platform.machine()
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    return f"{device}, {torch.get_num_threads()} thread(s), torch {torch.__version__}"


def unpack(line: Line, attack: str) -> BoolArray:
    """The mask of an attack, (images,)."""
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(line["masks"][attack]), dtype=np.uint8))
    mask: BoolArray = bits[: line["images"]].astype(np.bool_)
    return mask
