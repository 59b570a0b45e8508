"""The hash that a JSON file of ours carries over its own content, by which an edited one is told.

It finds damage, slips and edits by hand; whoever edits a file on purpose can write the hash anew
(see SECURITY.md for signatures).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from typing import Any

from edge_bench.core.errors import InputError
from edge_bench.core.formats import KEY, Format

SEAL = "content_sha256"
"""The field of the outermost object that holds the hash of all the rest."""


def sealed(kind: type[Any], plain: dict[str, Any]) -> dict[str, Any]:
    """The fields of a value with their hash, where the format of `kind` has one."""
    if _sealed_from(kind) is None:
        return plain
    return {**plain, SEAL: content_sha256(plain)}


def unsealed(data: dict[str, Any], kind: type[Any], origin: str) -> dict[str, Any]:
    """The fields that a file holds, as far as `kind` has them.

    Raises:
        InputError: other content than was written, or no hash where its version always has one.
    """
    first, format_ = _sealed_from(kind), getattr(kind, "FORMAT", None)
    version, seal = data.get(KEY), data.get(SEAL)
    if first is None or not isinstance(format_, Format):
        return data
    if type(version) is not int or version > format_.version:
        return data  # Refused by its version.
    if seal is None and version >= first:
        raise InputError(
            f"{origin}: expected {format_.name} with the sha256 of its content, which each of "
            f"version {version} has, came one without: it was edited; {format_.anew}"
        )
    if seal is not None and seal != content_sha256(data):
        raise InputError(
            f"{origin}: expected {format_.name} as it was written, but its content does not have "
            f"the sha256 that it names: it was edited or damaged; {format_.anew}"
        )
    if SEAL in {field.name for field in fields(kind)}:
        return data
    return {name: value for name, value in data.items() if name != SEAL}


def content_sha256(plain: dict[str, Any]) -> str:
    """sha256 of all fields but that of the hash, as JSON without spaces and with sorted keys."""
    digest = hashlib.sha256()
    rest = {name: value for name, value in plain.items() if name != SEAL}
    # Piece by piece: a report of a million images is not in memory once more as text.
    for piece in json.JSONEncoder(
        sort_keys=True, separators=(",", ":"), allow_nan=False
    ).iterencode(rest):
        digest.update(piece.encode())
    return digest.hexdigest()


def _sealed_from(kind: type[Any]) -> int | None:
    format_ = getattr(kind, "FORMAT", None)
    return format_.sealed_from if isinstance(format_, Format) else None
