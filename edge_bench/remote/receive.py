"""The first thing that runs on the board: which files of a job are there, and take the others in.

Its text goes to the board's Python as `-c TEXT`, since nothing else of ours is there yet. So it
imports the standard library alone, and its syntax is old enough to tell an old Python's version.

    look KEY [NAME SHA256]...                one line of JSON: python, folder, missing
    take KEY [NAME SHA256 SIZE]... < FILES   each whole and of that hash, or not at all
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

ROOT = Path("~/.cache/ardx/remote")
BLOCK = 1 << 20


def look(folder: Path, wanted: list[str]) -> None:
    """Say what is missing, or was changed, of pairs of name and hash."""
    pairs = zip(wanted[::2], wanted[1::2])  # noqa: B905, since 3.10 is not certain here
    missing = [name for name, sha256 in pairs if _sha256(folder / name) != sha256]
    found = {"python": sys.version_info[:3], "folder": str(folder), "missing": missing}
    print(json.dumps(found))


def take(folder: Path, coming: list[str]) -> None:
    """Write stdin to files of the folder, as names, hashes and sizes say.

    Raises:
        OSError: no room, or no right to write.
        EOFError: the bytes that came are not those that were sent.
    """
    for name, sha256, size in zip(coming[::3], coming[1::3], coming[2::3]):  # noqa: B905
        path = folder / name
        try:
            _take_one(path, sha256, int(size))
        except OSError as error:
            # A failed write names no file.
            raise OSError(error.errno, error.strerror, str(path)) from None


def _take_one(path: Path, sha256: str, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    digest = hashlib.sha256()
    try:
        with partial.open("wb") as file:
            while size > 0:
                block = sys.stdin.buffer.read(min(size, BLOCK))
                if not block:
                    break
                size -= len(block)
                digest.update(block)
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        if digest.hexdigest() != sha256:
            raise EOFError(f"{path}: cut short on the way; run the command again")
        partial.replace(path)
    finally:
        if partial.exists():
            partial.unlink()


def _sha256(path: Path) -> str | None:
    if not path.is_file():
        return None
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(BLOCK), b""):
            digest.update(block)
    return digest.hexdigest()


def main(verb: str, key: str, *words: str) -> None:
    """Do what the first word says; an error is one line, and exit code 3."""
    folder = ROOT.expanduser() / key
    try:
        look(folder, list(words)) if verb == "look" else take(folder, list(words))
    except EOFError as error:
        sys.exit(_fail(str(error)))
    except OSError as error:
        sys.exit(
            _fail(
                f"{error.filename}: {error.strerror}; free space there, or make it writable for you"
            )
        )


def _fail(sentence: str) -> int:
    print("error: " + sentence, file=sys.stderr)
    return 3


if __name__ == "__main__":
    main(*sys.argv[1:])
