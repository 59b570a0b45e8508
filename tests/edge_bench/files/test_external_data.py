"""The files of a model are those that onnx itself would open, whatever else looks like one."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path
from random import Random
from typing import Any

import onnx
import pytest
from onnx import TensorProto

from edge_bench.core.errors import InputError
from edge_bench.files.external_data import CHILDREN, locations, model_files

MESSAGE = 11  # type of a protobuf field

# --- where tensors may stand ------------------------------------------------------------------


def test_the_ways_to_a_tensor_are_those_of_onnx_s_own_schema() -> None:
    """A newer onnx with tensors in a new place fails here."""
    reached: dict[str, dict[int, tuple[str, bool]]] = {}
    pending = [onnx.ModelProto.DESCRIPTOR]
    while pending:
        message = pending.pop()
        if message.name in reached:
            continue
        reached[message.name] = {
            field.number: (field.message_type.name, _is_repeated(field))
            for field in message.fields
            if field.type == MESSAGE
        }
        pending += [field.message_type for field in message.fields if field.type == MESSAGE]
    leads = {"TensorProto"}
    while more := {
        name
        for name, children in reached.items()
        if name not in leads and any(child in leads for child, _ in children.values())
    }:
        leads |= more
    expected = {
        name: {number: each for number, each in reached[name].items() if each[0] in leads}
        for name in leads - {"TensorProto"}
    }
    assert expected == CHILDREN


def test_random_models_name_what_their_messages_name() -> None:
    found = set()
    for seed in range(150):
        model = onnx.ModelProto(ir_version=9)
        _fill(model, Random(seed), depth=6)
        content = model.SerializeToString()
        assert locations(memoryview(content)) == _named(model)
        found |= _named(model)
    assert len(found) > 300, "else the models hold nothing to find"


def test_a_spoilt_model_names_what_onnx_reads_in_it_or_is_refused() -> None:
    """Whoever reads other names than the runtime does can be shown other files."""
    agreed = 0
    random = Random(0)
    for turn in range(5000):
        if turn % 100 == 0:
            model = onnx.ModelProto(ir_version=9)
            _fill(model, Random(turn), depth=4)
            content = model.SerializeToString()
        spoilt = bytearray(content)
        for _ in range(random.randint(1, 3)):
            spoilt[random.randrange(len(spoilt))] = random.randrange(256)
        try:
            ours = locations(memoryview(spoilt))
        except ValueError:
            continue
        theirs = onnx.ModelProto()
        try:
            theirs.ParseFromString(bytes(spoilt))
        except Exception:
            continue
        assert ours == _named(theirs)
        agreed += 1
    assert agreed > 300


# --- how a place is written -------------------------------------------------------------------


def test_a_value_that_stands_before_its_key_is_read() -> None:
    assert locations(_with_tensor(_entry(_text(2, b"far.bin"), _text(1, b"location")))) == {
        "far.bin"
    }


@pytest.mark.parametrize("length", [1, 127, 128, 200, 255, 300, 20_000])
def test_a_name_of_any_length_is_read_whole(length: int) -> None:
    model = onnx.ModelProto(ir_version=9)
    _external(model.graph.initializer.add(name="w"), "n" * length)
    assert locations(memoryview(model.SerializeToString())) == {"n" * length}


def test_texts_that_look_like_an_entry_name_nothing() -> None:
    entry = b"\x0a\x08location\x12\x06secret"
    model = onnx.ModelProto(ir_version=9, doc_string=entry.decode())
    onnx.helper.set_model_props(model, {"location": "secret"})
    tensor = model.graph.initializer.add(name=entry.decode(), doc_string=entry.decode())
    tensor.raw_data = b"\x6a" + bytes([len(entry)]) + entry
    assert locations(memoryview(model.SerializeToString())) == set()


def test_a_tensor_that_brings_its_data_along_names_nothing() -> None:
    model = onnx.ModelProto(ir_version=9)
    tensor = model.graph.initializer.add(name="w", raw_data=b"\0\0\0\0")
    tensor.external_data.add(key="location", value="left.over")
    assert locations(memoryview(model.SerializeToString())) == set()


def test_a_message_in_two_parts_is_one() -> None:
    """Protobuf merges them: here the place in one half and the word that it counts in the other."""
    entry = _entry(_text(1, b"location"), _text(2, b"far.bin"))
    halves = _text(5, entry), _text(5, b"\x70\x01")
    node = _text(5, b"".join(halves))
    content = _text(7, _text(1, node))
    theirs = onnx.ModelProto.FromString(content)
    assert locations(memoryview(content)) == _named(theirs) == {"far.bin"}


@pytest.mark.parametrize(
    ("tensor", "sentence"),
    [
        (b"\x70\x01", "names 0 files"),
        (b"\x70\x02", "neither that they are here nor outside"),
        (b"\x70\x81\x80\x80\x80\x10", "neither that they are here nor outside"),  # 1 + 2**32
        (b"\x72\x01\x01", "something else stands where a number belongs"),
        (b"\x70\x01\x6a\x7f", "cut short"),
        (b"\x70\x01\x68\x05", "a number stands where a text or a message belongs"),
        (b"\x70\x01\x6b\x6c", "it holds something else"),  # a group
        (b"\xf0\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", "it holds something else"),
        (b"\x70\x01\x6a\x0d\x0a\x08location\x12\x01\xff", "not UTF-8"),
    ],
)
def test_a_tensor_without_one_place_is_refused(
    tmp_path: Path, tensor: bytes, sentence: str
) -> None:
    path = tmp_path / "odd.onnx"
    path.write_bytes(_with_tensor(tensor))
    with pytest.raises(InputError, match=rf"odd\.onnx: expected an ONNX model, but .*{sentence}"):
        model_files(path)


def test_two_places_for_one_tensor_are_refused(tmp_path: Path) -> None:
    entries = [_entry(_text(1, b"location"), _text(2, name)) for name in (b"a.bin", b"b.bin")]
    (tmp_path / "odd.onnx").write_bytes(_with_tensor(b"".join(entries) + b"\x70\x01"))
    with pytest.raises(InputError, match="names 2 files for them, not one"):
        model_files(tmp_path / "odd.onnx")


# --- which files are taken --------------------------------------------------------------------


def test_the_files_beside_a_model_are_found_once_and_in_order(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.bin", "deep/a.bin"):
        (tmp_path / name).write_bytes(b"data")
    path = _saved(tmp_path, "./deep/a.bin", "b.bin", "deep/a.bin", "model.onnx")
    assert model_files(path) == [path, tmp_path / "b.bin", tmp_path / "deep" / "a.bin"]


@pytest.mark.parametrize(
    ("location", "sentence"),
    [
        ("../w.bin", "lies outside its folder"),
        ("deep/../../w.bin", "lies outside its folder"),
        ("deep/../w.bin", "lies outside its folder"),
        ("/etc/passwd", "lies outside its folder"),
        ("/dev/zero", "lies outside its folder"),
        ("C:/w.bin", "lies outside its folder"),
        ("..\\w.bin", "lies outside its folder"),
        ("link.bin", "lies outside its folder"),
        ("linked/w.bin", "lies outside its folder"),
        ("zero", "lies outside its folder"),
        ("", "expected the name of a file"),
        ("w.bin\0.png", "expected the name of a file"),
        ("*/_ORT_MEM_ADDR_/*", "expected the name of a file"),
        ("none.bin", "expected external data of model.onnx, found no file there"),
        ("deep", "expected external data of model.onnx, found a folder"),
        ("pipe", "expected external data of model.onnx, found a device, pipe or socket"),
        ("loop", "expected external data of model.onnx, found no file there"),
    ],
)
def test_a_place_that_is_no_file_of_the_folder_is_refused_unopened(
    tmp_path: Path, location: str, sentence: str
) -> None:
    (tmp_path / "w.bin").write_bytes(b"somebody's")
    folder = tmp_path / "model"
    (folder / "deep").mkdir(parents=True)
    (folder / "link.bin").symlink_to(tmp_path / "w.bin")
    (folder / "linked").symlink_to(tmp_path)
    (folder / "zero").symlink_to("/dev/zero")
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")  # Opened, it would wait for a writer for ever.
    with pytest.raises(InputError, match="external data") as caught:
        model_files(_saved(folder, location))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_that_is_a_pipe_or_a_device_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    for path in (tmp_path / "pipe.onnx", Path("/dev/zero")):
        with pytest.raises(InputError, match="an ONNX model, found a device, pipe or socket"):
            model_files(path)


def test_a_cache_that_links_to_model_and_data_is_read(tmp_path: Path) -> None:
    """As caches of model hubs do: names in one folder, contents in another."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "names").mkdir()
    _saved(tmp_path / "blobs", "w.bin").rename(tmp_path / "blobs" / "1")
    (tmp_path / "blobs" / "2").write_bytes(b"data")
    (tmp_path / "names" / "model.onnx").symlink_to("../blobs/1")
    (tmp_path / "names" / "w.bin").symlink_to("../blobs/2")
    model = tmp_path / "names" / "model.onnx"
    assert model_files(model) == [model, tmp_path / "names" / "w.bin"]


def test_an_engine_is_one_file_in_either_case(tmp_path: Path) -> None:
    for name in ("a.engine", "A.ENGINE"):
        (tmp_path / name).write_bytes(b"no graph")
        assert model_files(tmp_path / name) == [tmp_path / name]


# --- size and depth ---------------------------------------------------------------------------


def test_a_gigabyte_of_weights_is_stepped_over(tmp_path: Path) -> None:
    size, path = 1 << 30, tmp_path / "large.onnx"
    (tmp_path / "far.bin").write_bytes(b"data")
    external = _entry(_text(1, b"location"), _text(2, b"far.bin")) + b"\x70\x01"
    weights = b"\x4a" + _varint(size)
    tensor = b"\x2a" + _varint(len(weights) + size) + weights
    head = _text(5, external)
    graph = b"\x3a" + _varint(len(head) + len(tensor) + size) + head + tensor
    with path.open("wb") as file:
        file.write(graph)
        file.truncate(len(graph) + size)  # A hole, which takes no room.
    tracemalloc.start()
    try:
        assert model_files(path) == [path, tmp_path / "far.bin"]
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    with path.open("r+b") as file:
        file.truncate(len(graph) + size - 1)
    with pytest.raises(InputError, match="it is cut short"):
        model_files(path)


def test_graphs_that_lie_deep_in_graphs_are_read() -> None:
    inner = _text(5, _entry(_text(1, b"location"), _text(2, b"far.bin")) + b"\x70\x01")
    for _ in range(2000):
        inner = _text(1, _text(5, _text(6, inner)))
    assert locations(memoryview(_text(7, inner))) == {"far.bin"}


# --- helpers ----------------------------------------------------------------------------------


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def _text(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _entry(*parts: bytes) -> bytes:
    """An entry of a tensor's external_data."""
    return _text(13, b"".join(parts))


def _with_tensor(tensor: bytes) -> memoryview:
    return memoryview(_text(7, _text(5, tensor if b"\x70" in tensor else tensor + b"\x70\x01")))


def _external(tensor: Any, location: str) -> None:
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="offset", value="0")
    tensor.external_data.add(key="location", value=location)


def _saved(folder: Path, *places: str) -> Path:
    model = onnx.ModelProto(ir_version=9)
    for location in places:
        _external(model.graph.initializer.add(name="w"), location)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def _is_repeated(field: Any) -> bool:
    said = getattr(field, "is_repeated", None)  # of protobuf 6.31 and newer
    return bool(field.label == 3) if said is None else bool(said)


def _fill(message: Any, random: Random, depth: int) -> None:
    """Put messages that lead to tensors wherever the schema allows, and texts beside them."""
    name = message.DESCRIPTOR.name
    if name == "TensorProto":
        if random.random() < 0.5:
            _external(message, f"w{random.randrange(10_000)}.bin")
        else:
            message.raw_data = random.randbytes(random.randrange(300))
            message.external_data.add(key="location", value="not.read")
        return
    for field in message.DESCRIPTOR.fields:
        if field.type == MESSAGE and field.number in CHILDREN.get(name, {}) and depth:
            if _is_repeated(field):
                for _ in range(random.randrange(3)):
                    _fill(getattr(message, field.name).add(), random, depth - 1)
            elif random.random() < 0.6:
                getattr(message, field.name).SetInParent()
                _fill(getattr(message, field.name), random, depth - 1)
        elif field.name == "doc_string":
            message.doc_string = "location" * random.randrange(40)


def _named(message: Any) -> set[str]:
    """What onnx would open: by its own objects, in all of the message."""
    if message.DESCRIPTOR.name == "TensorProto":
        if message.data_location != TensorProto.EXTERNAL:
            return set()
        return {e.value for e in message.external_data if e.key == "location"}
    found: set[str] = set()
    for field, value in message.ListFields():
        if field.type == MESSAGE:
            for each in value if _is_repeated(field) else [value]:
                found |= _named(each)
    return found
