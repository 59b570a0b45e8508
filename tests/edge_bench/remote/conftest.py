"""A board of its own: a real sshd on the loopback, with its own keys and its own home folder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from ...loopback import SSHD, TIMEOUT_SECONDS, loopback, make_keys, trust, wait_for


@pytest.fixture
def wait() -> Callable[..., None]:
    return wait_for


@dataclass
class Board:
    """A running sshd, what ssh needs to reach it, and what lies there."""

    name: str
    folder: Path
    port: int
    sshd: psutil.Process

    @property
    def root(self) -> Path:
        """Where ardx keeps its files there."""
        return self.folder / "home" / ".cache" / "ardx" / "remote"

    @property
    def job(self) -> Path:
        """The only job there."""
        (found,) = (path for path in self.root.iterdir() if (path / "job.json").exists())
        return found

    @property
    def left(self) -> set[str]:
        """What ardx left there."""
        return {path.name for path in self.root.iterdir()} if self.root.exists() else set()

    def runners(self) -> list[psutil.Process]:
        """Benchmarks that run there, which no sshd is the parent of."""
        return [p for p in psutil.process_iter() if self._is(p, "edge_bench.job")]

    def cut(self, *, kill_runner: bool = False, off: bool = False) -> None:
        """Kill the sshd processes of every connection, as a cable that is pulled.

        With `kill_runner` the benchmark dies first, and nobody there is left to tell; with `off`
        no further connection is taken.
        """
        sessions = self.sshd.children(recursive=True)
        if off:
            self.sshd.kill()
        for process in sessions:
            process.suspend()
        if kill_runner:
            for runner in self.runners():
                runner.kill()
        for process in sessions:
            process.kill()

    def pause(self) -> None:
        """Stop the benchmark where it is, until `resume`."""
        for runner in self.runners():
            runner.suspend()

    def resume(self) -> None:
        """Let it go on."""
        for runner in self.runners():
            runner.resume()

    def stop(self) -> None:
        """End what a test left running there."""
        for runner in self.runners():
            runner.kill()

    def _is(self, process: psutil.Process, module: str) -> bool:
        try:
            words = process.cmdline()
        except psutil.Error:
            return False
        return module in words and any(str(self.root) in word for word in words)


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's key and two hosts' keys."""
    if SSHD is None or shutil.which("ssh") is None:
        pytest.skip("no sshd here: apt-get install openssh-server openssh-client")
    folder = tmp_path_factory.mktemp("keys")
    make_keys(folder)
    return folder


@pytest.fixture
def make_board(keys: Path, tmp_path: Path) -> Iterator[Callable[..., Board]]:
    """Start a board called `name`, whose processes may write files of at most `most_kib`."""
    config = tmp_path / "ssh_config"
    with ExitStack() as stack:

        def make(name: str = "board", most_kib: int | None = None) -> Board:
            folder = tmp_path / name
            port, sshd = stack.enter_context(loopback(keys, folder, config, most_kib))
            board = Board(name, folder, port, sshd)
            stack.callback(board.stop)
            return board

        yield make


@pytest.fixture
def retrust() -> Callable[..., None]:
    return trust


@pytest.fixture
def board(make_board: Callable[..., Board]) -> Board:
    return make_board()


class Client:
    """A client in a process of its own, whose stderr is read line by line."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._timer = threading.Timer(TIMEOUT_SECONDS, self._process.kill)
        self._timer.start()
        self.lines: list[str] = []

    def until(self, part: str) -> str:
        """Read until a line holds `part`, and return that line."""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.lines.append(line.rstrip("\n"))
            if part in line:
                return self.lines[-1]
        raise AssertionError(f"no line with {part!r} in {self.lines}")

    def signal(self, number: signal.Signals) -> None:
        """To its whole group, as a terminal sends it."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def end(self) -> tuple[int, str]:
        """Its exit code and stdout."""
        stdout, stderr = self._process.communicate()
        self._timer.cancel()
        self.lines += stderr.splitlines()
        return self._process.returncode, stdout


@pytest.fixture
def client() -> Iterator[Callable[..., Client]]:
    """Start `python -m edge_bench` with these words."""
    with ExitStack() as stack:

        def start(*words: object) -> Client:
            command = [sys.executable, "-B", "-m", "edge_bench", *map(str, words)]
            started = Client(command)
            stack.callback(started.end)
            stack.callback(started.signal, signal.SIGKILL)
            return started

        yield start
