"""On the board: answers one question of the client and ends.

    python -m edge_bench.remote.board start FOLDER            one line of JSON: state, pid
    python -m edge_bench.remote.board lacks FOLDER            JSON: what pip would have to bring
    python -m edge_bench.remote.board follow FOLDER OFFSET    the log from there on, until the end
    python -m edge_bench.remote.board fetch FOLDER            JSON: exit code, and the reports
    python -m edge_bench.remote.board clean FOLDER

An error is one line on stderr that begins with `error: `, and exit code 2 or 3.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from edge_bench.core.errors import ArdxError, CapabilityError, InputError, os_sentence
from edge_bench.files.locks import hold
from edge_bench.remote import environment
from edge_bench.remote.layout import (
    BEGIN,
    DIED,
    ENDED,
    EXIT,
    LOCK,
    LOG,
    REPORT,
    RUNNING,
    TMP,
    Job,
    reserve_room,
    write_whole,
)

POLL_SECONDS = 0.25
LOCK_TRIES = 5


def start(folder: Path) -> dict[str, Any]:
    """Start the job, unless it runs or has ended; the process outlives this connection.

    Raises:
        CapabilityError: another benchmark runs here, which would disturb both.
    """
    if (folder / EXIT).exists():
        return {"state": "ended", "pid": None}
    root = folder.parent
    lock = _held(root)
    if lock is None:
        running = _running(root)
        if running.get("key") != folder.name:
            raise CapabilityError(
                f"another benchmark runs here (process {running.get('pid')}), and each would slow "
                "the other; wait for it, or end it there with kill"
            )
        return {"state": "running", "pid": running.get("pid")}
    with lock:
        again = (folder / LOG).exists()
        reserve_room(folder)
        shutil.rmtree(folder / TMP, ignore_errors=True)  # of a run that was killed
        (folder / TMP).mkdir()
        with (folder / LOG).open("ab") as log:
            process = subprocess.Popen(  # noqa: S603, the Python that the user named
                [Job.read(folder).python, "-m", "edge_bench.job", str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                cwd=folder,
                env=os.environ | {"TMPDIR": str(folder / TMP)},
                start_new_session=True,
                # The lock is the process's from its first moment to its last, whatever ends it.
                pass_fds=(lock.fileno(),),
            )
        write_whole(root / RUNNING, {"key": folder.name, "pid": process.pid})
    return {"state": "again" if again else "started", "pid": process.pid}


def follow(folder: Path, offset: int) -> int:
    """Copy the log to stdout until the run has ended, or the client has gone.

    Returns:
        ENDED, or DIED where the process is gone without an exit code.
    """
    with (folder / LOG).open("rb") as log:
        # After a power cut the log may be shorter than what was read of it: then all of it is new.
        log.seek(offset if offset <= os.fstat(log.fileno()).st_size else 0)
        sys.stdout.buffer.write(BEGIN)
        while True:
            # In this order: what was logged before the end is read after the end was seen.
            ended, alive = (folder / EXIT).exists(), _runs(folder)
            while block := log.read(1 << 16):
                sys.stdout.buffer.write(block)
            sys.stdout.buffer.flush()
            if ended:
                return ENDED
            if not alive:
                return ENDED if (folder / EXIT).exists() else DIED
            # The client holds our stdin open for as long as it listens.
            if select.select([sys.stdin], [], [], POLL_SECONDS)[0]:
                return ENDED


def fetch(folder: Path) -> dict[str, Any]:
    """How the run ended, and the text of each report."""
    ended = json.loads((folder / EXIT).read_text(encoding="utf-8"))
    reports = sorted(folder.glob(f"{Path(REPORT).stem}*.json"))
    return {**ended, "files": {p.name: p.read_text(encoding="utf-8") for p in reports}}


def clean(folder: Path) -> None:
    """Remove the job; environments stay for the next one."""
    shutil.rmtree(folder)


def _held(root: Path) -> BinaryIO | None:
    """The lock of this board, or None where another process has it (for longer than a look)."""
    for _ in range(LOCK_TRIES):
        with suppress(InputError):
            return hold(root / LOCK, "another process has it")
        time.sleep(0.01)
    return None


def _runs(folder: Path) -> bool:
    """Does this job's process live? The kernel gives a dead one's lock back, at once."""
    with (folder.parent / LOCK).open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _running(folder.parent).get("key") in (None, folder.name)
    return False


def _running(root: Path) -> dict[str, Any]:
    """Which job was started last."""
    try:
        found: dict[str, Any] = json.loads((root / RUNNING).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return found


def answer(verb: str, folder: Path, words: list[str]) -> int:
    """Do what the client asks; answers go to stdout."""
    if not folder.is_dir():
        raise CapabilityError(
            f"{folder}: no such job any more, as after another client took its report; run the "
            "command again"
        )
    if verb == "follow":
        return follow(folder, int(words[0]))
    if verb == "clean":
        clean(folder)
    elif verb == "lacks":
        backend = Job.read(folder).backend
        made = environment.is_ready(environment.environment_of(folder.parent, backend))
        print(json.dumps([] if made else environment.missing(backend)))
    else:
        print(json.dumps(start(folder) if verb == "start" else fetch(folder)))
    return ENDED


def main(verb: str, folder: str, *words: str) -> int:
    """Answer, and give the exit code."""
    try:
        return answer(verb, Path(folder), list(words))
    except BrokenPipeError:
        return ENDED  # The client has gone.
    except ArdxError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"error: {os_sentence(error, folder)}", file=sys.stderr)
        return CapabilityError.exit_code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
