"""One host's run, seen from here: ship, start, follow through every dropped connection, fetch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TypeVar

from edge_bench.core.errors import (
    EXIT_INCONCLUSIVE,
    EXIT_USAGE,
    ArdxError,
    CapabilityError,
    InconclusiveError,
    InputError,
)
from edge_bench.core.parse import json_of
from edge_bench.core.progress import plain_progress
from edge_bench.files.store import typed
from edge_bench.remote.layout import BEGIN, BUNDLE, DIED
from edge_bench.remote.parcel import Parcel, Shipped
from edge_bench.remote.ssh import Disconnected, Ended, Sink, Ssh
from edge_bench.remote.wheel import FILE_NAME

T = TypeVar("T")

OLDEST_PYTHON = (3, 10)
PATIENCE_SECONDS = 600.0
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
NOT_FOUND = (126, 127)
"""Exit codes of a shell that could not start a program."""
ERROR = "error: "

WELCOMES = {
    "started": "runs there (process {pid}), and goes on there if this ends",
    "running": "runs there already (process {pid}): goes on listening",
    "again": "was killed there earlier: started again (process {pid}), goes on with it",
    "ended": "has ended there: fetches the report",
}
"""What a run there is when we come, for people."""

Say = Callable[[str], None]
"""Called with a line for people."""


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """How a run there ended: exit code, error sentences, and the text of each report by name."""

    code: int
    errors: tuple[str, ...]
    files: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Found:
    """Answer of `receive look`."""

    python: tuple[int, ...]
    folder: str
    missing: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Lacks:
    """Answer of `board lacks`."""

    names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class State:
    """Answer of `board start`."""

    state: str
    pid: int | None

    def __post_init__(self) -> None:
        if self.state not in WELCOMES:
            raise InputError(f"expected {' or '.join(WELCOMES)}, came {self.state[:40]!r}")


@dataclass(frozen=True, kw_only=True)
class End:
    """Answer of `board fetch`."""

    code: int
    error: str | None
    files: dict[str, str]

    def __post_init__(self) -> None:
        if not 0 <= self.code < 256:
            raise InputError(f"expected an exit code from 0 to 255, came {self.code}")


class Client:
    """A parcel's job on one host.

    Every method raises ArdxError with the host's name, and Cancelled after `ssh.cancel`.
    """

    def __init__(self, ssh: Ssh, parcel: Parcel, model: str, say: Say, more: int = 0) -> None:
        """`model` is what the user calls that which the board calls BUNDLE, `more` the bytes that
        what was asked for may add to its reports."""
        self._ssh, self._parcel, self._model, self._say = ssh, parcel, model, say
        self._more = more
        self._folder = ""
        self._log = Log(self._tell)
        self._offset = 0
        self._restarts = 0

    def run(self) -> Fetched:
        """From nothing there to the reports here; the job's folder stays there until `clean`."""
        self._ship(self._parcel.files)
        if self._parcel.wheels and self._ask("lacks", Lacks).names:
            self._ship(self._parcel.wheels)
        self._say(_welcome(self._ask("start", State)))
        self._follow()
        fetched = self._patiently(lambda: self._ask("fetch", End, self._more))
        # Where not even the log could take an error, the exit code's file did.
        unlogged = [fetched.error] if fetched.error else []
        errors = [self._named(error) for error in [*self._log.errors, *unlogged]]
        return Fetched(code=fetched.code, errors=tuple(errors), files=fetched.files)

    def clean(self) -> None:
        """Remove the job there."""
        self._patiently(lambda: self._board("clean"))

    def failure(self, fetched: Fetched) -> ArdxError:
        """The error of a run that left no report."""
        sentence = (
            fetched.errors[-1]
            if fetched.errors
            else f"ended with exit code {fetched.code} and no report, after '{self._log.last}'"
        )
        kinds = {EXIT_USAGE: InputError, EXIT_INCONCLUSIVE: InconclusiveError}
        return kinds.get(fetched.code, CapabilityError)(f"{self._ssh.host}: {sentence}")

    def _ship(self, files: dict[str, Shipped]) -> None:
        """Send what is not there yet, unchanged."""
        wanted = [word for name, file in files.items() for word in (name, file.sha256)]
        found = self._answer(self._receive("look", *wanted), Found)
        if found.python < OLDEST_PYTHON:
            version = ".".join(map(str, found.python))
            raise CapabilityError(
                f"{self._ssh.host}: {self._parcel.python} is Python {version}, and ardx needs "
                "3.10 or newer; name another by --remote-python"
            )
        self._folder = found.folder
        missing = {name: file for name, file in files.items() if name in found.missing}
        if missing:
            sizes = {name: file.path.stat().st_size for name, file in missing.items()}
            self._say(f"sends {', '.join(sizes)}: {sum(sizes.values()) / 1e6:.1f} MB")
            coming = [w for n, file in missing.items() for w in (n, file.sha256, str(sizes[n]))]
            self._receive("take", *coming, files=[file.path for file in missing.values()])

    def _follow(self) -> None:
        """Stream the log until the run has ended, however often the connection breaks."""
        while True:
            words = self._words("follow", str(self._offset))
            try:
                ended = self._checked(self._ssh.call(words, sink=self._listener()), (0, DIED))
            except Disconnected as error:
                if error.final:
                    raise
                self._say(
                    f"lost the connection ({error.said}); the benchmark goes on there, and ardx "
                    f"tries to reach it for {PATIENCE_SECONDS / 60:.0f} minutes"
                )
                state = self._patiently(lambda: self._ask("start", State))
                self._count_restarts(state)
                self._say(_welcome(state))
                continue
            self._log.finish()
            if ended.code == DIED:
                raise CapabilityError(
                    f"{self._ssh.host}: the benchmark was killed there, after '{self._log.last}' "
                    "(where memory runs out, the kernel does that); the same command goes on "
                    "with it"
                )
            return

    def _count_restarts(self, state: State) -> None:
        """A board that goes down once lost its power; one that does so again, by what we do."""
        self._restarts += state.state == "again"
        if self._restarts > 1:
            raise CapabilityError(
                f"{self._ssh.host}: went down twice during this benchmark, which now runs again; "
                "check its power supply and cooling, then run the same command"
            )

    def _listener(self) -> Sink:
        """Takes in what one connection says from BEGIN on."""
        before = b""
        begun = False

        def heard(block: bytes) -> None:
            nonlocal before, begun
            if not begun:
                before, begin, block = (before + block).partition(BEGIN)
                begun = bool(begin)
            self._offset += len(block)
            self._log.feed(block)

        return heard

    def _tell(self, line: str) -> None:
        self._say(self._named(line))

    def _named(self, text: str) -> str:
        return text.replace(BUNDLE, self._model)

    def _patiently(self, action: Callable[[], T]) -> T:
        """Do it, again and again while there is no connection."""
        begin, pause = time.monotonic(), FIRST_PAUSE_SECONDS
        while True:
            try:
                return action()
            except Disconnected as error:
                if error.final:
                    raise
                if time.monotonic() - begin > PATIENCE_SECONDS:
                    raise CapabilityError(
                        f"{error}; no connection for {PATIENCE_SECONDS / 60:.0f} minutes; what "
                        "runs there goes on, and the same command fetches its report"
                    ) from None
            self._ssh.pause(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _ask(self, verb: str, kind: type[T], more: int = 0) -> T:
        return self._answer(self._board(verb, more), kind)

    def _board(self, verb: str, more: int = 0) -> Ended:
        return self._checked(self._ssh.call(self._words(verb), more=more))

    def _answer(self, ended: Ended, kind: type[T]) -> T:
        """The JSON of the last line; a login shell may have said something before.

        What is at the other end may be anybody's: an answer is held to its fields and their types.
        """
        last = ended.stdout.rstrip().rpartition(b"\n")[2].decode(errors="replace")
        try:
            data = json_of(last)
            return typed({"names": data} if kind is Lacks else data, kind, "its answer")
        except InputError as error:
            raise CapabilityError(
                f"{self._ssh.host}: not what ardx there says ({error}); see what answers there"
            ) from None
        except ValueError:
            said = last[:80] or "nothing"
            raise CapabilityError(
                f"{self._ssh.host}: {self._parcel.python} there answered with '{said}'; expected "
                "Python 3.10 or newer, or name one by --remote-python"
            ) from None

    def _words(self, verb: str, *more: str) -> list[str]:
        """A question to `board`, out of the wheel that was sent."""
        path = f"PYTHONPATH={self._folder}/{FILE_NAME}"
        module = ["-m", "edge_bench.remote.board", verb, self._folder, *more]
        return ["env", path, self._parcel.python, *module]

    def _receive(self, verb: str, *words: str, files: Sequence[Path] = ()) -> Ended:
        """A word to `receive`, which brings its own text."""
        text = resources.files("edge_bench.remote").joinpath("receive.py").read_text("utf-8")
        command = [self._parcel.python, "-c", text, verb, self._parcel.key, *words]
        bar = plain_progress(f"{self._ssh.host}: sent MiB")
        return self._checked(self._ssh.call(command, sources=files, report_progress=bar))

    def _checked(self, ended: Ended, good: tuple[int, ...] = (0,)) -> Ended:
        if ended.code in good:
            return ended
        lines = ended.stderr.splitlines()
        error = next((line for line in reversed(lines) if line.startswith(ERROR)), None)
        if error:
            raise CapabilityError(f"{self._ssh.host}: {self._named(error.removeprefix(ERROR))}")
        said = lines[-1] if lines else f"exit code {ended.code}"
        python = self._parcel.python
        if ended.code in NOT_FOUND:
            raise CapabilityError(
                f"{self._ssh.host}: {said}; {python} does not start there, so install Python 3.10 "
                "or newer there, or name one by --remote-python"
            )
        raise CapabilityError(
            f"{self._ssh.host}: {python} there ended with '{said}'; expected Python 3.10 or "
            "newer, or name one by --remote-python"
        )


class Log:
    """Lines out of the bytes of a log. Errors are kept, to be told where the run's end is."""

    def __init__(self, tell: Say) -> None:
        self._tell = tell
        self._rest = b""
        self.last = "the start"
        self.errors: list[str] = []

    def feed(self, block: bytes) -> None:
        """Tell every line that is whole now."""
        *lines, self._rest = (self._rest + block).split(b"\n")
        for line in lines:
            self._line(line.decode(errors="replace").rstrip())

    def finish(self) -> None:
        """Nothing more will come."""
        if self._rest:
            self.feed(b"\n")

    def _line(self, line: str) -> None:
        if line.startswith(ERROR):
            self.errors.append(line.removeprefix(ERROR))
            return
        self.last = line or self.last
        self._tell(line)


def _welcome(state: State) -> str:
    return WELCOMES[state.state].format(pid=state.pid)
