"""Protobuf's wire format: the fields of a message, without a word of what they mean.

The libraries that read it want the message's schema and turn all of it into objects, weights
included; here what nobody asks for is stepped over by its length, and never touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

Value = int | memoryview
"""Of a field: a number, or a view of the bytes of a text, a message or a packed list."""

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
LARGEST_TAG = 1 << 32
LARGEST_VARINT = 1 << 64
FOREIGN = "it holds something else"


def fields(message: memoryview) -> Iterator[tuple[int, Value]]:
    """(field number, value) in the order of the file.

    Raises:
        ValueError: not a message, or cut short.
    """
    at, end = 0, len(message)
    while at < end:
        tag, at = _varint(message, at, LARGEST_TAG)
        field, wire = tag >> 3, tag & 7
        if field == 0:
            raise ValueError(FOREIGN)
        if wire == VARINT:
            value, at = _varint(message, at, LARGEST_VARINT)
            yield field, value
            continue
        if wire == BYTES:
            size, at = _varint(message, at, LARGEST_VARINT)
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
        else:
            raise ValueError(FOREIGN)
        if at + size > end:
            raise ValueError("it is cut short or holds something else")
        yield field, message[at : at + size]
        at += size


def fields_of(parts: Iterable[Value]) -> Iterator[tuple[int, Value]]:
    """The fields of one message that is written in parts, which readers are to put together."""
    for part in parts:
        yield from fields(as_bytes(part))


def as_bytes(value: Value) -> memoryview:
    """The bytes of a field that has some.

    Raises:
        ValueError: it is a number.
    """
    if isinstance(value, int):
        raise ValueError("a number stands where a text or a message belongs")
    return value


def as_number(value: Value) -> int:
    """The number of a field that is one.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(value, int):
        raise ValueError("something else stands where a number belongs")
    return value


def as_text(value: Value) -> str:
    """The text of a field.

    Raises:
        ValueError: it is a number, or not UTF-8.
    """
    try:
        return bytes(as_bytes(value)).decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("a text in it is not UTF-8") from None


def _varint(message: memoryview, at: int, limit: int) -> tuple[int, int]:
    """(value, index behind it) of the number at index `at`."""
    value = shift = 0
    while shift < 64:
        if at >= len(message):
            raise ValueError("it is cut short")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= limit:
                break
            return value, at
        shift += 7
    raise ValueError(FOREIGN)
