"""Our INT8 files in the better of our runtimes beside every other way to run the network."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from benchmarks.speed.finding import Asked, Case, Finding, against, missing
from benchmarks.speed.networks import CALIBRATION, NAMES, SHAPE, files, images, network, target
from benchmarks.speed.turns import by_turns, seconds_a_call
from deploy.lowering.graph import INPUT
from deploy.quantization.calibration import OneBatch

TITLE = "INT8"
SECONDS = 141.0
ABOUT = """Median latency of a batch of 32 x 32 pixels by our INT8 file in ONNX Runtime or in
OpenVINO, whichever is faster there, beside FP32 in ONNX Runtime, OpenVINO (float32) and
torch.compile (frozen weights, one thread), OpenVINO's INT8 by NNCF, and ONNX Runtime's
`quantize_static` called by hand after its `quant_pre_process`, with channels' own scales."""
LEFT = """OpenVINO's counters (ResNet-8, one image): NNCF's graph and ours run the same kernels,
convolutions in 97 us in both. Ours adds a padding of the image and the grid of its levels, 2 us.
`quantize_static` by hand leaves ONNX Runtime the same integer kernels."""

NETWORKS = ("resnet18", "mobilenet_v2", "resnet20", "mobilenet_v3_small")
COMPILED = (("resnet18", 1), ("resnet18", 32), ("mobilenet_v2", 1))
"""Networks and batches; each takes half a minute of compiling, on one thread."""
BATCHES, THREADS = (1, 32), (1, 2)
OURS = {"onnxruntime": "ours in ONNX Runtime", "openvino": "ours in OpenVINO"}
RIVALS = {
    "ort fp32": "ONNX Runtime FP32",
    "openvino fp32": "OpenVINO FP32",
    "compiled": "torch.compile FP32",
    "nncf": "NNCF INT8 in OpenVINO",
    "by hand": "quantize_static by hand",
}
Call = Callable[[], object]


def cases(asked: Asked) -> dict[str, Case]:
    """Networks, batches and threads."""
    if asked.quick:
        return {f"{NAMES['resnet8']}, b1, 1 thread": partial(measured, "resnet8", 1, 1, asked)}
    return {
        f"{NAMES[name]}, b{batch}, {threads} thread{'s' * (threads > 1)}": partial(
            measured, name, batch, threads, asked
        )
        for name in NETWORKS
        for threads in THREADS
        if threads <= len(os.sched_getaffinity(0))
        for batch in BATCHES
    }


def measured(architecture: str, batch: int, threads: int, asked: Asked) -> list[Finding]:
    """Ours beside each rival that is here."""
    torch.set_num_threads(threads)
    folder, given = files(architecture, asked), images(batch, seed=1)
    calls: dict[str, Call] = {
        "onnxruntime": ort_call(folder / "int8.onnx", given, threads, target()[1]),
        "ort fp32": ort_call(folder / "fp32.onnx", given, threads, {}),
        "by hand": ort_call(_by_hand(folder), given, threads, {}),
    }
    absent = {"compiled": "not tried"}
    if find_spec("openvino"):
        calls["openvino"] = openvino_call(folder / "int8.onnx", given, threads)
        calls["openvino fp32"] = openvino_call(folder / "fp32.onnx", given, threads)
    else:
        absent |= dict.fromkeys(("openvino fp32", "nncf"), "openvino is not installed")
    if find_spec("openvino") and find_spec("nncf"):
        calls["nncf"] = openvino_call(_by_nncf(folder), given, threads)
    else:
        absent.setdefault("nncf", "nncf is not installed")
    if (architecture, batch) in COMPILED and threads == 1 and not asked.quick:
        calls["compiled"] = compiled_call(architecture, given, asked.work)
    for call in calls.values():
        call()
    least = 0.02 if asked.quick else 0.1
    timed = {name: seconds_a_call(call, least) for name, call in calls.items()}
    found = by_turns(timed, asked.turns)
    best = min((name for name in OURS if name in found), key=lambda name: np.median(found[name]))
    return [
        against(
            found[best],
            found[name],
            "times as fast",
            rival=words,
            bar=1.0,
            note=OURS[best],
        )
        if name in found
        else missing(words, "times as fast", absent[name], bar=1.0)
        for name, words in RIVALS.items()
        if name in found or absent[name] != "not tried"
    ]


def ort_call(path: Path, given: NDArray[np.float32], threads: int, entries: dict[str, str]) -> Call:
    """One inference in ONNX Runtime's CPU provider."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {INPUT: given})


def openvino_call(path: Path, given: NDArray[np.float32], threads: int) -> Call:
    """One inference in OpenVINO's CPU plug-in, in float32 around the integers."""
    import openvino

    core = openvino.Core()
    model = core.read_model(str(path))
    model.reshape(list(given.shape))
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    request.set_input_tensor(openvino.Tensor(given))
    call: Call = request.infer
    return call


def compiled_call(architecture: str, given: NDArray[np.float32], work: Path) -> Call:
    """One inference of the compiled network, its weights taken as constants."""
    import torch._inductor.config as inductor

    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(work / "inductor"))
    inductor.freezing = True
    compiled = torch.compile(network(architecture), dynamic=False)
    image = torch.from_numpy(given)

    def call() -> None:
        with torch.no_grad():
            compiled(image)

    return call


def _by_hand(folder: Path) -> Path:
    """INT8 as ONNX Runtime's documentation makes it for x86."""
    path = folder / "by-hand.onnx"
    if not path.exists():
        prepared = folder / "prepared.onnx"
        quant_pre_process(str(folder / "fp32.onnx"), str(prepared), skip_symbolic_shape=True)
        logging.getLogger().setLevel(logging.ERROR)  # It advises what was just done.
        quantize_static(
            str(prepared),
            str(path),
            OneBatch({INPUT: images(CALIBRATION)}),
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=target()[0] == "x86",  # Without VNNI sums of products saturate.
        )
    return path


def _by_nncf(folder: Path) -> Path:
    """INT8 of OpenVINO's own quantiser, from the same calibration images."""
    path = folder / "nncf.xml"
    if not path.exists():
        import openvino

        nncf: Any = import_module("nncf")
        given = [each[None] for each in images(CALIBRATION)]
        with contextlib.redirect_stdout(io.StringIO()):
            model: Any = openvino.Core().read_model(str(folder / "fp32.onnx"))
            model.reshape([-1, *SHAPE])
            made = nncf.quantize(model, nncf.Dataset(given), subset_size=CALIBRATION)
            openvino.save_model(made, str(path), compress_to_fp16=False)
    return path
