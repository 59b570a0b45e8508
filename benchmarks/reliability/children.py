"""Command lines of ardx as processes that can be ended at any moment, started in milliseconds.

A process that has imported everything forks for each of them. It must not have computed anything
yet: threads of a runtime do not survive a fork.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_S = 120.0
POLL_S = 0.002
HOURGLASS = 124
"""The exit code of `timeout`, told of a process that had to be ended."""
SPOKEN = (0, 1, 2, 3, 4, 128 + signal.SIGINT, 128 + signal.SIGTERM, 128 + signal.SIGHUP)
"""What ardx documents as its exit codes."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended: its exit code (negative: the signal that ended it), and what it said."""

    code: int
    said: str
    seconds: float

    @property
    def crashed(self) -> bool:
        """Is it a fault of the program's own, rather than an answer?"""
        return "Traceback (most recent call last)" in self.said or self.code not in SPOKEN


def import_everything() -> None:
    """Load what the commands need, without computing."""
    for name in (
        *(
            "ard.cli",
            "torch",
            "torchvision",
            "onnx",
            "onnxscript",
            "onnxruntime",
            "sklearn.datasets",
        ),
        *("onnxruntime.quantization", "torch.onnx", "torch._dynamo", "torch.export", "jinja2"),
        *("ard.learning.learn", "ard.exporting.export", "ard.evaluation.run", "matplotlib.figure"),
        *("ard.crafting.craft", "ard.learning.adopt", "deploy.artifact", "edge_bench.runs.one_run"),
        *("edge_bench.page.render", "edge_bench.files.unpack", "edge_bench.policy.evaluate"),
        *("edge_bench.files.bundle", "torch.onnx._internal.exporter._core", "junitparser"),
    ):
        __import__(name)


def start(arguments: Sequence[str], folder: Path, prepare: Callable[[], None] | None = None) -> int:
    """Begin `ardx ARGUMENTS` in `folder`; its process id. `prepare` runs in it before the command.

    Its output goes to `.said` files beside the folder.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 70  # EX_SOFTWARE
    try:
        _become(arguments, folder, prepare)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code & 0xFF)


def _become(arguments: Sequence[str], folder: Path, prepare: Callable[[], None] | None) -> None:
    os.setpgid(0, 0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    os.chdir(folder)
    out = os.open(said_by(os.getpid(), folder), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.argv = ["ardx", *arguments]
    from ard.cli import app

    if prepare is not None:
        prepare()
    app(list(arguments), prog_name="ardx")


def said_by(pid: int, folder: Path) -> Path:
    """Where a process's words go: beside its folder, which stays its own."""
    return folder.with_name(f"{folder.name}.{pid}.said")


def wait(pid: int, folder: Path, limit_s: float = TIMEOUT_S) -> Ended:
    """Until it ends; one that does not is killed, and told as such."""
    begin, late = time.monotonic(), False
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            break
        if time.monotonic() - begin > limit_s:
            late = True
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            break
        time.sleep(POLL_S)
    # What it started ends with it; a process that hangs is ended here.
    said = said_by(pid, folder)
    text = said.read_text(encoding="utf-8", errors="replace") if said.exists() else ""
    said.unlink(missing_ok=True)
    code = HOURGLASS if late else os.waitstatus_to_exitcode(status)
    return Ended(code=code, said=text, seconds=time.monotonic() - begin)


def run(
    arguments: Sequence[str],
    folder: Path,
    *,
    prepare: Callable[[], None] | None = None,
    limit_s: float = TIMEOUT_S,
) -> Ended:
    """The command from start to end."""
    return wait(start(arguments, folder, prepare), folder, limit_s)


def run_until(
    arguments: Sequence[str], folder: Path, seconds: float, numbers: Sequence[int]
) -> Ended:
    """The command, sent the signals `numbers`, one after the other, after `seconds`."""
    pid = start(arguments, folder)
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        # A process that has ended is still there to be waited for, and takes no signal.
        time.sleep(min(left, POLL_S))
    for number in numbers:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
    return wait(pid, folder)
