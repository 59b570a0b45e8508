"""Names of the files of a job on the board, and how its two sides speak of them.

    ~/.cache/ardx/remote/
        lock              held by the one benchmark that runs here
        running.json      which job that is, and its process
        venv-HASH/        an environment that was made here; it stays
        KEY/              a job: bundle.ardx, the wheel, job.json, log, report.json, exit.json

A job's KEY is a hash of all that was sent for it, so the same command finds it again.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

LOCK = "lock"
RUNNING = "running.json"
BUNDLE = "bundle.ardx"
JOB = "job.json"
LOG = "log"
REPORT = "report.json"
EXIT = "exit.json"
WHEELS = "wheels"
TMP = "tmp"

ENDED, DIED = 0, 75
"""Exit codes of `board follow`: the run ended, or its process is gone and left no exit code."""
BEGIN = b"\x1eardx\n"
"""Before the log: what comes earlier is said by the login shell, as by an echo in .bashrc."""
ROOM_BYTES = 4096


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to run.

    Attributes:
        python: the board's Python, a path or a name on its PATH.
        backend: key of `backends.BACKENDS`, or `all`.
        options: of `ardx bench`, for the board.
    """

    python: str
    backend: str
    options: tuple[str, ...]

    def to_text(self) -> str:
        """As the file says it."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def read(cls, folder: Path) -> Job:
        """The job of a folder."""
        data: dict[str, Any] = json.loads((folder / JOB).read_text(encoding="utf-8"))
        return cls(**data | {"options": tuple(data["options"])})


def write_whole(path: Path, value: Any) -> None:
    """Write JSON whole or not at all."""
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    partial.write_text(json.dumps(value), encoding="utf-8")
    partial.replace(path)


def reserve_room(folder: Path) -> None:
    """Take room for the exit code now: a disk that fills up must not hide how a run ended."""
    with (folder / f".{EXIT}").open("w", encoding="utf-8") as file:
        file.write(" " * ROOM_BYTES)
        file.flush()
        os.fsync(file.fileno())


def write_exit(folder: Path, code: int, error: str | None) -> None:
    """Tell how the run ended, whole or not at all, in the room that was reserved."""
    text = json.dumps({"code": code, "error": error and error[: ROOM_BYTES // 8]})
    with (folder / f".{EXIT}").open("r+", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    (folder / f".{EXIT}").replace(folder / EXIT)
