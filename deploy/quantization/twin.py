"""What an `x86-vnni` artefact computes on its target, computed on any machine.

Without VNNI an x86 processor saturates on products of unsigned activations and signed 8-bit weights
(see `edge_bench.core.saturation`). With unsigned weights ONNX Runtime takes kernels that add
products in 32 bits on every processor, and slower ones where there is VNNI. A weight w with the
zero point z stands for the same value as w + 128 with z + 128, so no sum changes, and no rounding.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx

from deploy.lowering.graph import constants, set_constant, tidy, to_change
from edge_bench import devices
from edge_bench.backends import open_backend
from edge_bench.backends.base import Backend
from edge_bench.devices.generic import has_vnni
from edge_bench.files.onnx_file import read_card

TARGET = "x86-vnni"


@contextmanager
def open_as_target(
    artifact: Path,
    threads: int | None = None,
    *,
    root: Path = devices.ROOT,
    output: str | None = None,
) -> Iterator[Backend]:
    """Open an artefact in ONNX Runtime so that it computes what it does on its target.

    Where this machine is not known to have VNNI, its twin computes in its place, to the same bits.
    Latencies are to be measured of the artefact itself.

    Args:
        threads, output: as of `open_backend`.
        root: of the file system, so that recorded trees can be read.
    """
    card = read_card(artifact)
    is_other = card is not None and card.recipe.get("int8_target") == TARGET and not has_vnni(root)
    with tempfile.TemporaryDirectory() as folder:
        if is_other:
            twin = to_change(artifact)
            make_weights_unsigned(twin.graph)
            path = Path(folder) / artifact.name
            onnx.save(twin, path)
        opened = open_backend("ort", path if is_other else artifact, threads, output=output)
        with opened as backend:
            yield backend


def make_weights_unsigned(graph: onnx.GraphProto) -> None:
    """Shift int8 weights and their zero points by 128, whatever number of layers reads them."""
    arrays = constants(graph)
    for node in graph.node:
        if node.op_type != "DequantizeLinear":
            continue
        weight = arrays.get(node.input[0])
        if weight is None or weight.dtype != np.int8:
            continue
        signed = np.zeros(arrays[node.input[1]].shape, np.int8)
        if len(node.input) > 2 and node.input[2]:
            signed = arrays[node.input[2]]
        del node.input[2:]
        node.input.append(f"{node.input[0]}/unsigned_zero_point")
        node.input[0] += "/unsigned"
        for name, array in ((node.input[0], weight), (node.input[2], signed)):
            set_constant(graph, name, (array.astype(np.int16) + 128).astype(np.uint8))
    tidy(graph)
