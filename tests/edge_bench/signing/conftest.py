"""Real keys, made by the system's ssh-keygen, and the signers who are allowed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def ssh_keygen() -> Run:
    """Run ssh-keygen as people do."""
    program = shutil.which("ssh-keygen")
    if program is None:
        pytest.skip("no ssh-keygen here; apt install openssh-client")

    def run(*words: object, **how: object) -> subprocess.CompletedProcess[str]:
        plain: dict[str, object] = {"stdin": subprocess.DEVNULL, "capture_output": True}
        return subprocess.run(  # type: ignore[call-overload,no-any-return]
            [program, *map(str, words)], text=True, check=False, **(plain | how)
        )

    return run


@pytest.fixture(scope="session")
def keys(ssh_keygen: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the keys of alice, of mallory, and one that has a passphrase."""
    folder = tmp_path_factory.mktemp("keys")
    for name, passphrase in (("alice", ""), ("mallory", ""), ("locked", "a secret")):
        words = ("-q", "-t", "ed25519", "-C", "", "-N", passphrase, "-f", folder / name)
        assert ssh_keygen(*words).returncode == 0
    return folder


@pytest.fixture
def signers(keys: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write a file of allowed signers: one name, a key, and what stands between them."""

    def write(who: str = "alice", options: str = "") -> Path:
        path = tmp_path / f"signers-{who}"
        key = (keys / f"{who}.pub").read_text(encoding="ascii")
        path.write_text(f"{who}@example.org {options} {key}".replace("  ", " "), encoding="ascii")
        return path

    return write
