"""The model card of an ONNX file, read without onnx or a runtime.

The session options of a runtime are on the card and must be known before its session exists, and
opening the file twice would double a load and the peak memory that `bench` reports. So this walks
the file's outermost protobuf fields and jumps over all but the metadata, whatever the graph's size.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from edge_bench.errors import InputError
from edge_bench.spec import ModelCard
from edge_bench.store import from_json

CARD_KEY = "ardx_card"
"""Key of the model card (JSON) among the ONNX metadata properties."""

# Numbers of protobuf (wire types) and of onnx.proto (fields of ModelProto and of its entries).
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
METADATA_PROPS, KEY, VALUE = 14, 1, 2
LONGEST_VARINT = 10
LARGEST_ENTRY = 4 << 20
"""More bytes than any card has; a length beyond it is a damaged file's, and is not read."""


def read_card(path: Path) -> ModelCard | None:
    """The card in the metadata; None without one, and where the file is no protobuf at all.

    Raises:
        InputError: a card that is damaged or of a newer schema.
    """
    text = _property(path, CARD_KEY)
    if text is None:
        return None
    try:
        data = json.loads(text)
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise InputError(f"{path}: its {CARD_KEY} is not JSON; export it again") from None
    return from_json(data, ModelCard, str(path), "a model card")


def _property(path: Path, wanted: str) -> bytes | None:
    """The last value of a metadata property, which is the one that counts."""
    found = None
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        for entry in _payloads(file, 0, end, METADATA_PROPS):
            fields = {
                number: next(iter(_contents(file, *entry, number)), b"") for number in (KEY, VALUE)
            }
            if fields[KEY] == wanted.encode():
                found = fields[VALUE]
    return found


def _contents(file: BinaryIO, begin: int, end: int, wanted: int) -> Iterator[bytes]:
    for start, stop in _payloads(file, begin, end, wanted):
        if stop - start <= LARGEST_ENTRY:
            file.seek(start)
            yield file.read(stop - start)


def _payloads(file: BinaryIO, begin: int, end: int, wanted: int) -> Iterator[tuple[int, int]]:
    """(begin, end) of each field `wanted` with a length; ends early where bytes make no sense.

    What is wrong with a file that makes none is for the runtime to say.
    """
    at = begin
    while at < end:
        file.seek(at)
        tag = _varint(file)
        number, kind = (tag or 0) >> 3, (tag or 0) & 7
        if not number or kind not in (VARINT, FIXED64, LENGTH, FIXED32):
            return
        length = _varint(file) if kind in (VARINT, LENGTH) else {FIXED64: 8, FIXED32: 4}[kind]
        start = file.tell()
        at = start if kind == VARINT else start + (length or 0)
        if length is None or at > end:
            return
        if number == wanted and kind == LENGTH:
            yield start, at


def _varint(file: BinaryIO) -> int | None:
    value = 0
    for index in range(LONGEST_VARINT):
        byte = file.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << (7 * index)
        if byte[0] < 0x80:
            return value
    return None
