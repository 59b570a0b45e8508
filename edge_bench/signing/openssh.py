"""Sign files, and verify them, with the keys that people have: by the system's `ssh-keygen -Y`.

No key is read here, and nothing of cryptography is done here. A signature lies beside its file as
`FILE.sig`, and `ssh-keygen -Y verify` alone, without ardx, says the same of it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from edge_bench.core.errors import CapabilityError, InputError
from edge_bench.core.markdown import plain
from edge_bench.files.store import atomic_file, refuse_existing_file, require_file

NAMESPACE = "ardx"
"""What signatures are for: one of a commit or a mail, made with the same key, is none of these."""
SUFFIX = ".sig"
TOO_OLD = ("unknown option", "illegal option", "Unsupported operation for -Y", "Too many arguments")
LARGEST_SIGNATURE = 1 << 16
"""Bytes; that of RSA with 16384 bits and a certificate takes a tenth."""


@dataclass(frozen=True, kw_only=True)
class Signer:
    """Who signed: the principals that allowed signers give the key, and its fingerprint."""

    identity: str
    key: str

    def __str__(self) -> str:
        return f"{self.identity} ({self.key})"


def signature_path(file: Path) -> Path:
    """Where the signature of a file lies."""
    return file.with_name(file.name + SUFFIX)


def require_key(key: Path) -> Path:
    """Return `key`, or say that there is none: before anything is made that would be signed by it.

    It is not opened; ssh-keygen does that, or asks the agent that holds its private half.

    Raises:
        InputError: no such file.
        CapabilityError: no ssh-keygen.
    """
    _program()
    return require_file(key, "a key of ssh-keygen, private, or public with its half in an agent")


def signature_of(file: Path, key: Path) -> str:
    """The armoured signature of `file` by `key`; ssh-keygen asks for a passphrase on its terminal.

    Example:
        write_signature(bundle, signature_of(bundle, Path.home() / ".ssh/id_ed25519"), force=False)

    Raises:
        InputError: no key, or none that can sign here and now.
        CapabilityError: no ssh-keygen, or one before OpenSSH 8.2.
    """
    require_key(key)
    with tempfile.TemporaryDirectory(prefix="ardx-") as folder:
        # ssh-keygen asks for a passphrase only where stdin is the terminal, so the file is named;
        # and then it writes beside that name, where a kill would leave half a signature.
        named = Path(folder) / "signed"
        named.symlink_to(file.absolute())
        words = ["-Y", "sign", "-f", os.fspath(key), "-n", NAMESPACE, os.fspath(named)]
        done = subprocess.run(  # noqa: S603
            [_program(), *words], capture_output=True, text=True, check=False, env=_environment()
        )
        if done.returncode != 0:
            _refuse_to_sign(key, done.stderr)
        return signature_path(named).read_text(encoding="ascii")


def write_signature(file: Path, signature: str, force: bool) -> Path:
    """Write `signature` beside `file`, whole or not at all.

    Raises:
        InputError: there is one, and no `force`.
    """
    path = signature_path(file)
    with atomic_file(path, force) as partial:
        partial.write_text(signature, encoding="ascii")
    return path


def sign(file: Path, key: Path, force: bool) -> Path:
    """Write the signature of `file` by `key` beside it; errors are those of its two steps."""
    refuse_existing_file(signature_path(file), force)
    return write_signature(file, signature_of(require_file(file, "a file to sign"), key), force)


def verify(file: Path, signers: Path) -> Signer:
    """Who of `signers` (allowed signers, as in ssh-keygen(1)) signed `file`.

    Example:
        print(verify(Path("student.ardx"), Path("allowed_signers")))

    Raises:
        InputError: unsigned, changed since, signed for something else, by somebody else, or by a
            key that is expired.
        CapabilityError: no ssh-keygen, or one before OpenSSH 8.2.
    """
    require_file(signers, "allowed signers: lines of a name and a public key")
    require_file(file, "a signed file")
    signature = signature_path(file)
    if not signature.exists():
        raise InputError(
            f"{file}: unsigned: expected its signature in {signature}, found none; ask its maker "
            "for the signature, too"
        )
    require_file(signature, "a signature of ssh-keygen")
    if signature.stat().st_size > LARGEST_SIGNATURE:
        raise InputError(f"{signature}: expected a signature of ssh-keygen, found a larger file")
    named = ["-s", os.fspath(signature)]
    made = _ask(["check-novalidate", "-n", NAMESPACE, *named], file)
    if made.returncode != 0:
        _refuse_signature(file, signature, made.stderr)
    found = _key(made.stdout)
    allowed = ["-f", os.fspath(signers)]
    asked = _ask(["find-principals", *allowed, *named], file)
    told = asked.stderr
    for principal in asked.stdout.splitlines() if asked.returncode == 0 else ():
        words = ["verify", *allowed, "-I", principal, "-n", NAMESPACE, *named]
        answer = _ask(words, file)
        if answer.returncode == 0:
            return Signer(identity=plain(principal), key=found)
        told = answer.stderr
    _refuse_signer(file, signers, found, told)


def _program() -> str:
    program = shutil.which("ssh-keygen")
    if program is None:
        raise CapabilityError(
            "ssh-keygen: expected it on the PATH to sign and verify, found none; install OpenSSH's "
            "client (Debian and Ubuntu: apt install openssh-client)"
        )
    return program


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C"}


def _ask(words: list[str], file: Path) -> subprocess.CompletedProcess[str]:
    """The answer of `ssh-keygen -Y` about `file`."""
    with file.open("rb") as given:
        return subprocess.run(  # noqa: S603
            [_program(), "-Y", *words],
            stdin=given,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            env=_environment(),
        )


def _key(text: str) -> str:
    found = re.search(r"with (\S+) key (SHA256:\S+)", text)
    return " ".join(found.groups()) if found else "a key that ssh-keygen does not name"


def _refuse_old(told: str) -> None:
    if any(sign in told for sign in TOO_OLD):
        raise CapabilityError(
            "ssh-keygen: expected that of OpenSSH 8.2 (2020) or newer, which signs and verifies "
            "files, came an older one; update OpenSSH's client"
        )


def _said(told: str) -> str:
    """What ssh-keygen said, as part of a sentence."""
    lines = [line.strip() for line in told.splitlines() if line.strip(" @\r")]
    return plain(lines[-1]).rstrip(".") if lines else "it does not say why"


def _refuse_to_sign(key: Path, told: str) -> NoReturn:
    _refuse_old(told)
    agent = f"put it into an agent (ssh-add {key}) and sign again with its public half, {key}.pub"
    if "too open" in told:
        why = f"others can read it, so ssh-keygen does not use it; chmod 600 {key}"
    elif "passphrase" in told:
        why = f"its passphrase was not given, or is another; give it on a terminal, or {agent}"
    elif "No private key found" in told:
        why = "its private half is in no agent here; put it there with ssh-add, or name its file"
    elif "load public key" in told or "invalid format" in told:
        why = "it is no key of OpenSSH; make one with ssh-keygen -t ed25519"
    else:
        why = f"ssh-keygen says: {_said(told)}; see that ssh-keygen -Y sign works with it"
    raise InputError(f"--sign {key}: expected a key that can sign here, but {why}")


def _refuse_signature(file: Path, signature: Path, told: str) -> NoReturn:
    _refuse_old(told)
    again = "ask its maker for both again"
    if "namespace" in told:
        raise InputError(
            f"{signature}: expected a signature for {NAMESPACE} (ssh-keygen -n {NAMESPACE}), came "
            f"one that was made for something else; {again}"
        )
    if "incorrect signature" in told:
        raise InputError(
            f"{file}: expected the file that {signature} was made of, came another, or one that "
            f"was changed since; {again}"
        )
    raise InputError(
        f"{signature}: expected a signature of ssh-keygen, but it cannot be read "
        f"({_said(told)}); {again}"
    )


def _refuse_signer(file: Path, signers: Path, key: str, told: str) -> NoReturn:
    by = f"{file}: signed by {key}, "
    line = next((said for said in told.splitlines() if said.startswith(f"{signers}:")), "")
    if "expired" in told or "not yet valid" in told:
        when = "has expired" if "expired" in told else "is not yet valid"
        raise InputError(f"{by}which {when} in {signers}; have it signed with a key that is valid")
    if "not permitted for use" in told:
        raise InputError(
            f"{by}which {signers} does not allow to sign for {NAMESPACE}; have it signed with "
            f'another key, or add {NAMESPACE} to the namespaces="..." of that line'
        )
    if "No principal matched" in told and not line:
        raise InputError(
            f"{by}whom {signers} does not list; run and believe nothing of it, or add that key "
            "there if you know whose it is"
        )
    raise InputError(
        f"{by}but {signers} cannot tell whose that is ({_said(line or told)}); expected lines of a "
        "name and a public key"
    )
