"""Which output of a graph gives the logits: found where one can, named where several could."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_bench.backends import open_backend
from edge_bench.backends.ort import logits_output
from edge_bench.core.errors import InputError
from edge_bench.files.onnx_file import read_onnx

Invoke = Callable[..., tuple[int, str, str]]
QUICK = (
    *("--runs", "3", "--seconds", "0", "--warmup", "0", "--settle-seconds", "0"),
    *("--threads", "1", "--idle-seconds", "0"),
)
CLASSES, FEATURES = 4, 3 * 8 * 8
ALL: dict[str, tuple[str, Any, list[Any]]] = {
    "logits": ("MatMul", TensorProto.FLOAT, ["batch", CLASSES]),
    "other": ("Neg", TensorProto.FLOAT, ["batch", CLASSES]),
    "tall": ("Unsqueeze", TensorProto.FLOAT, ["batch", CLASSES, 1, 1]),
    "answers": ("ArgMax", TensorProto.INT64, ["batch", 1]),
    "sure": ("Greater", TensorProto.BOOL, ["batch", CLASSES]),
    "flat": ("Flatten", TensorProto.FLOAT, ["batch", FEATURES]),
    "images_too": ("Identity", TensorProto.FLOAT, ["batch", 3, 8, 8]),
}


@pytest.fixture
def make_graph(tmp_path: Path, weight: NDArray[np.float32]) -> Callable[..., Path]:
    """The linear classifier with outputs as asked, in that order."""

    def make(*names: str, scale: float = 1.0) -> Path:
        nodes = [
            helper.make_node("Flatten", ["images"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
            helper.make_node("Neg", ["logits"], ["other"]),
            helper.make_node("Unsqueeze", ["logits", "axes"], ["tall"]),
            helper.make_node("ArgMax", ["logits"], ["answers"], axis=1),
            helper.make_node("Greater", ["logits", "zero"], ["sure"]),
            helper.make_node("Identity", ["images"], ["images_too"]),
        ]
        constants = {
            "weight": np.ascontiguousarray(weight.T * np.float32(scale)),
            "axes": np.array([2, 3]),
            "zero": np.array(0, np.float32),
        }
        graph = helper.make_graph(
            nodes,
            "several",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 8, 8])],
            [helper.make_tensor_value_info(name, *ALL[name][1:]) for name in names],
            [numpy_helper.from_array(array, name) for name, array in constants.items()],
        )
        opset = [helper.make_opsetid("", 18)]
        path = tmp_path / "several.onnx"
        onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
        return path

    return make


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_logits_of_any_width_come_as_float32(make_graph: Callable[..., Path], kind: int) -> None:
    path = make_graph("logits")
    model = onnx.load(path)
    model.graph.node.append(helper.make_node("Cast", ["logits"], ["wide"], to=kind))
    model.graph.output.pop()
    model.graph.output.append(helper.make_tensor_value_info("wide", kind, ["batch", CLASSES]))
    onnx.save(model, path)
    with open_backend("ort", path, 1) as backend:
        assert backend.infer(np.zeros((2, 3, 8, 8), np.float32)).dtype == np.float32


def chosen(path: Path, wanted: str | None = None) -> str:
    return logits_output(list(read_onnx(path).outputs), path, wanted)[1]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("answers", "logits", "images_too"), "logits"),
        (("tall", "logits"), "logits"),
        (("tall",), "tall"),
        (("sure", "tall", "images_too"), "tall"),
    ],
)
def test_the_one_output_that_can_be_logits_is_taken(
    make_graph: Callable[..., Path], names: tuple[str, ...], expected: str
) -> None:
    assert chosen(make_graph(*names)) == expected


@pytest.mark.parametrize(
    ("names", "wanted", "sentence"),
    [
        (("logits", "other"), None, r"logits tensor\(float\) .*--output NAME"),
        (("answers",), None, r"answers tensor\(int64\) .*with its logits alone"),
        (("sure", "images_too"), None, r"sure tensor\(bool\) .*with its logits alone"),
        (("logits",), "scores", "--output scores: expected an output of .*, which has logits"),
        (("logits", "answers"), "answers", r"--output answers: .* in floats, came tensor\(int64\)"),
        (("logits", "sure"), "sure", r"--output sure: .* in floats, came tensor\(bool\)"),
        (("logits", "images_too"), "images_too", r"--output images_too: expected logits"),
    ],
)
def test_an_output_that_is_not_one_of_logits_is_refused(
    make_graph: Callable[..., Path], names: tuple[str, ...], wanted: str | None, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        chosen(make_graph(*names), wanted)


@pytest.mark.parametrize("backend", ["ort", "openvino"])
@pytest.mark.parametrize(
    ("names", "output"),
    [(("other", "logits"), "logits"), (("tall",), None), (("logits", "tall"), "tall")],
)
def test_a_named_output_is_benched_and_the_report_remembers_it(
    invoke: Invoke,
    make_graph: Callable[..., Path],
    make_set: Callable[..., Path],
    attacked: NDArray[np.uint8],
    expected_mask: Callable[[NDArray[Any]], str],
    tmp_path: Path,
    backend: str,
    names: tuple[str, ...],
    output: str | None,
) -> None:
    model, out = make_graph(*names), tmp_path / "r.json"
    chosen = ("--output", output) if output else ()
    sets = make_set().parent
    run = ("bench", model, "--sets", sets, "--backend", backend, "--out", out, *QUICK, *chosen)
    code, _, stderr = invoke(*run)
    assert code == 0, stderr
    report = json.loads(out.read_text())
    assert report["sets"][0]["mask"] == expected_mask(attacked)
    assert report["output"] == output


@pytest.mark.parametrize("backend", ["ort", "openvino"])
def test_infinite_logits_of_a_few_images_are_refused(
    invoke: Invoke,
    make_graph: Callable[..., Path],
    make_set: Callable[..., Path],
    tmp_path: Path,
    weight: NDArray[np.float32],
    clean: NDArray[np.uint8],
    backend: str,
) -> None:
    """At this scale float32 overflows for the images with the largest logits alone."""
    largest = np.abs((clean.reshape(len(clean), -1) / 255) @ weight.T).max(axis=1)
    scale = float(np.finfo(np.float32).max) / float(np.sort(largest)[-4:].mean())
    model = make_graph("logits", scale=scale)
    out = tmp_path / "r.json"
    sets = make_set().parent
    code, _, stderr = invoke(
        "bench", model, "--sets", sets, "--backend", backend, "--out", out, *QUICK
    )
    assert code == 2, stderr
    assert "NaN or infinity" in stderr
    assert not out.exists()
