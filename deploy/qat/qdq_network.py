"""A QDQ graph as a torch network that can be trained: the runtime's graph is the training's too.

What is quantised, where and how is read off the graph that the quantiser wrote, so there is no
second description of it that could differ from what runs. Batch normalisations are convolutions in
it, or part of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from deploy.lowering.graph import dequantised
from deploy.onnx_export.export import drop_traces
from deploy.qat.fake_quant import FakeQuantiser, rounded
from deploy.qat.graph_ops import OPERATORS
from deploy.qat.qdq_layout import QUANTIZE, Arrays, Bias, Layout, arrays_of, read_layout
from deploy.quantization.targets import target_named
from deploy.reading.values import keys_of
from edge_bench.core.errors import InputError, first_line

GRAPH = "graph"
"""Name in the state dict of the graph's own bytes, without what is learnt."""


class QDQNetwork(nn.Module):
    """Images (B, C, H, W) in [0, 1] to logits (B, classes), as the QDQ graph computes them.

    Weights are held in float and rounded on the way. Scales learn and zero points do not; an int32
    bias is rounded to the product of the scales of its layer's input and weight.

    Args:
        graph: with QuantizeLinear and DequantizeLinear, and weights as integers; or without them,
            as a state dict holds it that is loaded next.
        target: key of `targets.TARGETS`, what the graph was quantised for.
        floats: weights before they were rounded, by name. Without them, training starts at the
            middle of each step, out of which small updates do not lead.

    Raises:
        InputError: an operator or a pattern that cannot be trained.
    """

    graph: Tensor

    def __init__(
        self,
        graph: onnx.ModelProto,
        target: str,
        floats: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        super().__init__()
        self.target = target
        arrays = arrays_of(graph.graph)
        layout = self._layout = read_layout(graph, 64 if target_named(target).reduce_range else 127)
        constants = _constants(layout, arrays)
        self._keys = keys_of({*arrays, *constants})
        self.quantisers = nn.ModuleDict()
        for name, grid in layout.grids.items():
            scale = torch.from_numpy(arrays[name])
            scale = nn.Parameter(scale) if grid.learns else scale
            self.quantisers[self._keys[name]] = FakeQuantiser(
                scale, grid.least, grid.most, grid.axis, clips=grid.learns
            )
        self.weights = nn.ParameterDict()
        for name in (*layout.weights, *layout.biases, *sorted(layout.floats)):
            start = torch.from_numpy(_start(name, layout, arrays, floats or {}))
            self.weights[self._keys[name]] = nn.Parameter(start)
        lists = {n: a.reshape(-1).tolist() for n, a in arrays.items() if a.dtype == np.int64}
        # torch pads with a number, and to read it from a tensor would wait for the GPU.
        single = {name: float(array) for name, array in constants.items() if array.ndim == 0}
        self._numbers: dict[str, float | list[int]] = single | lists
        self._constants = [name for name in constants if name not in single]
        self.constants = nn.Module()
        for name in self._constants:
            # They stay in the graph, so that they need no second place in the state dict.
            tensor = torch.from_numpy(constants[name])
            self.constants.register_buffer(self._keys[name], tensor, persistent=False)
        self.register_buffer(GRAPH, _emptied(graph, layout.emptied()))

    @classmethod
    def of_state(cls, state: Mapping[str, Tensor], target: str, where: str) -> QDQNetwork:
        """The network that a state dict, of the file `where`, is of.

        Raises:
            InputError: not such a state dict.
        """
        try:
            graph = onnx.load_model_from_string(state[GRAPH].numpy().tobytes())
            network = cls(graph, target)
            network.load_state_dict(dict(state))
        except (KeyError, RuntimeError, ValueError, DecodeError) as error:
            raise InputError(
                f"{where}: its card says that it was trained as INT8 for {target}, but no such "
                f"network is in it ({type(error).__name__}: {first_line(error)}); train it again"
            ) from None
        return network

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to logits (B, classes)."""
        values: dict[str, Any] = {self._layout.input: images, "": None} | self._leaves()
        for node in self._layout.nodes:
            if node.operator == QUANTIZE:
                values[node.output] = self.quantiser(node.inputs[1])(values[node.inputs[0]])
            else:
                inputs = [values[name] for name in node.inputs]
                values[node.output] = OPERATORS[node.operator](node.attributes, *inputs)
            for name in node.spent:
                del values[name]
        logits: Tensor = values[self._layout.output]
        return logits

    def _leaves(self) -> dict[str, Any]:
        """What the graph's nodes read besides the images."""
        found: dict[str, Any] = dict(self._numbers)
        for name in self._constants:
            found[name] = self.constants.get_buffer(self._keys[name])
        for name, weight in self._layout.weights.items():
            found[weight.value] = self.quantiser(weight.scale)(self.weights[self._keys[name]])
        for name, bias in self._layout.biases.items():
            found[bias.value] = rounded(self.weights[self._keys[name]], self._bias_step(bias))
        for name in self._layout.floats:
            found[name] = self.weights[self._keys[name]]
        return found

    def quantiser(self, scale: str) -> FakeQuantiser:
        """The quantiser of a scale's name in the graph."""
        found = self.quantisers[self._keys[scale]]
        assert isinstance(found, FakeQuantiser)
        return found

    def _bias_step(self, bias: Bias) -> Tensor:
        first, second = (self.quantiser(name).step() for name in bias.factors)
        return first * second

    @torch.no_grad()
    def filled(self) -> onnx.ModelProto:
        """The QDQ graph with what was learnt: integers, scales, biases."""
        layout = self._layout
        found: dict[str, Tensor] = {name: self.quantiser(name).step() for name in layout.grids}
        for name, weight in layout.weights.items():
            found[name] = self.quantiser(weight.scale).integers(self.weights[self._keys[name]])
        for name, bias in layout.biases.items():
            step = self._bias_step(bias)
            found[name] = (self.weights[self._keys[name]] / step).round()
            found[bias.scale] = step
        for name in layout.floats:
            found[name] = self.weights[self._keys[name]]
        graph = onnx.load_model_from_string(self.graph.cpu().numpy().tobytes())
        for entry in graph.graph.initializer:
            if entry.name in found:
                kind = onnx.helper.tensor_dtype_to_np_dtype(entry.data_type)
                array = found[entry.name].cpu().numpy().reshape(tuple(entry.dims)).astype(kind)
                entry.CopyFrom(numpy_helper.from_array(array, entry.name))
        return graph


def _constants(layout: Layout, arrays: Arrays) -> Arrays:
    """The numbers that do not learn, by their names as values."""
    left = arrays.keys() - layout.emptied()
    found = {name: arrays[name] for name in left if arrays[name].dtype == np.float32}
    for value, (integers, scale, zero, axis) in layout.fixed.items():
        found[value] = dequantised(arrays[integers], arrays[scale], arrays[zero], axis)
    return found


def _start(
    name: str, layout: Layout, arrays: Arrays, floats: Mapping[str, NDArray[Any]]
) -> NDArray[Any]:
    """The value that an initialiser begins to learn from."""
    array = arrays[name]
    if name in layout.floats:
        return array
    part = layout.weights.get(name) or layout.biases[name]
    scale, shape = arrays[part.scale], [1] * array.ndim
    if scale.size > 1:
        shape[layout.grids[part.scale].axis if name in layout.weights else 0] = -1
    step = scale.reshape(shape)
    value = np.asarray(array * step, np.float32)
    before = floats.get(name.removesuffix("_quantized"))
    # A pass over the graph may have changed a weight since, so they must be seen to agree.
    if before is None or before.shape != value.shape or (np.abs(before - value) > step).any():
        return value
    return before.astype(np.float32)


def _emptied(graph: onnx.ModelProto, names: set[str]) -> Tensor:
    """The bytes of the graph without the values of some initialisers."""
    left = onnx.ModelProto()
    left.CopyFrom(graph)
    for entry in left.graph.initializer:
        if entry.name in names:
            for values in ("raw_data", "float_data", "int32_data"):
                entry.ClearField(values)
    drop_traces(left.graph)
    return torch.frombuffer(bytearray(left.SerializeToString()), dtype=torch.uint8)
