"""Static INT8 in QDQ form by ONNX Runtime, with the settings that each target's runtime wants."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import load_model_with_shape_infer
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry
from onnxruntime.quantization.shape_inference import quant_pre_process

from deploy.lowering.graph import attributes
from deploy.lowering.layers import Layer, layers_of, name_nodes
from deploy.lowering.pixels import put_on_grid
from deploy.lowering.tidy import lay_biases_in_rows
from deploy.quantization.calibration import calibrate
from deploy.quantization.placement import place
from deploy.quantization.targets import target_named

# What quantize_static takes where it is told nothing.
OP_TYPES = sorted({*QLinearOpsRegistry, *QDQRegistry})


class Quantiser:
    """A graph that was calibrated once and can be quantised with any of its layers left in float.

    `quantize_static` would calibrate again for each.

    Args:
        fp32: the ONNX file.
        folder: for intermediate files; they live as long as it does.
        images: (N, C, H, W) uint8 levels or float32 in [0, 1], from the training set.
        target: key of TARGETS.
        method: key of `calibration.METHODS`.

    Attributes:
        prepared: the graph that is quantised, in float: `fp32` with constants folded, and its image
            on the grid of its levels.

    Raises:
        InputError: no such target or method.
    """

    def __init__(
        self,
        fp32: Path,
        folder: Path,
        images: NDArray[Any],
        target: str,
        method: str = "minmax",
    ) -> None:
        self._target = target_named(target)
        self.prepared = folder / f"prepared-{fp32.name}"
        with _quiet():
            quant_pre_process(str(fp32), str(self.prepared), skip_symbolic_shape=True)
            model = onnx.load(self.prepared)
            lay_biases_in_rows(model)
            grid = put_on_grid(model)
            name_nodes(model.graph)
            onnx.save(model, self.prepared)
            self._ranges = calibrate(self.prepared, images, method, OP_TYPES)
        self._extra = dict(self._target.extra)
        overrides: dict[str, list[dict[str, Any]]] = _with_one_scale(model.graph)
        # What brings the image to its levels is exact in float, and rounds nothing.
        self._before = grid.float_nodes if grid else ()
        if grid is not None:
            signed = self._target.activations == QuantType.QInt8
            overrides |= grid.overrides(signed=signed)
        self._extra["TensorQuantOverrides"] = overrides
        layers = layers_of(model.graph, OP_TYPES)
        self.layers: list[Layer] = [each for each in layers if each.nodes[0] not in self._before]

    def make(self, path: Path, in_float: Collection[Layer] = ()) -> None:
        """Write the INT8 graph to `path`, with the layers `in_float` as they were."""
        excluded = [*self._before, *(node for layer in in_float for node in layer.nodes)]
        with _quiet():
            quantizer = QDQQuantizer(
                load_model_with_shape_infer(self.prepared),
                per_channel=True,
                reduce_range=self._target.reduce_range,
                weight_qType=self._target.weights,
                activation_qType=self._target.activations,
                tensors_range=self._ranges,
                nodes_to_quantize=[],
                nodes_to_exclude=excluded,
                op_types_to_quantize=OP_TYPES,
                extra_options=dict(self._extra),
            )
            quantizer.quantize_model()
            quantizer.model.save_model_to_file(str(path), False)
        place(path, for_tensorrt=bool(self._target.compilers))


def _with_one_scale(graph: onnx.GraphProto) -> dict[str, list[dict[str, Any]]]:
    """Weights that get one scale for all channels.

    Of transposed convolutions in groups channels of different groups share an axis, and ONNX
    Runtime's quantiser finds too few scales for the bias; of a LayerNorm over several axes it
    finds none, for it looks for channels where the weight has none.
    """
    shapes = {tensor.name: tensor.dims for tensor in graph.initializer}
    return {
        node.input[1]: [{"symmetric": True}]
        for node in graph.node
        if (node.op_type == "ConvTranspose" and attributes(node).get("group", 1) != 1)
        or (node.op_type == "LayerNormalization" and len(shapes.get(node.input[1], ())) > 1)
    }


def quantize_int8(fp32: Path, int8: Path, images: NDArray[Any], target: str) -> None:
    """Quantise the ONNX file `fp32` into `int8`, ranges by min-max; see `Quantiser`."""
    Quantiser(fp32, int8.parent, images, target).make(int8)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without ONNX Runtime's advice on the root logger to do what was just done."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
