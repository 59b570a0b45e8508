"""Have TensorRT for RTX build what `export` writes, without a GPU; make docs/results/tensorrt.md.

python -m benchmarks.tensorrt.run --work FOLDER    builds what has no line yet, writes the tables
python -m benchmarks.tensorrt.run --check          exits 1 where the lines say otherwise

The networks are untrained: what a compiler does follows from shapes and types.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import torch
import typer

from ard.models.architectures import build_model
from benchmarks import command
from benchmarks.documents import Rows, markdown, update
from benchmarks.lines import RESULTS, Line, append, finished, read_lines
from deploy.onnx_export.export import export_fp32
from deploy.quantization.half import HalfMaker
from deploy.quantization.quantize import Quantiser
from edge_bench.backends.nvidia import bindings_of
from edge_bench.backends.trt_rtx import TENSORRT_RTX

NETWORKS = ("resnet8", "resnet20", "resnet18", "preact_resnet18", "mobilenet_v2", "wrn_28_10")
PRECISIONS = ("fp32", "fp16", "int8")
OTHERS = ("x86", "arm")
"""Files for processors, of the first network alone."""
CAPABILITIES = ("sm75", "sm86", "sm89", "sm120")
SHAPE = (3, 32, 32)
LINES = RESULTS / "tensorrt.jsonl"
KINDS = {"int8": "integers", "half": "float16", "float": "float32"}


def main(
    work: Annotated[Path | None, typer.Option(help="Folder for the ONNX files.")] = None,
    networks: Annotated[str, typer.Option(help="Architectures, with commas.")] = ",".join(NETWORKS),
    lines: Annotated[Path, typer.Option(help="Lines of finished builds.")] = LINES,
    document: Annotated[Path, typer.Option(help="Document with the tables.")] = (
        RESULTS / "tensorrt.md"
    ),
    check: Annotated[bool, typer.Option("--check", help="Compare, write nothing.")] = False,
) -> None:
    """Build each file for each capability, in a process of its own, and fill in the tables."""
    if work is not None:
        version = bindings_of(TENSORRT_RTX).__version__
        for network in networks.split(","):
            for line in built(network, work, finished(lines)):
                append(lines, line | {"version": version})
    found = read_lines(lines)
    update(document, lambda _, name: markdown(TABLES[name](found)), check=check)


def built(network: str, work: Path, done: set[str]) -> Iterator[Line]:
    """The line of each file of a network and capability that has none yet."""
    precisions = PRECISIONS + (OTHERS if network == NETWORKS[0] else ())
    wanted = {
        f"{network} {precision} {capability}": (precision, capability)
        for precision in precisions
        for capability in CAPABILITIES
    }
    if wanted.keys() <= done:
        return
    files = written(network, precisions, work)
    for name, (precision, capability) in wanted.items():
        if name in done:
            continue
        module = ("-m", "benchmarks.tensorrt.account")
        command = [sys.executable, *module, str(files[precision]), capability]
        found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
        identity = {"id": name, "network": network, "precision": precision}
        yield identity | {"capability": capability} | found


def written(network: str, precisions: tuple[str, ...], work: Path) -> dict[str, Path]:
    """The ONNX file of a network in each precision."""
    work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    model = build_model(network, 3, 10, torch.full((3,), 0.5), torch.full((3,), 0.25))
    images = torch.rand(16, *SHAPE)
    with torch.no_grad():
        model(images)  # Batch statistics, so that values keep their size through the layers.
    stem = network.replace(":", "-")
    files = {precision: work / f"{stem}-{precision}.onnx" for precision in precisions}
    export_fp32(model.eval(), SHAPE, files["fp32"])
    for precision in precisions:
        if precision == "fp16":
            HalfMaker(files["fp32"], work, images.numpy()).make(files["fp16"])
        elif precision != "fp32":
            target = "tensorrt-rtx" if precision == "int8" else precision
            Quantiser(files["fp32"], work, images.numpy(), target).make(files[precision])
    return files


def table_of_layers(lines: list[Line]) -> Rows:
    """Per network and precision, what the compiler computes in; equal for all that were built."""
    rows = [["network", "precision", "parsed", "layers", *KINDS.values(), "constants", "TF32"]]
    for (network, precision), some in grouped(lines).items():
        engines = [line for line in some if line.get("built")]
        if not engines:
            wrong = re.search(r"input has type (\w+)", some[0]["error"])
            parsed = "yes" if some[0]["parsed"] else f"no ({wrong[1] if wrong else 'refused'})"
            rows.append([network, precision, parsed, *[""] * (len(rows[0]) - 3)])
            continue
        counts = {kind: {line["layers"].get(kind, 0) for line in engines} for kind in KINDS}
        sizes = {sum(line["weights"].values()) for line in engines}
        rows.append(
            [
                *(network, precision, "yes", span({line["weighted"] for line in engines})),
                *(span(counts[kind]) for kind in KINDS),
                f"{span({round(size / 1e6, 2) for size in sizes})} MB",
                "on" if any(line["tf32"] for line in engines) else "off",
            ]
        )
    return rows


def table_of_engines(lines: list[Line]) -> Rows:
    """Per network, precision and capability: size of the engine and seconds of its build."""
    rows = [["network", "precision", *CAPABILITIES]]
    for (network, precision), some in grouped(lines).items():
        cells = {line["capability"]: cell(line) for line in some}
        rows.append([network, precision, *(cells.get(each, "") for each in CAPABILITIES)])
    return rows


def cell(line: Line) -> str:
    """An engine in a few words."""
    if not line.get("built"):
        return "not built" if line["parsed"] else "not parsed"
    return f"{line['engine_bytes'] / 1e6:.1f} MB, {line['seconds']:.1f} s"


def grouped(lines: list[Line]) -> dict[tuple[str, str], list[Line]]:
    """The lines of each network and precision, the smallest network first."""
    found: dict[tuple[str, str], list[Line]] = {}
    for line in sorted(lines, key=lambda line: NETWORKS.index(line["network"])):
        found.setdefault((line["network"], line["precision"]), []).append(line)
    return found


def span(values: set[float] | set[int]) -> str:
    """One value, or the smallest and the largest."""
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


TABLES = {"layers": table_of_layers, "engines": table_of_engines}

if __name__ == "__main__":
    command.run(main)
