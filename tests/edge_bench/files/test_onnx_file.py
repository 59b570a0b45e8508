"""The small reader of ONNX files sees what ONNX Runtime sees, and survives damage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_bench.backends import open_backend
from edge_bench.backends.trt import outside_of
from edge_bench.core.errors import InputError
from edge_bench.core.spec import ModelCard
from edge_bench.files.onnx_file import read_onnx

MakeModel = Callable[..., Path]


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"batch": 4},
        {"channels_last": True},
        {"dtype": "uint8", "channels_last": True},
        {"dtype": "float16"},
        {"classes": "classes"},
    ],
)
def test_an_artefact_s_outside_is_read_as_onnx_runtime_reads_it(
    make_model: MakeModel, make_card: Callable[..., ModelCard], how: dict[str, Any]
) -> None:
    path = make_model(card=make_card(recipe={"method": "ard"}), **how)
    outside, card = outside_of(path)
    with open_backend("ort", path, 1) as backend:
        told = backend.input
        assert (outside.input, outside.dtype, outside.channels_last) == (
            told.name,
            told.dtype,
            told.channels_last,
        )
        assert (outside.image_shape, outside.batch_size) == (told.image_shape, told.batch_size)
        assert (outside.classes, card) == (backend.classes, backend.card)
    assert outside.output == "logits"


def test_weights_that_an_old_graph_lists_as_inputs_are_none(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.ones((3, 2), dtype=np.float32), "weight")
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("images", [-1, 3]), ("weight", [3, 2]))
    ]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [-1, 2])
    node = helper.make_node("MatMul", ["images", "weight"], ["logits"])
    graph = helper.make_graph([node], "old", inputs, [output], [weight])
    onnx.save(helper.make_model(graph), tmp_path / "old.onnx")
    (only,) = read_onnx(tmp_path / "old.onnx").inputs
    assert (only.name, only.shape) == ("images", [-1, 3])


def test_a_graph_of_free_image_size_is_refused_for_an_engine(make_model: MakeModel) -> None:
    with pytest.raises(InputError, match=r"leaves its image size open .*fixed image size"):
        outside_of(make_model(shape=(3, "height", "width")))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: b"import torch\n",
        lambda content: bytes(len(content)),
        lambda content: b"\x89PNG\r\n\x1a\n" + content,
        lambda content: b"\xff" * 40,
        lambda content: b"\x38\x05",  # the graph as a number
        lambda content: b"\x72\x02\x08\x05",  # a metadata key as a number
    ],
)
def test_a_file_that_is_no_whole_onnx_model_is_refused_in_one_line(
    make_model: MakeModel, spoil: Callable[[bytes], bytes]
) -> None:
    path = make_model()
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(InputError, match=r"model\.onnx: expected an ONNX model, .*export") as found:
        read_onnx(path)
    assert "\n" not in str(found.value)


def test_no_flipped_byte_ends_the_reader_with_anything_but_a_sentence(
    make_model: MakeModel,
) -> None:
    path = make_model(shape=(3, 2, 2), weight=np.ones((4, 12), dtype=np.float32))
    content = path.read_bytes()
    for at in range(0, len(content), 3):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :])
        try:
            read_onnx(path)
        except InputError:
            continue
