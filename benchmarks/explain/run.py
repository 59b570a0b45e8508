"""Where runtimes depart from the one that validated an artefact: real differences and planted ones.

    python -m benchmarks.explain.run --weights WEIGHTS --data-dir DATA --work runs/explain \
        --out docs/results/departures.md [--board FOLDER]

`--board` names a folder that tests/tools/aarch64.py filled: then two Raspberry Pi that QEMU
emulates explain themselves, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import onnx
import onnxruntime
import typer
from onnx import numpy_helper

from ard.data.datasets import load_dataset
from ard.exporting.export import export
from benchmarks import command
from benchmarks.documents import Rows, markdown
from benchmarks.lines import commit, machine
from deploy.probing.reference import write_probe
from edge_bench.backends import open_backend
from edge_bench.explain import told
from edge_bench.explain.departures import Difference, Explanation, differences, explain
from edge_bench.explain.probe_file import OUTPUT, graph_path, read_reference, reference_path
from edge_bench.files.store import read_json
from edge_bench.options.bench import BenchOptions
from edge_bench.robustness.inference import stored_logits
from tests.emulated import CORES, bench_on, make_emulated

KINDS: dict[str, dict[str, object]] = {
    "fp32": {},
    "fp16": {"fp16": True},
    "x86": {"int8_target": "x86"},
    "arm": {"int8_target": "arm"},
    "tensorrt": {"int8_target": "tensorrt"},
}
PLANTED = "network.layer2.0.conv2"
HEADER = ["file", "runtime", "layers", "depart", "first", "rms", "largest", "unit"]
Layers = tuple[Difference, ...]


def main(
    weights: Annotated[Path, typer.Option(help="A resnet8 of CIFAR-10, of ardx.")],
    work: Annotated[Path, typer.Option(help="Folder for artefacts.")],
    out: Annotated[Path, typer.Option(help="Page to write.")],
    data_dir: Annotated[Path, typer.Option(help="Folder with the dataset.")] = Path("data"),
    board: Annotated[Path | None, typer.Option(help="An emulated board's system.")] = None,
) -> None:
    """Export, probe, explain, and write the page."""
    work.mkdir(parents=True, exist_ok=True)
    dataset = load_dataset("cifar10", data_dir)
    for kind, options in KINDS.items():
        if not graph_path(work / f"{kind}.onnx").exists():
            export(weights, dataset, work / f"{kind}.onnx", force=True, **options)  # type: ignore[arg-type]
            write_probe(work / f"{kind}.onnx", force=True)
    rows = [HEADER]
    for kind, runtime, layers in found(work, board):
        departing = [layer for layer in layers if layer.departs]
        first = departing[0] if departing else max(layers, key=lambda each: each.most)
        rows.append(
            [
                *(kind, runtime, str(len(layers)), str(len(departing))),
                first.layer if departing else "none",
                *(f"{first.rms:.2g}", f"{first.most:.2g}", told.unit(first)),
            ]
        )
    out.write_text(page(rows), encoding="utf-8")


def found(work: Path, board: Path | None) -> Iterator[tuple[str, str, Layers]]:
    """(file, runtime, its layers): what is there, then what was planted."""
    for kind in KINDS:
        for backend in ("ort", "openvino"):
            model = work / f"{kind}.onnx"
            yield kind, backend, explain(model, BenchOptions(backend=backend, threads=1)).layers
    yield "arm", "ort, without the card's options", shown(work, "arm", without_options)
    if board is not None:
        for kind in ("fp32", "arm", "x86"):
            for name, layers in on_boards(work, kind, board).items():
                yield kind, f"ort, {name} (QEMU)", layers
    yield "x86", f"planted: scale of {PLANTED} x 1.1", shown(work, "x86", scaled(1.1))
    yield "x86", f"planted: scale of {PLANTED} x 1.01", shown(work, "x86", scaled(1.01))
    yield "x86", "planted: rows for columns", shown(work, "x86", turned)
    yield "fp32", "planted: rows for columns", shown(work, "fp32", turned)


def shown(work: Path, kind: str, change: Callable[[onnx.ModelProto], None]) -> Layers:
    """The layers of a probe whose graph is changed."""
    model = work / f"{kind}.onnx"
    probe = onnx.load(graph_path(model))
    change(probe)
    other = work / "changed.onnx"
    onnx.save(probe, other)
    reference = read_reference(reference_path(model))
    columns = reference.values.shape[1]
    with open_backend("ort", other, 1, output=OUTPUT) as backend:
        precision = "int8" if kind in ("x86", "arm", "tensorrt") else kind
        return differences(
            reference, lambda images: stored_logits(backend, images, columns), precision
        )


def without_options(model: onnx.ModelProto) -> None:
    """As a runtime that does not read the card."""
    del model.metadata_props[:]


def scaled(factor: float) -> Callable[[onnx.ModelProto], None]:
    """The scale of one layer's weights times a factor."""

    def change(model: onnx.ModelProto) -> None:
        name = f"{PLANTED}.weight_scale"
        (tensor,) = (each for each in model.graph.initializer if each.name == name)
        values = (numpy_helper.to_array(tensor) * factor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(values, name))

    return change


def turned(model: onnx.ModelProto) -> None:
    """Rows and columns of the images are taken for one another."""
    graph = model.graph
    image = graph.input[0].name
    for node in graph.node:
        node.input[:] = ["turned" if name == image else name for name in node.input]
    node = onnx.helper.make_node("Transpose", [image], ["turned"], perm=[0, 1, 3, 2])
    graph.node.insert(0, node)


def on_boards(work: Path, kind: str, system: Path) -> dict[str, Layers]:
    """What `bench --explain` writes on both boards."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        boards = {
            name: make_emulated(name, system.absolute(), _new(Path(folder) / name))
            for name in CORES
        }
        out = Path(folder) / "out"
        bench_on(boards, [((work / f"{kind}.onnx").absolute(), "--explain")], out)
        return {
            name: read_json(out / f"{name}-0.explain.json", Explanation, "an explanation").layers
            for name in boards
        }


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder


def page(rows: Rows) -> str:
    """The table, and what made it."""
    return "\n".join(
        [
            "# Where runtimes depart",
            "",
            "A `resnet8:32` of CIFAR-10, exported as each kind of file with `--probe`, and",
            "explained by other runtimes than the one that validated it",
            "([how](../how-to/find-where-a-board-departs.md)). *Depart*: layers beyond what",
            "rounding explains; then the first of these with its difference, or, where none",
            "departs, the largest difference there is. Steps are those of the quantised tensor,",
            "SD the standard deviation of its values.",
            "",
            markdown(rows),
            "",
            f"{machine()}, ONNX Runtime {onnxruntime.__version__}, commit {commit()}. Made by",
            "",
            "    python -m benchmarks.explain.run --work runs/explain --board .aarch64 \\",
            "        --weights weights/resnet8-32-cifar10-pgd_at.safetensors --data-dir DATA \\",
            "        --out docs/results/departures.md",
            "",
        ]
    )


if __name__ == "__main__":
    command.run(main)
