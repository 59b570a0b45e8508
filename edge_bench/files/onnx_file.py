"""What an ONNX file says of itself, read without the onnx package or a runtime.

A board that runs TensorRT has neither. Only the parts that a benchmark needs are read: inputs,
outputs and metadata; weights are stepped over. Field numbers are those of onnx.proto.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_bench.core.errors import InputError
from edge_bench.core.parse import json_of
from edge_bench.core.spec import ModelCard
from edge_bench.files.store import from_json, require_file
from edge_bench.files.wire import FOREIGN, Value, as_bytes, as_number, as_text, fields

CARD_KEY = "ardx_card"
"""Key of the model card (JSON) among the ONNX metadata properties."""

GRAPH, METADATA, HIGHEST = 7, 14, 30  # of ModelProto; its fields end at 26 today
INITIALIZER, INPUT, OUTPUT = 5, 11, 12  # of GraphProto
TENSOR_NAME = 8  # of TensorProto
NOTHING = memoryview(b"")
ELEMENT_TYPES = {
    1: "tensor(float)",
    2: "tensor(uint8)",
    3: "tensor(int8)",
    6: "tensor(int32)",
    7: "tensor(int64)",
    8: "tensor(string)",
    9: "tensor(bool)",
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
    with parsed(path) as model:
        found = _model(model)
    if not found.inputs or not found.outputs:
        raise InputError(
            f"{path}: expected an ONNX model, found none with inputs and outputs; export it again"
        )
    return found


@contextmanager
def parsed(path: Path) -> Iterator[memoryview]:
    """The bytes of an ONNX file, mapped: what the block steps over is never read.

    Raises:
        InputError: no file, or the block raised a ValueError, since it is no whole ONNX model.
    """
    require_file(path, "an ONNX model")
    with path.open("rb") as file:
        # Closed when the last view of it goes: an error's traceback still holds some.
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        yield memoryview(content)
    except ValueError as error:
        raise InputError(f"{path}: expected an ONNX model, but {error}; export it again") from None


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
    return card_of(metadata[CARD_KEY], str(path))


def card_of(text: str, where: str) -> ModelCard:
    """The model card of a JSON text that lies in the file `where`.

    Raises:
        InputError: a card that is damaged or of a newer schema.
    """
    try:
        data = json_of(text)
    except ValueError as error:
        raise InputError(
            f"{where}: its model card ({CARD_KEY}) is not JSON that can be read ({error}); make "
            "the file again"
        ) from None
    return from_json(data, ModelCard, where, "a model card")


def _model(view: memoryview) -> OnnxFile:
    inputs: list[GraphTensor] = []
    outputs: list[GraphTensor] = []
    weights: set[str] = set()
    metadata: dict[str, str] = {}
    for field, value in fields(view):
        if field > HIGHEST:
            raise ValueError(FOREIGN)
        if field == METADATA:
            entry = _message(value)
            metadata[_text(entry, 1)] = _text(entry, 2)
        elif field == GRAPH:
            for part, content in fields(as_bytes(value)):
                if part == INPUT:
                    inputs.append(_tensor(content))
                elif part == OUTPUT:
                    outputs.append(_tensor(content))
                elif part == INITIALIZER:
                    weights.add(_text(_message(content), TENSOR_NAME))
    # Old graphs list their weights among the inputs, too.
    inputs = [tensor for tensor in inputs if tensor.name not in weights]
    return OnnxFile(inputs=inputs, outputs=outputs, metadata=metadata)


def _tensor(content: Value) -> GraphTensor:
    """ValueInfoProto: name = 1, type = 2; TypeProto: tensor = 1; Tensor: element = 1, shape = 2."""
    value = _message(content)
    kind = _message(_message(value.get(2, NOTHING)).get(1, NOTHING))
    element = as_number(kind.get(1, 0))
    dimensions = fields(as_bytes(kind.get(2, NOTHING)))
    return GraphTensor(
        name=_text(value, 1),
        type=ELEMENT_TYPES.get(element, f"type {element}"),
        shape=[_size(_message(dim)) for field, dim in dimensions if field == 1],
    )


def _size(dimension: dict[int, Value]) -> Any:
    if 1 in dimension:
        size = as_number(dimension[1])
        # A size of -1 is written as its two's complement.
        return size - (1 << 64) if size >= 1 << 63 else size
    return _text(dimension, 2) or None


def _message(value: Value) -> dict[int, Value]:
    """The last value of each field, which is what counts where a field is not repeated."""
    return dict(fields(as_bytes(value)))


def _text(message: dict[int, Value], field: int) -> str:
    return as_text(message.get(field, NOTHING))
