"""One host through the user's own `ssh`: their config, agent, jump hosts and host keys hold.

Never a password prompt, never an unknown host key, never a shell here. What goes to the shell
there is quoted.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from edge_bench.core.errors import CapabilityError, InputError
from edge_bench.core.progress import ProgressCallback, no_progress

HOST = re.compile(r"(ssh://)?([\w.+-]+@)?[\w\[.:][\w.:%\]/-]*")
OPTIONS = (
    "BatchMode=yes",  # a key or nothing: no prompt for a password, none for an unknown host
    "ConnectTimeout=15",
    "ServerAliveInterval=10",  # a dead link is noticed within a minute
    "ServerAliveCountMax=6",
    "ClearAllForwardings=yes",  # the user's forwards belong to the user's own session
    "RemoteCommand=none",
)
LOST = 255
"""Exit code of `ssh` for its own errors; none of our commands there ends with it."""
BLOCK = 1 << 20
MOST_ANSWER = 128 << 20
"""Bytes of an answer; a report of a million images and ten sets has about 100 MB, timings apart."""
REMEDIES = (
    (
        "host key verification failed",
        "ssh to it by hand once, compare the fingerprint of its key with the one that the board "
        "itself shows, and run this again",
        True,
    ),
    (
        "permission denied",
        "give it your public key (ssh-copy-id) or start your agent; ardx asks for no password",
        True,
    ),
    ("could not resolve", "check the name, or give it a Host entry in your ssh config", False),
    ("", "check that it is on and that ssh to it works by hand", False),
)
"""Part of what ssh said, the remedy, and whether another try would be refused just so."""

Sink = Callable[[bytes], None]


class Disconnected(CapabilityError):  # noqa: N818, what happened
    """There was no connection, or it broke; `final` where trying again cannot help."""

    def __init__(self, host: str, said: str) -> None:
        _, remedy, self.final = next(r for r in REMEDIES if r[0] in said.lower())
        self.said = said.removeprefix("ssh: ") or "the connection broke"
        super().__init__(f"{host}: ssh: {self.said}; {remedy}")


class Cancelled(Exception):  # noqa: N818, no error
    """The user wants no more of this."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A command that ran there: its exit code, stdout and stderr."""

    code: int
    stdout: bytes
    stderr: str


class Ssh:
    """One host; one command at a time.

    Raises:
        InputError: no name of a host, or no such config file.
        CapabilityError: no `ssh` on PATH.
    """

    def __init__(self, host: str, config: Path | None = None) -> None:
        if not HOST.fullmatch(host):
            raise InputError(
                f"--host {host}: expected a host as ssh takes it, such as pi@board or a name in "
                "your ssh config"
            )
        if config is not None and not config.exists():
            raise InputError(f"--ssh-config {config}: expected ssh's config file, found none there")
        program = shutil.which("ssh")
        if program is None:
            raise CapabilityError("--host: needs ssh on PATH; install OpenSSH's client")
        self.host = host
        self._command = [program, "-T", "-x"]
        self._command += ["-F", str(config)] if config else []
        self._command += [word for option in OPTIONS for word in ("-o", option)]
        self._command += ["--", host]
        self._cancelled = Event()
        self._process: subprocess.Popen[bytes] | None = None

    def command(self, words: list[str]) -> list[str]:
        """What is started here to run `words` there, each of which arrives there as one word."""
        return [*self._command, shlex.join(words)]

    def call(
        self,
        words: list[str],
        *,
        sources: Sequence[Path] = (),
        sink: Sink | None = None,
        report_progress: ProgressCallback = no_progress,
        more: int = 0,
    ) -> Ended:
        """Run a command there to its end.

        Its stdin are the files `sources`; without any it stays open, and empty, until the end. Its
        stdout goes to `sink` as it comes, and is returned where there is none: MOST_ANSWER bytes at
        the most, and `more`.

        Raises:
            CapabilityError: an answer that does not end.
            Disconnected: no connection, or it broke.
            Cancelled: `cancel` was called.
        """
        kept: list[bytes] = []
        size, most = 0, MOST_ANSWER + more
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(  # noqa: S603, no shell, and the host's name was checked
                self.command(words),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                # Ctrl-C is for us, who then close the connections; see `cancel`.
                start_new_session=True,
            )
            with process:
                self._process = process
                if self._cancelled.is_set():
                    process.terminate()
                if sources:
                    _pump(sources, process, report_progress)
                assert process.stdout is not None
                while block := process.stdout.read1(BLOCK):  # type: ignore[attr-defined]
                    (sink or kept.append)(block)
                    size += len(block)
                    if sink is None and size > most:
                        process.kill()
                        raise CapabilityError(
                            f"{self.host}: its answer is longer than {most >> 20} MiB, which no "
                            "report of what was asked for is; see what answers there"
                        )
                _close(process)
            errors.seek(0)
            said = errors.read().decode(errors="replace")
        if self._cancelled.is_set():
            raise Cancelled
        if process.returncode < 0 or process.returncode == LOST:
            raise Disconnected(self.host, _last_line(said))
        return Ended(code=process.returncode, stdout=b"".join(kept), stderr=said)

    def cancel(self) -> None:
        """End the command that runs, and every later one."""
        self._cancelled.set()
        if self._process is not None:
            self._process.terminate()

    def pause(self, seconds: float) -> None:
        """Wait, unless cancelled."""
        if self._cancelled.wait(seconds):
            raise Cancelled


def _pump(
    sources: Sequence[Path], process: subprocess.Popen[bytes], report_progress: ProgressCallback
) -> None:
    """The files into the command's stdin; a command that ends early says why by its exit code."""
    assert process.stdin is not None
    size, done = sum(source.stat().st_size for source in sources), 0
    with suppress(BrokenPipeError):
        for source in sources:
            with source.open("rb") as file:
                while block := file.read(BLOCK):
                    process.stdin.write(block)
                    done += len(block)
                    report_progress(done >> 20, size >> 20, "")
    _close(process)


def _close(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.close()


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else ""
