"""The hash inside an ONNX file of ours, over all of the file, by which damage is known anywhere.

A fingerprint may stay behind when a file is copied; this travels inside, as an entry of the
metadata. It is the sha256 of the file with zeros in the hash's own place. Files of others, and of
an ardx of before, have none.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from edge_bench.core.errors import InputError
from edge_bench.files.kinds import Kind, kind_of
from edge_bench.files.onnx_file import parsed

KEY = "ardx_sha256"
BLANK = "0" * 64
# As protobuf writes an entry: key = 1, value = 2, each after its length. Looked for among the
# bytes: in a damaged file, what would lead to it may be what is damaged.
ENTRY = b"\x0a" + bytes([len(KEY)]) + KEY.encode() + b"\x12" + bytes([len(BLANK)])
SEALED = re.compile(re.escape(ENTRY) + b"([0-9a-f]{%d})" % len(BLANK))


def seal(path: Path) -> None:
    """Put the hash into an ONNX file whose metadata has BLANK at KEY."""
    content = bytearray(path.read_bytes())
    at = content.index(ENTRY + BLANK.encode()) + len(ENTRY)
    content[at : at + len(BLANK)] = hashlib.sha256(content).hexdigest().encode()
    path.write_bytes(content)


def is_sealed(path: Path) -> bool:
    """Does the model file carry a hash of itself?"""
    if kind_of(path) is Kind.ENGINE:
        return False
    with parsed(path) as content:
        return SEALED.search(content) is not None


def require_as_sealed(path: Path) -> None:
    """Refuse an ONNX file that carries another hash than its own.

    Raises:
        InputError: it was damaged or changed since it was exported.
    """
    if not is_sealed(path):
        return
    with parsed(path) as content:
        found = SEALED.search(content)
        assert found is not None
        digest = hashlib.sha256(content[: found.start(1)])
        digest.update(BLANK.encode())
        digest.update(content[found.end(1) :])
        named = found[1].decode()
    if digest.hexdigest() != named:
        raise InputError(
            f"{path}: its content is not what was exported (the {KEY} in its metadata is of other "
            "content), so it was damaged or changed; copy it again or export it again, or, where "
            f"it was changed on purpose, take {KEY} out of its metadata"
        )
