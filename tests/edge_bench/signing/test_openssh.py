"""What ssh-keygen signed and verifies, and what each refusal says."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_bench.core.errors import CapabilityError, InputError
from edge_bench.signing.openssh import signature_of, signature_path, verify, write_signature

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Signers = Callable[..., Path]


ON_A_TERMINAL = """
import os, pty, sys
pid, terminal = pty.fork()
if not pid:
    from pathlib import Path
    from edge_bench.signing.openssh import signature_of
    print(signature_of(Path(sys.argv[1]), Path(sys.argv[2])))
    sys.exit()
said = b""
while b"END SSH SIGNATURE" not in said:
    said += os.read(terminal, 1000)
    if said.endswith(b"passphrase: "):
        os.write(terminal, b"a secret\\n")
os.waitpid(pid, 0)
print(said.decode())
"""


@pytest.fixture
def signed(keys: Path, tmp_path: Path) -> Path:
    """A file that alice signed."""
    file = tmp_path / "evidence of today.json"
    file.write_bytes(b"evidence\n" * 1000)
    write_signature(file, signature_of(file, keys / "alice"), force=False)
    return file


@pytest.fixture
def agent(keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An agent that holds alice's key, whose file is gone: the public half is left."""
    programs = shutil.which("ssh-agent"), shutil.which("ssh-add")
    if None in programs:
        pytest.skip("no ssh-agent here; apt install openssh-client")
    socket = tmp_path / "agent"
    started = subprocess.run(
        [str(programs[0]), "-s", "-a", str(socket)], capture_output=True, text=True, check=True
    )
    pid = int(started.stdout.split("SSH_AGENT_PID=")[1].split(";")[0])
    monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
    subprocess.run([str(programs[1]), "-q", str(keys / "alice")], check=True, capture_output=True)
    public = tmp_path / "alice.pub"
    shutil.copy(keys / "alice.pub", public)
    yield public
    os.kill(pid, signal.SIGTERM)


def test_what_was_signed_here_is_verified_by_ssh_keygen_alone(
    signed: Path, signers: Signers, ssh_keygen: Run
) -> None:
    words = ("-Y", "verify", "-f", signers(), "-I", "alice@example.org", "-n", "ardx")
    with signed.open("rb") as file:
        done = ssh_keygen(*words, "-s", signature_path(signed), stdin=file)
    assert done.returncode == 0, done.stderr


def test_what_ssh_keygen_alone_signed_is_verified_here(
    tmp_path: Path, keys: Path, signers: Signers, ssh_keygen: Run
) -> None:
    file = tmp_path / "by-hand"
    file.write_text("x")
    assert ssh_keygen("-Y", "sign", "-f", keys / "alice", "-n", "ardx", file).returncode == 0
    signer = verify(file, signers())
    assert signer.identity == "alice@example.org"
    assert signer.key.startswith("ED25519 SHA256:")


def test_the_second_name_of_a_key_counts_where_the_first_is_of_another_namespace(
    signed: Path, signers: Signers, keys: Path
) -> None:
    key = (keys / "alice.pub").read_text(encoding="ascii")
    allowed = signers(options='namespaces="git"')
    with allowed.open("a", encoding="ascii") as file:
        file.write(f"*@work.example {key}")
    with pytest.raises(InputError, match="namespaces"):
        verify(signed, allowed)


def test_a_public_key_signs_where_an_agent_holds_the_private_one(
    agent: Path, tmp_path: Path, signers: Signers
) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    write_signature(file, signature_of(file, agent), force=False)
    assert verify(file, signers()).identity == "alice@example.org"


def test_a_key_with_a_passphrase_and_no_terminal(
    keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SSH_ASKPASS", "SSH_ASKPASS_REQUIRE", "DISPLAY", "SSH_AUTH_SOCK"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(InputError, match=r"--sign .*locked: .*passphrase .*ssh-add"):
        signature_of(file, keys / "locked")
    assert list(tmp_path.iterdir()) == [file]


def test_a_passphrase_is_asked_for_on_the_terminal(
    keys: Path, tmp_path: Path, signers: Signers, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SSH_ASKPASS", "SSH_ASKPASS_REQUIRE", "DISPLAY", "SSH_AUTH_SOCK"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "file"
    file.write_text("x")
    words = [sys.executable, "-c", ON_A_TERMINAL, str(file), str(keys / "locked")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=True)
    said = done.stdout.replace("\r", "")
    armoured = said[said.index("-----BEGIN") :].strip() + "\n"
    write_signature(file, armoured, force=False)
    assert verify(file, signers("locked")).identity == "locked@example.org"


def test_keys_that_cannot_sign(keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    file = tmp_path / "file"
    file.write_text("x")
    shutil.copy(keys / "alice.pub", tmp_path / "alone.pub")
    open_key = tmp_path / "open"
    shutil.copy(keys / "alice", open_key)
    open_key.chmod(0o644)
    with pytest.raises(InputError, match="missing: expected a key"):
        signature_of(file, tmp_path / "missing")
    with pytest.raises(InputError, match="in no agent here"):
        signature_of(file, tmp_path / "alone.pub")
    with pytest.raises(InputError, match="no key of OpenSSH"):
        signature_of(file, file)
    with pytest.raises(InputError, match="chmod 600"):
        signature_of(file, open_key)


def test_an_existing_signature_stays_without_force(signed: Path, keys: Path) -> None:
    before = signature_path(signed).read_bytes()
    with pytest.raises(InputError, match="exists already"):
        write_signature(signed, signature_of(signed, keys / "mallory"), force=False)
    assert signature_path(signed).read_bytes() == before


def test_refusals(signed: Path, signers: Signers, tmp_path: Path) -> None:
    def refused(signers_file: Path) -> str:
        with pytest.raises(InputError) as caught:
            verify(signed, signers_file)
        return str(caught.value)

    assert "does not list" in refused(signers("mallory"))
    assert "has expired" in refused(signers(options='valid-before="20200101"'))
    assert "not yet valid" in refused(signers(options='valid-after="20990101"'))
    assert "does not allow to sign for ardx" in refused(signers(options='namespaces="git"'))
    torn = tmp_path / "torn"
    torn.write_text("alice@example.org\n")
    assert "cannot tell whose that is (" in refused(torn)
    assert "expected allowed signers" in refused(tmp_path / "none")


def test_a_change_of_one_bit_is_refused(signed: Path, signers: Signers) -> None:
    data = bytearray(signed.read_bytes())
    data[4321] ^= 1
    signed.write_bytes(data)
    with pytest.raises(InputError, match="changed since"):
        verify(signed, signers())


def test_the_signature_of_another_file(signed: Path, signers: Signers, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("other")
    shutil.copy(signature_path(signed), signature_path(other))
    with pytest.raises(InputError, match=r"other: expected the file that .*other\.sig was made of"):
        verify(other, signers())


def test_unsigned_and_unreadable(signed: Path, signers: Signers) -> None:
    signature = signature_path(signed)
    whole = signature.read_text(encoding="ascii")
    for text in (whole[: len(whole) // 2], "no signature", whole.replace("U1NI", "AAAA")):
        signature.write_text(text, encoding="ascii")
        with pytest.raises(InputError, match="cannot be read"):
            verify(signed, signers())
    signature.unlink()
    with pytest.raises(InputError, match="unsigned"):
        verify(signed, signers())


def test_a_signature_that_was_made_for_something_else(
    signed: Path, signers: Signers, keys: Path, ssh_keygen: Run
) -> None:
    signature_path(signed).unlink()
    assert ssh_keygen("-Y", "sign", "-f", keys / "alice", "-n", "git", signed).returncode == 0
    with pytest.raises(InputError, match="made for something else"):
        verify(signed, signers())


def test_no_ssh_keygen(
    signed: Path, signers: Signers, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = signers()
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    with pytest.raises(CapabilityError, match="apt install openssh-client"):
        verify(signed, allowed)
    with pytest.raises(CapabilityError, match="apt install openssh-client"):
        signature_of(signed, keys / "alice")


@pytest.mark.parametrize(
    "says", ["ssh-keygen: unknown option -- Y", 'Unsupported operation for -Y: \\"x\\"']
)
def test_an_ssh_keygen_that_is_too_old(
    signed: Path,
    signers: Signers,
    keys: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    says: str,
) -> None:
    # OpenSSH before 8.2 is in no distribution that is still kept; these are its words.
    old = tmp_path / "bin" / "ssh-keygen"
    old.parent.mkdir()
    old.write_text(f'#!/bin/sh\necho "{says}" >&2\nexit 1\n')
    old.chmod(0o755)
    allowed = signers()
    monkeypatch.setenv("PATH", str(old.parent), prepend=os.pathsep)
    with pytest.raises(CapabilityError, match=r"OpenSSH 8\.2"):
        verify(signed, allowed)
    with pytest.raises(CapabilityError, match=r"OpenSSH 8\.2"):
        signature_of(signed, keys / "alice")
