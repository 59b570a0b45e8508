"""Sign and verify files by `ssh-keygen -Y`, as OpenSSH 8.0 and later have it.

The signature of FILE is `FILE.sig`, in the namespace NAMESPACE, so that a signature of a mail or a
commit is none of a verdict. ardx never opens a private key: `ssh-keygen` does, or the agent behind
it. Who may sign stands in a file of allowed signers, whose form is that of ssh-keygen(1).
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from edge_bench.core.errors import CapabilityError, InputError
from edge_bench.files.store import atomic_file, refuse_existing_file, require_file

NAMESPACE = "ardx"
SUFFIX = ".sig"
SIGNERS_FORM = (
    "lines of an e-mail address and a public key, such as 'mia@example.org ssh-ed25519 AAAA...'"
)


def signature_path(path: Path) -> Path:
    """Where the signature of a file lies."""
    return path.with_name(path.name + SUFFIX)


def sign(path: Path, key: Path, force: bool) -> Path:
    """Write the signature of `path` by `key` beside it, and return where.

    `key` is a private key, or a public one whose private half an agent holds.

    Raises:
        InputError: no such file or key, or a key that cannot sign.
        CapabilityError: no ssh-keygen here that can.
    """
    require_file(path, "a file to sign")
    require_file(key, "an SSH key")
    out = signature_path(path)
    refuse_existing_file(out, force)
    command = ["-Y", "sign", "-f", str(key), "-n", NAMESPACE]
    with path.open("rb") as content:
        done = _ssh_keygen(command, content)
    if done.returncode or not done.stdout.startswith(b"-----BEGIN SSH SIGNATURE-----"):
        raise InputError(
            f"{key}: expected a key that ssh-keygen signs with, but it says: {_said(done)}; see "
            "that it is a private key that you may read, or one that your agent holds (ssh-add)"
        )
    with atomic_file(out, force) as partial:
        partial.write_bytes(done.stdout)
    return out


def verify(path: Path, signers: Path) -> str:
    """The identity, of those in `signers`, that signed `path`.

    Raises:
        InputError: unsigned, signed by others, or changed since.
        CapabilityError: no ssh-keygen here that can verify.
    """
    require_file(path, "a signed file")
    require_file(signers, f"a file of allowed signers ({SIGNERS_FORM})")
    signature = signature_path(path)
    if not signature.is_file():
        raise InputError(
            f"{path}: expected its signature in {signature.name} beside it, found none; have it "
            "signed by one of the allowed signers"
        )
    files = ["-f", str(signers), "-s", str(signature)]
    found = _ssh_keygen(["-Y", "find-principals", *files])
    identities = found.stdout.decode("utf-8", "replace").splitlines()
    if found.returncode or not identities:
        raise InputError(
            f"{path}: {signature.name} is by none of the signers in {signers} ({_said(found)}); "
            f"have it signed by one of them, or add the signer ({SIGNERS_FORM})"
        )
    for identity in identities:
        with path.open("rb") as content:
            done = _ssh_keygen(["-Y", "verify", *files, "-I", identity, "-n", NAMESPACE], content)
        if done.returncode == 0:
            return identity
    raise InputError(
        f"{path}: its signature in {signature.name} does not hold ({_said(done)}): the file "
        "changed since it was signed, or was signed for something else; fetch both again from who "
        "signed"
    )


def _ssh_keygen(arguments: list[str], content: object = None) -> subprocess.CompletedProcess[bytes]:
    program = shutil.which("ssh-keygen")
    if program is None:
        raise CapabilityError(
            "signatures: need OpenSSH's ssh-keygen; install it: apt install openssh-client"
        )
    done = subprocess.run(  # noqa: S603 - a fixed program without a shell
        [program, *arguments],
        stdin=content if content is not None else subprocess.DEVNULL,  # type: ignore[call-overload]
        capture_output=True,
        check=False,
    )
    if b"unknown option -- Y" in done.stderr or b"illegal option -- Y" in done.stderr:
        raise CapabilityError(
            "signatures: need OpenSSH 8.2 or later, and this ssh-keygen is older; update "
            "openssh-client"
        )
    result: subprocess.CompletedProcess[bytes] = done
    return result


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    """The last line that ssh-keygen said."""
    text = (done.stderr or done.stdout).decode("utf-8", "replace").strip()
    return text.splitlines()[-1].rstrip(".\r") if text else f"exit status {done.returncode}"
