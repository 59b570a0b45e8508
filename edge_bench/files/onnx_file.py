"""What an ONNX file says of itself, read without the onnx package or a runtime.

A board that runs TensorRT has neither. Only the parts that a benchmark needs are read: inputs,
outputs and metadata; weights are stepped over. Field numbers are those of onnx.proto.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_bench.core.errors import InputError
from edge_bench.core.spec import ModelCard
from edge_bench.files.store import from_json, require_file

CARD_KEY = "ardx_card"
"""Key of the model card (JSON) among the ONNX metadata properties."""

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

GRAPH, METADATA, HIGHEST = 7, 14, 30  # of ModelProto; its fields end at 26 today
INITIALIZER, INPUT, OUTPUT = 5, 11, 12  # of GraphProto
TENSOR_NAME = 8  # of TensorProto
ELEMENT_TYPES = {
    1: "tensor(float)",
    2: "tensor(uint8)",
    3: "tensor(int8)",
    6: "tensor(int32)",
    7: "tensor(int64)",
    10: "tensor(float16)",
    11: "tensor(double)",
    16: "tensor(bfloat16)",
}


@dataclass(frozen=True, kw_only=True)
class GraphTensor:
    """An input or output, in the words of ONNX Runtime: a free size is a name or None."""

    name: str
    type: str
    shape: list[Any]


@dataclass(frozen=True, kw_only=True)
class OnnxFile:
    """The outside of a graph, and the file's metadata properties."""

    inputs: list[GraphTensor]
    outputs: list[GraphTensor]
    metadata: dict[str, str]


def read_onnx(path: Path) -> OnnxFile:
    """Read the outside of the ONNX file `path`.

    Raises:
        InputError: no file, or no whole ONNX model.
    """
    require_file(path, "an ONNX model")
    with path.open("rb") as file:
        # Closed when the last view of it goes: an error's traceback still holds some.
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        found = _model(memoryview(content))
    except (ValueError, IndexError) as error:
        raise InputError(
            f"{path}: expected an ONNX model, but {error or 'it is cut short'}; export it again"
        ) from None
    if not found.inputs or not found.outputs:
        raise InputError(
            f"{path}: expected an ONNX model, found none with inputs and outputs; export it again"
        )
    return found


def read_card(path: Path) -> ModelCard | None:
    """The model card in the metadata; None without one, and where the file is no ONNX model.

    The session options of a runtime are on the card, and must be known before its session exists.
    What is wrong with a file that cannot be read is for the runtime to say.

    Raises:
        InputError: a card that is damaged or of a newer schema.
    """
    try:
        metadata = read_onnx(path).metadata
    except InputError:
        return None
    return model_card(metadata, path)


def model_card(metadata: dict[str, str], path: Path) -> ModelCard | None:
    """The card in a graph's metadata; None where ardx did not make the file.

    Raises:
        InputError: a card that is damaged or of a newer schema.
    """
    if CARD_KEY not in metadata:
        return None
    try:
        data = json.loads(metadata[CARD_KEY])
    except json.JSONDecodeError:
        raise InputError(f"{path}: its {CARD_KEY} is not JSON; export it again") from None
    return from_json(data, ModelCard, str(path), "a model card")


def _model(view: memoryview) -> OnnxFile:
    inputs: list[GraphTensor] = []
    outputs: list[GraphTensor] = []
    weights: set[str] = set()
    metadata: dict[str, str] = {}
    for field, value in _fields(view):
        if field > HIGHEST:
            raise ValueError("it holds something else")
        if field == METADATA:
            entry = dict(_fields(value))
            metadata[_text(entry, 1)] = _text(entry, 2)
        elif field == GRAPH:
            for part, content in _fields(value):
                if part == INPUT:
                    inputs.append(_tensor(content))
                elif part == OUTPUT:
                    outputs.append(_tensor(content))
                elif part == INITIALIZER:
                    weights.add(_text(dict(_fields(content)), TENSOR_NAME))
    # Old graphs list their weights among the inputs, too.
    inputs = [tensor for tensor in inputs if tensor.name not in weights]
    return OnnxFile(inputs=inputs, outputs=outputs, metadata=metadata)


def _tensor(view: memoryview) -> GraphTensor:
    """ValueInfoProto: name = 1, type = 2; TypeProto: tensor = 1; Tensor: element = 1, shape = 2."""
    value = dict(_fields(view))
    kind = dict(_fields(dict(_fields(value.get(2, b""))).get(1, b"")))
    element = kind.get(1, 0)
    shape = [_size(dict(_fields(dim))) for field, dim in _fields(kind.get(2, b"")) if field == 1]
    return GraphTensor(
        name=_text(value, 1), type=ELEMENT_TYPES.get(element, f"type {element}"), shape=shape
    )


def _size(dimension: dict[int, Any]) -> Any:
    if 1 in dimension:
        size = dimension[1]
        # A size of -1 is written as its two's complement.
        return size - (1 << 64) if isinstance(size, int) and size >= 1 << 63 else size
    return _text(dimension, 2) or None


def _text(message: dict[int, Any], field: int) -> str:
    value = message.get(field, b"")
    if isinstance(value, int):
        raise ValueError("a number stands where a text belongs")
    return bytes(value).decode("utf-8")


def _fields(message: memoryview | bytes) -> Iterator[tuple[int, Any]]:
    """(field number, value) of a protobuf message; a value is an int or a view of its bytes.

    Raises:
        ValueError, IndexError: not a message, or cut short.
    """
    if isinstance(message, int):
        raise ValueError("a number stands where a message belongs")
    at, end = 0, len(message)
    while at < end:
        tag, at = _varint(message, at)
        wire = tag & 7
        if wire == VARINT:
            value, at = _varint(message, at)
            yield tag >> 3, value
            continue
        if wire == BYTES:
            size, at = _varint(message, at)
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
        else:
            raise ValueError("it holds something else")
        if tag >> 3 == 0 or at + size > end:
            raise ValueError("it is cut short or holds something else")
        yield tag >> 3, message[at : at + size]
        at += size


def _varint(message: memoryview | bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("it holds something else")
