"""Memory and time of calibrations.

    python -m benchmarks.quantisation.calibration_memory

The largest resident size of a process that holds IMAGES images of 3x32x32 as uint8 and quantises a
network (random weights) with them, for every method, and of one that feeds ONNX Runtime's own
`quantize_static` with as many as it is told.
"""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from deploy.quantization.calibration import METHODS
from deploy.quantization.quantize import Quantiser
from edge_bench.devices.process import peak_memory_bytes

ARCHITECTURES = ("resnet8", "resnet18")
IMAGES = 10_000
# Whole batches of 32: its calibrators fail on a smaller last one.
IMAGES_OF_ONNX_RUNTIME = 512
SHAPE = (3, 32, 32)


def write_graph(architecture: str, path: Path) -> None:
    """A network of random weights, made in a process of its own: torch alone takes 300 MB."""
    import torch

    from ard.models.architectures import build_model
    from deploy.onnx_export.export import export_fp32

    torch.manual_seed(0)
    statistics = torch.full((3,), 0.5), torch.full((3,), 0.25)
    export_fp32(build_model(architecture, 3, 10, *statistics).eval(), SHAPE, path)


def images(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (count, *SHAPE), dtype=np.uint8)


def ours(graph: Path, method: str, count: int) -> None:
    Quantiser(graph, graph.parent, images(count), "x86-vnni", method)


def onnx_runtimes(graph: Path, method: str, count: int) -> None:
    """What everybody calls, with the batches that ours takes."""
    from onnxruntime.quantization import quantize_static

    floats = (images(count) / 255).astype(np.float32)

    class Reader:
        batches = iter(np.split(floats, count // 32))

        def get_next(self) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]] | None:
            batch = next(self.batches, None)
            return None if batch is None else {"images": batch}

    with contextlib.redirect_stdout(io.StringIO()):
        quantize_static(
            graph, graph.parent / "int8.onnx", Reader(), calibrate_method=METHODS[method]
        )


WAYS = {"ardx": ours, "quantize_static": onnx_runtimes}


def measure(way: str, graph: Path, method: str, count: int) -> str:
    begin = time.perf_counter()
    WAYS[way](graph, method, count)
    seconds = time.perf_counter() - begin
    return (
        f"| {graph.stem} | {way} | {method} | {count} | {peak_memory_bytes() / 2**20:.0f} "
        f"| {seconds:.0f} |"
    )


def child(*arguments: str) -> None:
    subprocess.run([sys.executable, __file__, *arguments], check=True)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        write_graph(sys.argv[1], Path(sys.argv[2]))
    elif len(sys.argv) == 5:
        print(measure(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])), flush=True)
    else:
        print("| network | by | method | images | peak, MiB | seconds |\n|---|---|---|---|---|---|")
        with tempfile.TemporaryDirectory() as folder:
            for architecture in ARCHITECTURES:
                graph = Path(folder) / f"{architecture}.onnx"
                child(architecture, str(graph))
                for method in METHODS:
                    child("ardx", str(graph), method, str(IMAGES))
                    child("quantize_static", str(graph), method, str(IMAGES_OF_ONNX_RUNTIME))
