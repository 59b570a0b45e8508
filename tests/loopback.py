"""An sshd on the loopback that is a board: with its own keys and its own home folder."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

TIMEOUT_SECONDS = 60
SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
KEYS = ("user_key", "host_key", "other_key")

SERVER = """
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PidFile none
SetEnv HOME={folder}/home
# The default's second key exchange, against computers of the future, takes half of each connection.
KexAlgorithms curve25519-sha256
"""
CLIENT = """
Host {name}
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentityFile {folder}/user_key
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile {folder}/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
"""


def wait_for(happened: Callable[[], bool], what: str) -> None:
    """Until it has happened, which another process sees to."""
    end = time.monotonic() + TIMEOUT_SECONDS
    while not happened():
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.01)


def make_keys(folder: Path) -> None:
    """A user's key and two hosts' keys."""
    for name in KEYS:
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True)


def trust(folder: Path, port: int, key: str = "host_key") -> None:
    """Know the board by this key."""
    kind, text = (folder / f"{key}.pub").read_text().split()[:2]
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {kind} {text}\n")


@contextmanager
def loopback(
    keys: Path, folder: Path, config: Path, most_kib: int | None = None
) -> Iterator[tuple[int, psutil.Process]]:
    """(port, sshd) of a board in the new `folder`, which `config` of ssh knows by that name.

    Args:
        keys: a folder of `make_keys`.
        most_kib: its processes write no file beyond this.
    """
    shutil.copytree(keys, folder)
    (folder / "home").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    trust(folder, port)
    (folder / "sshd").write_text(SERVER.format(port=port, folder=folder))
    with config.open("a") as file:
        user = getpass.getuser()
        file.write(CLIENT.format(name=folder.name, port=port, folder=folder, user=user))
    limit = f"ulimit -f {2 * most_kib}; " if most_kib else ""
    with _sshd(f'{limit}exec "$@"', folder / "sshd") as process:
        yield port, process


@contextmanager
def _sshd(script: str, config: Path) -> Iterator[psutil.Process]:
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    assert SSHD is not None
    command = ["/bin/sh", "-c", script, "sh", SSHD, "-D", "-e", "-f", str(config)]
    log = config.with_name("sshd.log")
    with log.open("wb") as file, subprocess.Popen(command, stderr=file) as process:
        try:
            wait_for(lambda: "Server listening" in log.read_text(), f"sshd of {config}")
            yield psutil.Process(process.pid)
        finally:
            with suppress(psutil.NoSuchProcess):  # A test may have ended it.
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
            process.kill()
