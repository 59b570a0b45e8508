"""Memory and time of `ardx bench` by the size of the set: python benchmarks/replay/memory.py

Sets of 3x8x8 images beside a linear classifier, each benchmarked in a process of its own. The
peak is the process's largest resident size so far, at the end of each step; the last is that of
the whole command.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edge_bench.core.spec import AttackSpec, SetManifest
from edge_bench.files.sets import ARRAYS, MANIFEST
from edge_bench.files.store import sha256_file, write_json

SHAPE, CLASSES = (3, 8, 8), 4
SIZES = (10_000, 100_000, 1_000_000)
QUICK = ("--threads", "1", "--seconds", "0.2", "--runs", "100")


def make_set(folder: Path, samples: int) -> Path:
    """A set whose arrays are files with a hole: zeros that take no disk and no memory to write."""
    folder.mkdir(parents=True)
    images = ((samples, *SHAPE), np.uint8)
    layout: dict[str, tuple[tuple[int, ...], Any]] = {
        "images.npy": images,
        "clean.npy": images,
        "labels.npy": ((samples,), np.int64),
        "source_success.npy": ((samples,), np.bool_),
    }
    for name, (shape, kind) in layout.items():
        header = {"descr": np.dtype(kind).str, "fortran_order": False, "shape": shape}
        with (folder / name).open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            file.truncate(file.tell() + int(np.prod(shape)) * np.dtype(kind).itemsize)
    manifest = SetManifest(
        samples=samples,
        image_shape=SHAPE,
        classes=CLASSES,
        dataset="zeros",
        attack=AttackSpec(name="pgd", epsilon=8 / 255, step_size=2 / 255, steps=1),
        source_sha256="0" * 64,
        source_name="nothing",
        on_grid=True,
        arrays={name: sha256_file(folder / name) for name in ARRAYS},
        versions={},
    )
    write_json(folder / MANIFEST, manifest, force=False)
    return folder


def make_model(path: Path) -> Path:
    """A linear classifier of constant weights."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    pixels = int(np.prod(SHAPE))
    weight = np.random.default_rng(0).normal(size=(pixels, CLASSES)).astype(np.float32)
    float32 = TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["images"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
        ],
        "linear",
        [helper.make_tensor_value_info("images", float32, ["batch", *SHAPE])],
        [helper.make_tensor_value_info("logits", float32, ["batch", CLASSES])],
        [numpy_helper.from_array(weight, "weight")],
    )
    opsets = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


def watched() -> None:
    """Run the command line in this process; print the peak after each step as JSON."""
    from edge_bench.cli import app
    from edge_bench.devices.process import peak_memory_bytes
    from edge_bench.files import store
    from edge_bench.runs import one_run as bench

    begin, steps = time.perf_counter(), dict[str, tuple[int, float]]()

    def told(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            value = call(*args, **kwargs)
            steps[name] = (peak_memory_bytes(), time.perf_counter() - begin)
            return value

        return wrapped

    for step, module, name in (
        ("runtime opened", bench, "open_backend"),
        ("replayed", bench, "replay"),
        ("report written", store, "write_json"),
    ):
        setattr(module, name, told(step, getattr(module, name)))
    try:
        app(sys.argv[2:])
    finally:
        steps["ended"] = (peak_memory_bytes(), time.perf_counter() - begin)
        print(json.dumps(steps), file=sys.stderr)


def measure(samples: int) -> dict[str, tuple[int, float]]:
    """By step: the peak in bytes and the seconds since the process began to work."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, made = make_model(folder / "linear.onnx"), make_set(folder / "zeros", samples)
        command = ("bench", model, "--sets", made, "--out", folder / "report.json", *QUICK)
        done = subprocess.run(
            [sys.executable, __file__, "watched", *map(str, command)],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
    steps: dict[str, tuple[int, float]] = json.loads(done.stderr.splitlines()[-1])
    return steps


def main() -> None:
    print(f"{'images':>9}  {'step':15} {'peak MB':>8} {'seconds':>8}")
    for samples in SIZES:
        for step, (peak, seconds) in measure(samples).items():
            print(f"{samples:9}  {step:15} {peak / 1e6:8.1f} {seconds:8.2f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["watched"]:
        watched()
    else:
        main()
