"""OpenVINO computes what the graph says, in the graph's own precision, and tells nobody."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_bench.backends import open_backend
from edge_bench.backends.openvino import require_openvino
from edge_bench.core.errors import CapabilityError, InputError
from edge_bench.core.spec import ModelCard
from edge_bench.files.sets import AdversarialSet
from edge_bench.options.bench import BenchOptions
from edge_bench.runs.one_run import run

# Not importorskip: a plain import reports itself over the network.
needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="needs openvino")

MakeModel = Callable[..., Path]


def open_openvino(path: Path, threads: int | None = 1) -> Any:
    return open_backend("openvino", path, threads)


def compiled(backend: Any, batch: int) -> Any:
    """OpenVINO's model behind a backend after it ran a batch of that size."""
    backend.infer(np.zeros((batch, 3, 8, 8), dtype=np.float32))
    requests = vars(backend)["_requests"]
    assert 1 in requests
    return requests[1 if batch == 1 else None].get_compiled_model()


@pytest.fixture
def int8_model(tmp_path: Path) -> Path:
    """Two convolutions between QDQ nodes, U8S8, and logits in float.

    Weights have 7 bits: products of 8 saturate on processors without VNNI.
    """
    rng = np.random.default_rng(0)
    constants: dict[str, NDArray[Any]] = {
        "scale": np.float32(1 / 255) * np.ones((), np.float32),
        "zero": np.zeros((), np.uint8),
        "step": np.float32(0.02) * np.ones((), np.float32),
        "none": np.zeros((), np.int8),
        "weight1": rng.integers(-64, 65, (16, 3, 3, 3)).astype(np.int8),
        "weight2": rng.integers(-64, 65, (4, 16, 8, 8)).astype(np.int8),
        "scale1": np.float32(0.2) * np.ones((), np.float32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["images", "scale", "zero"], ["q0"]),
        helper.make_node("DequantizeLinear", ["q0", "scale", "zero"], ["d0"]),
        helper.make_node("DequantizeLinear", ["weight1", "step", "none"], ["w1"]),
        helper.make_node("Conv", ["d0", "w1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("QuantizeLinear", ["r1", "scale1", "zero"], ["q1"]),
        helper.make_node("DequantizeLinear", ["q1", "scale1", "zero"], ["d1"]),
        helper.make_node("DequantizeLinear", ["weight2", "step", "none"], ["w2"]),
        helper.make_node("Conv", ["d1", "w2"], ["c2"]),
        helper.make_node("Flatten", ["c2"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "qdq",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, tmp_path / "int8.onnx")
    return tmp_path / "int8.onnx"


@needs_openvino
@pytest.mark.parametrize("size", [1, 2, 7, 30])
def test_an_artefact_gives_the_logits_of_its_graph_at_every_batch_size(
    make_model: MakeModel, weight: NDArray[np.float32], clean: NDArray[np.uint8], size: int
) -> None:
    batch = clean[:size].astype(np.float32) / 255
    with open_openvino(make_model()) as backend:
        logits = backend.infer(batch)
        kept = logits.copy()
        backend.infer(np.zeros_like(batch))
    np.testing.assert_allclose(logits, batch.reshape(size, -1) @ weight.T, atol=1e-4)
    np.testing.assert_array_equal(logits, kept)


@needs_openvino
@pytest.mark.parametrize(
    "how",
    [
        {},
        {"batch": 4},
        {"batch": 1},
        {"channels_last": True},
        {"dtype": "uint8"},
        {"dtype": "uint8", "channels_last": True, "batch": 4},
        {"dtype": "float16"},
        {"shape": (3, "height", "width"), "classes": "classes"},
    ],
)
def test_every_layout_of_the_input_is_read_and_replayed_as_by_onnx_runtime(
    make_model: MakeModel,
    make_card: Callable[..., ModelCard],
    opened: AdversarialSet,
    quick: Callable[..., BenchOptions],
    how: dict[str, Any],
) -> None:
    path = make_model(card=make_card(recipe={"method": "ard"}), **how)
    with open_backend("ort", path, 1) as ort, open_openvino(path) as backend:
        assert backend.input == ort.input
        assert (backend.classes, backend.card) == (ort.classes, ort.card)
    # 30 images in batches of 7: the last one is not full.
    ours, theirs = (
        run(path, [opened], quick(backend=name, batch_size=7)) for name in ("openvino", "ort")
    )
    assert ours.clean_mask == theirs.clean_mask
    assert [result.mask for result in ours.sets] == [result.mask for result in theirs.sets]
    assert ours.backend.name == "openvino"


@needs_openvino
def test_the_runtime_says_its_version_device_and_threads(make_model: MakeModel) -> None:
    with open_openvino(make_model(), threads=1) as backend:
        info = backend.info
    assert (info.name, info.providers, info.threads) == ("openvino", ("CPU",), 1)
    assert require_openvino().__version__.startswith(info.version + "-")


@needs_openvino
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_the_threads_are_those_that_were_asked_for_or_those_that_there_are(
    make_model: MakeModel,
) -> None:
    path = make_model()
    with open_openvino(path, threads=2) as backend:
        assert backend.info.threads == 2
    cores = psutil.cpu_count()
    with open_openvino(path, threads=10_000) as backend:
        assert 1 <= backend.info.threads <= cores


@needs_openvino
@pytest.mark.parametrize("batch", [1, 5])
def test_floats_stay_float32_where_the_cpu_could_do_with_less(
    make_model: MakeModel, batch: int
) -> None:
    ov = require_openvino()
    with open_openvino(make_model()) as backend:
        model = compiled(backend, batch)
        assert model.get_property("INFERENCE_PRECISION_HINT") == ov.Type.f32
        assert model.get_property("DYNAMIC_QUANTIZATION_GROUP_SIZE") == 0
        assert str(model.get_property("PERFORMANCE_HINT")).endswith("LATENCY")


@needs_openvino
@pytest.mark.parametrize("batch", [1, 5])
def test_int8_is_computed_in_int8(int8_model: Path, batch: int) -> None:
    with open_openvino(int8_model) as backend:
        operations = compiled(backend, batch).get_runtime_model().get_ops()
    found = {
        str(operation.get_rt_info()["runtimePrecision"].value)
        for operation in operations
        if operation.get_rt_info()["layerType"].value == "Convolution"
    }
    assert found == {"u8"}


@needs_openvino
def test_int8_gives_the_classes_that_onnx_runtime_gives(int8_model: Path) -> None:
    images = np.random.default_rng(3).random((64, 3, 8, 8), dtype=np.float32)
    with open_backend("ort", int8_model, 1) as ort, open_openvino(int8_model) as backend:
        ours, theirs = backend.infer(images), ort.infer(images)
        alone = np.concatenate([backend.infer(images[i : i + 1]) for i in range(len(images))])
    spread = float(np.ptp(theirs))
    # Half of a step of the layer between may be rounded the other way, here and there.
    assert np.abs(ours - theirs).max() < 0.01 * spread
    assert np.abs(alone - ours).max() < 0.01 * spread


@needs_openvino
def test_nothing_is_reported_over_the_network_or_left_in_the_home(
    make_model: MakeModel, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    script = (
        "import sys; from pathlib import Path; from edge_bench.backends import open_backend\n"
        f"open_backend('openvino', Path({str(make_model())!r}), 1)\n"
        "assert not [m for m in sys.modules if m.startswith('openvino_telemetry')]\n"
    )
    # Without CI's own variables, under which the package would be silent by itself.
    quiet = ("CI", "TF_BUILD", "JENKINS_URL")
    environment = {key: value for key, value in os.environ.items() if key not in quiet}
    ended = subprocess.run(
        [sys.executable, "-c", script],
        env=environment | {"HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert list(home.iterdir()) == []


@needs_openvino
def test_a_graph_that_fails_on_a_batch_is_named_with_the_batch(
    make_model: MakeModel, clean: NDArray[np.uint8]
) -> None:
    with open_openvino(make_model(reshape_to=(1, 192))) as backend:
        assert backend.infer(clean[:1].astype(np.float32)).shape == (1, 4)
        with pytest.raises(
            InputError, match=r"failed on a batch of shape \(8, 3, 8, 8\) \(.+\); export it"
        ) as caught:
            backend.infer(clean[:8].astype(np.float32))
    assert "\n" not in str(caught.value)


@needs_openvino
@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"inputs": 2}, r"came 2 inputs \(images, more1\)"),
        ({"output": "cast"}, r"expected one output of logits .*came cast"),
        ({"dtype": "int64"}, r"expected an image input .*came tensor\(int64\)"),
    ],
)
def test_a_graph_that_is_no_image_classifier_is_refused(
    make_model: MakeModel, how: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=rf"model\.onnx: .*{sentence}.*export"):
        open_openvino(make_model(**how))


@needs_openvino
@pytest.mark.parametrize("spoil", [lambda c: c[: len(c) // 2], lambda _: b"import torch\n"])
def test_a_file_that_is_no_whole_onnx_model_is_refused_in_one_line(
    make_model: MakeModel, spoil: Callable[[bytes], bytes]
) -> None:
    path = make_model()
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(InputError, match=r"expected an ONNX model, but .*export") as caught:
        open_openvino(path)
    assert "\n" not in str(caught.value)


@needs_openvino
def test_an_operator_that_openvino_does_not_know_is_named(make_model: MakeModel) -> None:
    path = make_model()
    model = onnx.load(path)
    model.graph.node[1].op_type = "Flatulent"
    onnx.save(model, path)
    with pytest.raises(InputError, match=r"cannot load it \(.*Flatulent.*use --backend ort"):
        open_openvino(path)


def test_a_missing_runtime_is_met_with_the_command_that_installs_it(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_model()
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(CapabilityError, match=r"needs openvino .*pip install 'ardx\[openvino\]'"):
        open_openvino(path)


@needs_openvino
def test_a_signal_still_reaches_python_after_openvino_was_used(int8_model: Path) -> None:
    # In a process of its own: where the signal's stack is gone, it ends by SIGSEGV.
    program = f"""
import ctypes, faulthandler, gc, signal
from pathlib import Path
import numpy as np
from edge_bench.backends import open_backend
from edge_bench.backends.signal_stack import DISABLED, _Stack

def signal_stack():
    now = _Stack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(now))
    return None if now.flags & DISABLED else (now.pointer, now.size)

if {{with_stack}}:
    faulthandler.enable()
before = signal_stack()
with open_backend("openvino", Path({str(int8_model)!r}), 1) as backend:
    for size in (1, 3):
        backend.infer(np.zeros((size, 3, 8, 8), np.float32))
assert signal_stack() == before, (signal_stack(), before)
del backend
gc.collect()
signal.signal(signal.SIGTERM, lambda *_: print("heard"))
signal.raise_signal(signal.SIGTERM)
"""
    for with_stack in (False, True):
        done = subprocess.run(
            [sys.executable, "-c", program.replace("{with_stack}", str(with_stack))],
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stdout) == (0, "heard\n"), done.stderr
