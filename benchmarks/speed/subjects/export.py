"""Quantising beside the same by hand and by NNCF; each in a process of its own."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.speed.finding import Asked, Case, Finding, against, alone, missing
from benchmarks.speed.networks import NAMES, files, images, target
from benchmarks.speed.turns import by_turns
from deploy.lowering.graph import INPUT
from edge_bench.devices.process import peak_memory_bytes

TITLE = "Quantising"
SECONDS = 228.0
ABOUT = """FP32 file to INT8 file with 1,000 calibration images of 32 x 32 pixels (min-max),
without the start of Python, and the largest resident size: ours; `quant_pre_process` and
`quantize_static` called by hand with batches of 40 (ours takes at most 32); NNCF's `quantize` of
the same file for OpenVINO. A search within a budget asks about each layer once and then about at
most twice the logarithm of their number and eight more, which a test holds."""
LEFT = """Both run every calibration image through the network with the extremes of all activations
given out, by ONNX Runtime's own calibrator, and both then call its quantiser; ours adds the grid
of the image and the places of the roundings."""

COUNT, BATCH = 1_000, 40
MOST_MIB = 1024.0
Took = tuple[float, float]
"""Seconds, and MiB at the peak."""


def cases(asked: Asked) -> dict[str, Case]:
    """ResNet-18; a small network in the quick form."""
    architecture, count = ("resnet8", BATCH) if asked.quick else ("resnet18", COUNT)
    return {
        f"{NAMES[architecture]}, {count:,} images": partial(measured, architecture, count, asked)
    }


def measured(architecture: str, count: int, asked: Asked) -> list[Finding]:
    """Ours beside those that are here."""
    fp32 = files(architecture, asked) / "fp32.onnx"
    here = {"ours", "by hand"} | (
        {"nncf"} if find_spec("nncf") and find_spec("openvino") else set()
    )
    rivals = {name: partial(_apart, name, fp32, count) for name in WAYS if name in here}
    found = by_turns(rivals, asked.turns)
    ours = [took for took, _ in found["ours"]]

    def beside(name: str, words: str) -> Finding:
        if name not in found:
            return missing(words, "over", f"{name} is not installed", bar=1.0)
        note = f"theirs {max(peak for _, peak in found[name]):.0f} MiB"
        theirs = [took for took, _ in found[name]]
        return against(ours, theirs, "over", rival=words, bar=1.0, note=note)

    peaks = [peak for _, peak in found["ours"]]
    return [
        beside("by hand", "quantize_static by hand"),
        beside("nncf", "NNCF"),
        alone(peaks, rival="memory", bar=MOST_MIB, unit="MiB"),
    ]


def _apart(name: str, fp32: Path, count: int) -> Took:
    done = subprocess.run(
        [sys.executable, "-m", __name__, name, str(fp32), str(count)],
        check=True,
        capture_output=True,
        text=True,
    )
    took, peak = json.loads(done.stdout.splitlines()[-1])
    return took, peak


def ours(fp32: Path, int8: Path, given: NDArray[np.float32]) -> None:
    from deploy.quantization.quantize import quantize_int8

    quantize_int8(fp32, int8, given, target()[0])


def by_hand(fp32: Path, int8: Path, given: NDArray[np.float32]) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        batches: Iterator[Any] = iter(np.split(given, len(given) // BATCH))

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self.batches, None)
            return None if batch is None else {INPUT: batch}

    logging.getLogger().setLevel(logging.ERROR)
    prepared = int8.with_name("prepared.onnx")
    quant_pre_process(str(fp32), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared),
        str(int8),
        Reader(),
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=target()[0] == "x86",
    )


def by_nncf(fp32: Path, int8: Path, given: NDArray[np.float32]) -> None:
    import openvino

    nncf: Any = import_module("nncf")
    model: Any = openvino.Core().read_model(str(fp32))
    model.reshape([-1, *given.shape[1:]])
    calibration = nncf.Dataset([each[None] for each in given])
    made = nncf.quantize(model, calibration, subset_size=len(given))
    openvino.save_model(made, str(int8.with_suffix(".xml")), compress_to_fp16=False)


WAYS: dict[str, Callable[[Path, Path, NDArray[np.float32]], None]] = {
    "ours": ours,
    "by hand": by_hand,
    "nncf": by_nncf,
}


def _timed(name: str, fp32: Path, count: int) -> Took:
    given = images(count)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        begin = time.perf_counter()
        WAYS[name](fp32, Path(folder) / "int8.onnx", given)
        took = time.perf_counter() - begin
    return took, peak_memory_bytes() / 2**20


if __name__ == "__main__":
    print(json.dumps(_timed(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))))
