"""What an ONNX file of anyone's says of its classes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from ard.attacks.victims import open_victim
from ard.models.graphs import Said, names_of
from edge_bench.core.errors import InputError

PETS = ("cat", "dog", "fish")


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("class_names", json.dumps(PETS)),
        ("id2label", json.dumps({"0": "cat", "1": "dog", "2": "fish"})),
        ("names", "{0: 'cat', 1: 'dog', 2: 'fish'}"),
        ("names", "{2: 'fish', 0: 'cat', 1: 'dog'}"),
        ("classes", "cat,dog,fish"),
        ("labels", "cat\ndog\nfish\n"),
    ],
)
def test_names_of_classes_are_read_as_exporters_write_them(key: str, text: str) -> None:
    assert names_of({key: text}, 3) == PETS


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"classes": "3"},
        {"names": "{0: 'cat', 1: 'dog'}"},
        {"names": "{'a': 'cat', 'b': 'dog', 'c': 'fish'}"},
        {"names": "cat,cat,dog"},
        {"names": "[" * 100_000},
        {"names": "__import__('os').getcwd()"},
    ],
)
def test_what_is_no_list_of_so_many_names_is_none(metadata: dict[str, str]) -> None:
    assert names_of(metadata, 3) is None


def test_a_graph_of_any_size_needs_to_be_told_one(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    images = helper.make_tensor_value_info("x", TensorProto.FLOAT, ("n", 3, "h", "w"))
    logits = helper.make_tensor_value_info("y", TensorProto.FLOAT, ("n", 4))
    weight = numpy_helper.from_array(np.ones((3, 4), np.float32), "w")
    graph = helper.make_graph(nodes, "g", [images], [logits], [weight])
    opsets = [helper.make_opsetid("", 13)]
    path = tmp_path / "any.onnx"
    save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)

    with (
        pytest.raises(InputError, match=r"leaves the size of its images open; give --dataset"),
        open_victim(path),
    ):
        pass
    with open_victim(path, said=Said(image_shape=(3, 9, 7))) as victim:
        assert victim.card.input_shape == (3, 9, 7)
        assert victim.card.dataset == "unnamed"
        assert victim.has_gradients
