"""How fast the INT8 files that we write run beside FP32, in one run; one JSON line per runtime.

    python -m benchmarks.quantisation.speed --work runs/speed resnet18 mobilenet_v2 resnet8

Networks have CIFAR shapes, random weights and the batch statistics of noise; speed does not depend
on what they have learnt. Rivals take turns within each round, so a busy machine slows them alike:
a speed-up is the median over rounds of FP32's latency over the rival's, in ONNX Runtime both, with
the 10th and 90th percentiles. OpenVINO joins in where it is installed (`pip install openvino`).
"""

from __future__ import annotations

import importlib.util
import json
import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter_ns
from typing import Annotated, Any

import numpy as np
import onnxruntime
import torch
import typer
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_static

from ard.models.architectures import build_model
from benchmarks import command
from benchmarks.lines import append, machine
from benchmarks.quantisation.fusion import float_layers
from deploy.lowering.graph import INPUT, OUTPUT
from deploy.onnx_export.export import OPSET, export_fp32
from deploy.quantization.calibration import OneBatch
from deploy.quantization.quantize import quantize_int8
from deploy.quantization.targets import AS_WRITTEN, KEEP_SIGNED, REWRITE_SIGNED
from edge_bench.statistics.stats import percentile_ms
from edge_bench.timing.measure import measure

SHAPE, CLASSES = (3, 32, 32), 10
UNPREPARED = "unprepared"
RIVALS: dict[str, tuple[str, dict[str, str]]] = {
    "fp32": ("fp32", {}),
    "x86-vnni": ("x86-vnni", REWRITE_SIGNED),
    "arm": ("arm", KEEP_SIGNED),
    "arm, rewritten": ("arm", REWRITE_SIGNED),
    "tensorrt": ("tensorrt", AS_WRITTEN),
    "tensorrt, rewritten": ("tensorrt", REWRITE_SIGNED),
    UNPREPARED: (UNPREPARED, REWRITE_SIGNED),
}
"""What ONNX Runtime runs: the file, and the session options it runs under."""
FILES = ("fp32", "x86-vnni", "arm", "tensorrt")
"""What OpenVINO runs."""


def main(
    architectures: Annotated[list[str], typer.Argument(help="Such as resnet18.")],
    work: Annotated[Path, typer.Option(help="Folder for the ONNX files, which are kept.")],
    batch_size: Annotated[int, typer.Option(min=1, help="Images per call.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each runtime.")] = 1,
    rounds: Annotated[int, typer.Option(min=0, help="Rounds; 0 only writes the files.")] = 15,
    lines: Annotated[Path | None, typer.Option(help="JSON lines to add to.")] = None,
) -> None:
    """Build the files that are missing, then time them."""
    torch.set_num_threads(threads)
    for architecture in architectures:
        folder = work / architecture
        build(architecture, folder)
        if rounds == 0:
            continue
        calls = ort_calls(folder, batch_size, threads) | openvino_calls(folder, batch_size, threads)
        for name, figures in timed(calls, batch_size, rounds).items():
            runtime, _, rival = name.partition(" ")
            line = {
                "architecture": architecture,
                "runtime": runtime,
                "rival": rival,
                "batch_size": batch_size,
                "threads": threads,
                "rounds": rounds,
                **figures,
                "onnxruntime": onnxruntime.__version__,
                "machine": machine(),
            }
            if runtime == "ort":
                form, options = RIVALS[rival]
                line["float_layers"] = len(float_layers(folder / f"{form}.onnx", options))
            print(json.dumps(line), flush=True)
            if lines is not None:
                append(lines, line)


def build(architecture: str, folder: Path) -> None:
    """Write FP32 and each INT8 form of a network into `folder`, where they are missing."""
    forms = {form for form, _ in RIVALS.values()}
    if all((folder / f"{form}.onnx").exists() for form in forms):
        return
    folder.mkdir(parents=True, exist_ok=True)
    fp32 = folder / "fp32.onnx"
    images = np.random.default_rng(0).random((64, *SHAPE), np.float32)
    model = network(architecture)
    unprepared(model, folder / f"{UNPREPARED}.onnx", images)
    with torch.no_grad():
        model.train()
        for _ in range(10):
            model(torch.rand(64, *SHAPE))
    export_fp32(model.eval(), SHAPE, fp32)
    for target in ("x86-vnni", "arm", "tensorrt"):
        quantize_int8(fp32, folder / f"{target}.onnx", images, target)


def network(architecture: str) -> torch.nn.Module:
    """The untrained network, in eval mode."""
    torch.manual_seed(0)
    half = torch.full((SHAPE[0],), 0.5)
    return build_model(architecture, SHAPE[0], CLASSES, half, half / 2).eval()


def unprepared(model: torch.nn.Module, path: Path, images: NDArray[np.float32]) -> None:
    """INT8 as quick scripts make it: an untrained network, torch's old exporter, no preparation.

    Before any training the biases that batch normalisation leaves are equal, this exporter stores
    equal tensors once and copies them by Identity nodes, and the quantiser takes a bias that is no
    constant for a reason to leave its convolution in float.
    """
    exported = path.with_name(f"float-{path.name}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated
        torch.onnx.export(
            model,
            (torch.from_numpy(images[:2]),),
            str(exported),
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: "batch"}},
        )
    logging.getLogger().setLevel(logging.ERROR)  # it advises what is left out on purpose
    quantize_static(
        str(exported),
        str(path),
        OneBatch({INPUT: images}),
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
    )


def ort_calls(folder: Path, batch_size: int, threads: int) -> dict[str, Callable[[], object]]:
    """One inference in ONNX Runtime's CPU provider for each rival."""
    feed = {INPUT: batch(batch_size)}
    calls: dict[str, Callable[[], object]] = {}
    for rival, (form, entries) in RIVALS.items():
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        for key, value in entries.items():
            options.add_session_config_entry(key, value)
        session = onnxruntime.InferenceSession(str(folder / f"{form}.onnx"), options)
        calls[f"ort {rival}"] = lambda session=session: session.run(None, feed)  # type: ignore[misc]
    return calls


def openvino_calls(folder: Path, batch_size: int, threads: int) -> dict[str, Callable[[], object]]:
    """One inference in OpenVINO's CPU plug-in for each file; nothing where it is not installed."""
    if importlib.util.find_spec("openvino") is None:
        return {}
    openvino: Any = importlib.import_module("openvino")
    core = openvino.Core()
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    calls: dict[str, Callable[[], object]] = {}
    for form in FILES:
        model = core.read_model(str(folder / f"{form}.onnx"))
        model.reshape([batch_size, *SHAPE])
        request = core.compile_model(model, "CPU", settings).create_infer_request()
        request.set_input_tensor(openvino.Tensor(batch(batch_size)))
        calls[f"openvino {form}"] = request.infer
    return calls


def batch(size: int) -> NDArray[np.float32]:
    """Images (size, 3, 32, 32) in [0, 1]."""
    return np.random.default_rng(1).random((size, *SHAPE), np.float32)


def timed(
    calls: Mapping[str, Callable[[], object]],
    batch_size: int,
    rounds: int,
    clock: Callable[[], int] = perf_counter_ns,
) -> dict[str, dict[str, float]]:
    """Median latency of each call, and its speed-up over `ort fp32` with the spread over rounds."""
    runs = 20 if batch_size == 1 else 2
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            one = measure(
                call,
                batch_size=batch_size,
                warmup_runs=0,
                min_runs=runs,
                min_seconds=0,
                clock=clock,
            )
            found[name].append(percentile_ms(one, 0.5))
    # The first round warms up.
    rows = {name: np.array(values[1:]) for name, values in found.items()}
    figures = {}
    for name, latencies in rows.items():
        low, middle, high = np.quantile(rows["ort fp32"] / latencies, [0.1, 0.5, 0.9])
        figures[name] = {
            "median_ms": round(float(np.median(latencies)), 4),
            "speed_up": round(float(middle), 3),
            "speed_up_p10": round(float(low), 3),
            "speed_up_p90": round(float(high), 3),
        }
    return figures


if __name__ == "__main__":
    command.run(main)
