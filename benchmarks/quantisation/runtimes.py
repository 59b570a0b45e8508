"""One INT8 file in each runtime: its accuracy there, and how often it agrees with FP32.

    python -m benchmarks.quantisation.runtimes student.onnx arm.onnx tensorrt.onnx --data-dir DATA

The files are what `ardx export` writes. ONNX Runtime runs each under both values of
`session.qdqisint8allowed` and as it is written, OpenVINO, where it is installed, in float32 around
the integers. One JSON line per file and runtime.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnxruntime
import typer
from numpy.typing import NDArray

from ard.data.datasets import load_dataset
from ard.data.splits import as_float
from benchmarks import command
from deploy.lowering.graph import INPUT
from deploy.quantization.targets import AS_WRITTEN, KEEP_SIGNED, REWRITE_SIGNED

Infer = Callable[[NDArray[np.float32]], NDArray[np.float32]]
WAYS = {"signed": KEEP_SIGNED, "rewritten": REWRITE_SIGNED, "as written": AS_WRITTEN}
BATCH_SIZE = 50


def main(
    fp32: Annotated[Path, typer.Argument(help="The FP32 artefact.")],
    int8: Annotated[list[Path], typer.Argument(help="INT8 artefacts of the same weights.")],
    data_dir: Annotated[Path, typer.Option(help="Folder with the dataset.")],
    dataset: Annotated[str, typer.Option(help="Its name.")] = "cifar10",
    limit: Annotated[int, typer.Option(min=1, help="Test images.")] = 1000,
) -> None:
    """Print what each runtime makes of each file."""
    test = load_dataset(dataset, data_dir).test
    images = as_float(test.images[:limit]).numpy()
    labels = test.labels[:limit].numpy()
    expected = in_batches(in_onnx_runtime(fp32, {}), images)
    print(json.dumps({"file": fp32.name, "accuracy": float((expected.argmax(1) == labels).mean())}))
    for path in int8:
        for name, infer in runtimes(path):
            logits = in_batches(infer, images)
            line = {
                "file": path.name,
                "runtime": name,
                "images": len(images),
                "accuracy": float((logits.argmax(1) == labels).mean()),
                "agrees_with_fp32": float((logits.argmax(1) == expected.argmax(1)).mean()),
                "rms_difference": float(np.sqrt(np.square(logits - expected).mean())),
            }
            print(json.dumps(line), flush=True)


def runtimes(path: Path) -> Iterator[tuple[str, Infer]]:
    """The ways to run a file here, by name."""
    for name, entries in WAYS.items():
        yield f"onnxruntime, {name}", in_onnx_runtime(path, entries)
    if importlib.util.find_spec("openvino") is not None:
        openvino: Any = importlib.import_module("openvino")
        core = openvino.Core()
        settings = {"INFERENCE_PRECISION_HINT": "f32"}
        compiled = core.compile_model(core.read_model(str(path)), "CPU", settings)
        yield "openvino", lambda batch: np.asarray(compiled(batch)[0])


def in_onnx_runtime(path: Path, entries: dict[str, str]) -> Infer:
    """The file in ONNX Runtime's CPU provider, under these session options and not its card's."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    session = onnxruntime.InferenceSession(str(path), options)
    return lambda batch: np.asarray(session.run(None, {INPUT: batch})[0])


def in_batches(infer: Infer, images: NDArray[np.float32]) -> NDArray[np.float32]:
    parts = [infer(images[i : i + BATCH_SIZE]) for i in range(0, len(images), BATCH_SIZE)]
    return np.concatenate(parts)


if __name__ == "__main__":
    command.run(main)
