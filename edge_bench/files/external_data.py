"""The files that an ONNX model consists of: itself, and those that its tensors keep their data in.

A tensor with `data_location` EXTERNAL names a file by the entry `location` of its `external_data`,
relative to the model's folder. Tensors may stand wherever CHILDREN leads, so the graph is parsed;
bytes that look like such an entry may be a text, and the entry may be written in any order.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath, PureWindowsPath

from edge_bench.core.errors import InputError
from edge_bench.files.kinds import Kind, kind_of
from edge_bench.files.onnx_file import HIGHEST, parsed
from edge_bench.files.store import require_file
from edge_bench.files.wire import FOREIGN, Value, as_bytes, as_number, as_text, fields, fields_of

MODEL, TENSOR = "ModelProto", "TensorProto"

CHILDREN: dict[str, dict[int, tuple[str, bool]]] = {
    MODEL: {7: ("GraphProto", False), 20: ("TrainingInfoProto", True), 25: ("FunctionProto", True)},
    "TrainingInfoProto": {1: ("GraphProto", False), 2: ("GraphProto", False)},
    "GraphProto": {1: ("NodeProto", True), 5: (TENSOR, True), 15: ("SparseTensorProto", True)},
    "FunctionProto": {7: ("NodeProto", True), 11: ("AttributeProto", True)},
    "NodeProto": {5: ("AttributeProto", True)},
    "AttributeProto": {
        5: (TENSOR, False),
        6: ("GraphProto", False),
        10: (TENSOR, True),
        11: ("GraphProto", True),
        22: ("SparseTensorProto", False),
        23: ("SparseTensorProto", True),
    },
    "SparseTensorProto": {1: (TENSOR, False), 2: (TENSOR, False)},
}
"""By message and field number of onnx.proto: the message there, and whether it may be repeated.

These are all the ways from a model to a tensor.
"""

EXTERNAL_DATA, DATA_LOCATION = 13, 14  # of TensorProto
DEFAULT, EXTERNAL = 0, 1
KEY, VALUE = 1, 2  # of StringStringEntryProto


def model_files(path: Path) -> list[Path]:
    """An ONNX file and the files of its external data, in name order; an engine is one file.

    Raises:
        InputError: no whole ONNX model, or data that lie outside its folder or are no file.
    """
    if kind_of(path) is Kind.ENGINE:
        return [require_file(path, "a TensorRT engine")]
    with parsed(path) as model:
        names = {PurePosixPath(name): name for name in locations(model)}
    files = [_beside(path, names[name]) for name in sorted(names)]
    return [path, *(file for file in files if file != path)]


def locations(model: memoryview) -> set[str]:
    """What the external tensors of a serialised ModelProto name as the place of their data.

    Raises:
        ValueError: not a whole model, or a tensor that does not name one place.
    """
    found: set[str] = set()
    # Not by recursion: how deep graphs lie in graphs is for the file to say.
    pending: list[tuple[str, list[Value]]] = [(MODEL, [model])]
    while pending:
        kind, parts = pending.pop()
        if kind == TENSOR:
            found |= _location(parts)
            continue
        single: dict[int, list[Value]] = {}
        for field, value in fields_of(parts):
            if kind == MODEL and field > HIGHEST:
                raise ValueError(FOREIGN)
            if field not in CHILDREN[kind]:
                continue
            child, repeated = CHILDREN[kind][field]
            if repeated:
                pending.append((child, [value]))
            else:
                single.setdefault(field, []).append(value)
        pending += [(CHILDREN[kind][field][0], parts) for field, parts in single.items()]
    return found


def _location(tensor: list[Value]) -> set[str]:
    """The place that a TensorProto names, none where it brings its data along."""
    named: set[str] = set()
    where = DEFAULT
    for field, value in fields_of(tensor):
        if field == DATA_LOCATION:
            where = as_number(value)
            if where not in (DEFAULT, EXTERNAL):
                raise ValueError("a tensor says of its data neither that they are here nor outside")
        elif field == EXTERNAL_DATA:
            entry = dict(fields(as_bytes(value)))
            if as_text(entry.get(KEY, memoryview(b""))) == "location":
                named.add(as_text(entry.get(VALUE, memoryview(b""))))
    if where == DEFAULT:
        return set()
    if len(named) != 1:
        raise ValueError(f"a tensor with external data names {len(named)} files for them, not one")
    return named


def _beside(path: Path, location: str) -> Path:
    """The file at `location`, which must lie in the model's folder or below it.

    Links are followed, and so is one to the model: where a cache of models keeps both files in one
    place and links to them, they lie together there.
    """
    posix, windows = PurePosixPath(location), PureWindowsPath(location)
    # ONNX Runtime has places in memory whose names begin with an asterisk.
    if not location or "\0" in location or "*" in location:
        raise InputError(
            f"{path}: expected the name of a file as the place of its external data, came "
            f"{location!r}; save the model again with its data beside it"
        )
    file = path.parent / posix
    folders = (os.path.realpath(path.parent), Path(os.path.realpath(path)).parent)
    leaves = posix.is_absolute() or bool(windows.anchor) or ".." in (*posix.parts, *windows.parts)
    if leaves or not any(Path(os.path.realpath(file)).is_relative_to(each) for each in folders):
        raise InputError(
            f"{path}: its external data {location!r} lies outside its folder, where nothing of a "
            "model is looked for; save the model again with its data beside it"
        )
    return require_file(file, f"external data of {path.name}")
