"""Ranges of activations: against the activations themselves, and in bounded memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from deploy.onnx_export.export import export_fp32
from deploy.quantization import calibration
from deploy.quantization.calibration import METHODS, calibrate
from edge_bench.core.errors import InputError

OP_TYPES = ("Conv", "Relu", "Gemm")
SHAPE = (3, 8, 8)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 5)
    )
    path = tmp_path_factory.mktemp("graph") / "fp32.onnx"
    export_fp32(model.eval(), SHAPE, path)
    return path


def levels(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE), dtype=np.uint8)


def activations(graph: Path, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """Every activation of a graph, as its runtime computes it for all images at once."""
    model = onnx.shape_inference.infer_shapes(onnx.load(graph))
    constants = {tensor.name for tensor in model.graph.initializer}
    model.graph.output.extend(v for v in model.graph.value_info if v.name not in constants)
    names = [value.name for value in model.graph.output]
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    floats = (images / 255).astype(np.float32)
    return {"images": floats} | dict(
        zip(names, session.run(names, {"images": floats}), strict=True)
    )


def ranges(
    graph: Path, images: NDArray[Any], method: str, op_types: tuple[str, ...] = OP_TYPES
) -> dict[str, tuple[float, float]]:
    found = calibrate(graph, images, method, op_types)
    return {
        name: (np.asarray(data.range_value[0]).item(), np.asarray(data.range_value[1]).item())
        for name, data in found.items()
    }


def test_minmax_is_the_least_and_the_largest_value_of_all_images(graph: Path) -> None:
    images = levels(70)
    found = ranges(graph, images, "minmax")
    expected = activations(graph, images)
    assert {"images", "logits"} < found.keys()
    for name, (low, high) in found.items():
        assert low == pytest.approx(expected[name].min(), abs=1e-6)
        assert high == pytest.approx(expected[name].max(), abs=1e-6)


def test_a_percentile_leaves_out_the_rarest_values_of_each_side(graph: Path) -> None:
    images = levels(1000)
    found, whole = (ranges(graph, images, method) for method in ("percentile", "minmax"))
    for name, values in activations(graph, images).items():
        if name not in found:
            continue
        # To a bin, and to two ranks: both ends of a range are counted once more.
        width = 2 * max(abs(end) for end in whole[name]) / 2048
        ordered, rank = np.sort(values, axis=None), round(values.size * 0.00005)
        assert ordered[max(rank - 2, 0)] - width <= found[name][0] <= ordered[rank + 2] + width
        assert ordered[-rank - 3] - width <= found[name][1] <= ordered[-max(rank - 1, 1)] + width


def test_entropy_gives_up_an_outlier_to_resolve_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "linear.onnx"
    export_fp32(nn.Sequential(nn.Flatten(), nn.Linear(192, 5)).eval(), SHAPE, path)
    rng = np.random.default_rng(0)
    images = rng.normal(0, 0.02, (200, *SHAPE)).astype(np.float32)
    images[0, 0, 0, 0] = 1
    found = {method: ranges(path, images, method) for method in ("minmax", "entropy")}
    flat = next(name for name in found["minmax"] if name not in ("images", "logits"))
    assert found["minmax"][flat][1] == 1
    assert 0.04 < found["entropy"][flat][1] < 0.5


@pytest.mark.parametrize("method", METHODS)
def test_ranges_do_not_depend_on_how_images_are_handed_out(
    method: str, graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first batch is dark, so that a histogram of its span would be too short.
    images = levels(40)
    images[:8] //= 4
    found = []
    for size in (40, 7):
        monkeypatch.setattr(calibration, "LARGEST_BATCH", size)
        # Of two tensors: entropy takes long for each.
        found.append(ranges(graph, images, method, ("Gemm",)))
    whole, parts = found
    assert len(whole) == 2
    for name, both in whole.items():
        # The runtime rounds otherwise at another batch size.
        assert parts[name] == pytest.approx(both, abs=1e-6)


def test_levels_and_floats_of_the_same_images_give_the_same_ranges(graph: Path) -> None:
    images = levels(20)
    floats = images.astype(np.float32) / 255
    assert ranges(graph, images, "minmax") == ranges(graph, floats, "minmax")


def test_a_graph_with_a_bound_batch_is_calibrated_by_any_number(
    graph: Path, tmp_path: Path
) -> None:
    model = onnx.load(graph)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    del model.graph.value_info[:]
    onnx.save(model, tmp_path / "bound.onnx")
    images = levels(10)
    bound, free = (ranges(path, images, "minmax") for path in (tmp_path / "bound.onnx", graph))
    for name, both in free.items():
        assert bound[name] == pytest.approx(both, abs=1e-6)


def test_an_unknown_method_is_refused(graph: Path) -> None:
    with pytest.raises(InputError, match="mean: expected one of minmax, entropy, percentile"):
        calibrate(graph, levels(2), "mean", OP_TYPES)


def test_progress_of_the_calibrators_stays_off_stdout(
    graph: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calibrate(graph, levels(2), "percentile", OP_TYPES)
    assert capsys.readouterr().out == ""


CHILD = """
import sys
from pathlib import Path
import numpy as np
from deploy.quantization.calibration import METHODS, calibrate
from edge_bench.devices.process import peak_memory_bytes
images = np.random.default_rng(0).integers(0, 256, (300, 3, 64, 64), dtype=np.uint8)
peaks = []
for count in (40, 300):
    for method in METHODS:
        calibrate(Path(sys.argv[1]), images[:count], method, ("Conv",))
    peaks.append(peak_memory_bytes())
print(*peaks)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's VmHWM")
def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    graph = tmp_path / "wide.onnx"
    export_fp32(nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU()).eval(), (3, 64, 64), graph)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(graph)],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(calibration.__file__).parents[2])},
    )
    few, many = map(int, done.stdout.split())
    # 260 more images have 77 MB of activations, and the collector would copy some of them.
    assert many - few < 30e6
