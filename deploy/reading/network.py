"""A classifier in ONNX as a torch module: images to logits, with gradients to the images.

The graph may be of any producer and precision. It is computed in float32 (or as the module is),
whatever width its own floats have, and roundings pass their gradient (see `integers`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from deploy.reading.ending import without_softmax
from deploy.reading.graph import Step, UnreadError, apply, read_graph, unread
from deploy.reading.pointwise import as_host
from deploy.reading.values import Host, NotReadError, keys_of
from edge_bench.backends.base import ImageInput


@dataclass(frozen=True, kw_only=True)
class Ends:
    """How images enter a graph, and where its logits leave it.

    Attributes:
        image_shape: (channels, height, width) to try it with, where the graph leaves a size open.
        mean, std: of each channel of images in [0, 1], where the graph does not hold its own.
    """

    input: ImageInput
    output: str
    image_shape: tuple[int, int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


class GraphNetwork(nn.Module):
    """Images (B, C, H, W) in [0, 1] to logits (B, classes), as an ONNX graph computes them.

    Weights are buffers: nothing here is trained. What the graph takes is made of the images first:
    normalised where `ends` says so, in levels of 0 to 255 where it reads uint8, channels last. A
    graph of a fixed batch size is computed for any, as far as it can be (see `free`).

    Args:
        graph: with all of its data.
        where: its file, for messages.

    Raises:
        UnreadError: what is not covered, by operator.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, graph: onnx.ModelProto, where: str, ends: Ends) -> None:
        super().__init__()
        self._where, self._ends = where, ends
        without_softmax(graph.graph, ends.output)
        reading = read_graph(graph, where, ends.input.name, ends.output)
        self._steps = reading.steps
        self._bound = ends.input.batch_size
        self.is_half = ends.input.dtype == "float16" or reading.is_half
        self._numbers: dict[str, Host] = {}
        tensors: set[str] = set()
        for step in self._steps:
            for at, name in enumerate(step.inputs):
                if name in reading.constants and step.takes_numbers(at):
                    self._numbers[name] = reading.constants[name]
                elif name in reading.constants:
                    tensors.add(name)
        self._keys = keys_of(tensors)
        self.weights = nn.Module()
        for name, key in self._keys.items():
            self.weights.register_buffer(key, as_host(reading.constants[name]))
        for name, values, default in (("mean", ends.mean, 0.0), ("std", ends.std, 1.0)):
            tensor = torch.tensor(values or [default], dtype=torch.float32)
            self.register_buffer(name, tensor.reshape(1, -1, 1, 1))
        self._try()

    @property
    def batch_size(self) -> int | None:
        """The only batch size that the graph can be computed for at once; None where any is."""
        return self._bound

    @property
    def rounds(self) -> bool:
        """Does the graph round to integers, so that its gradients are those of a stand-in?"""
        return any(step.operator in ROUNDING for step in self._steps)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to logits (B, classes)."""
        if self._bound is None or len(images) == self._bound:
            return self._logits(images)
        missing = -len(images) % self._bound
        filled = torch.cat([images, images[-1:].expand(missing, *images.shape[1:])])
        parts = [self._logits(part) for part in torch.split(filled, self._bound)]
        return torch.cat(parts)[: len(images)]

    def _logits(self, images: Tensor) -> Tensor:
        values: dict[str, Any] = {self._ends.input.name: self._entering(images)}
        for step in self._steps:
            found = self._computed(step, values)
            values |= {
                name: value for name, value in zip(step.outputs, found, strict=False) if name
            }
            for name in step.spent:
                del values[name]
        logits: Tensor = values[self._ends.output]
        return logits.flatten(1) if logits.dim() > 1 else logits

    def _entering(self, images: Tensor) -> Tensor:
        """The images as the graph takes them."""
        if self._ends.mean is not None:
            images = (images - self.mean) / self.std
        if self._ends.input.dtype == "uint8":
            images = images * 255
        return images.permute(0, 2, 3, 1) if self._ends.input.channels_last else images

    def _computed(self, step: Step, values: dict[str, Any]) -> tuple[Any, ...]:
        given: list[Any] = []
        for at, name in enumerate(step.inputs):
            if not name:
                given.append(None)
            elif name in values:
                given.append(values[name])
            elif step.takes_numbers(at):
                given.append(self._numbers[name])
            elif name in self._keys:
                given.append(self.weights.get_buffer(self._keys[name]))
            else:
                # A second output of an operator that has one here, or a sparse constant.
                raise unread(step, NotReadError(f"nothing that is read makes {name}"), self._where)
        try:
            return apply(step, given)
        except Exception as error:
            raise unread(step, error, self._where) from None

    @torch.no_grad()
    def _try(self) -> None:
        """Compute once, and free the batch size where that changes nothing."""
        shape = self._ends.input.image_shape
        other = self._ends.image_shape or (3, ANY_SIZE, ANY_SIZE)
        channels, height, width = (own or size for own, size in zip(shape, other, strict=True))
        count = self._bound or 2
        generator = torch.Generator().manual_seed(0)
        images = torch.rand(count, channels, height, width, generator=generator)
        logits = self._logits(images)
        if logits.dim() != 2 or len(logits) != count:
            raise UnreadError(
                f"{self._where}: expected its graph to make logits ({count}, classes) of {count} "
                f"images, came {tuple(logits.shape)} as torch computes it"
            )
        if self._bound is not None:
            self._free(images)

    def _free(self, images: Tensor) -> None:
        """Let each Reshape of the fixed batch size take any, if that computes the same."""
        assert self._bound is not None
        two = torch.cat([images, images.flip(0)])
        expected = torch.cat([self._logits(part) for part in torch.split(two, self._bound)])
        before = dict(self._numbers)
        for step in self._steps:
            if step.operator == "Reshape" and step.inputs[1] in before:
                self._numbers[step.inputs[1]] = _freed(before[step.inputs[1]], self._bound)
        try:
            if torch.allclose(self._logits(two), expected, rtol=1e-4, atol=1e-5):
                self._bound = None
                return
        except UnreadError:
            pass
        self._numbers = before


ANY_SIZE = 32
"""Of images where nobody says any size."""
ROUNDING = {"QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "Round"}


def _freed(shape: Any, bound: int) -> Any:
    """A shape whose first size is the batch's, with a size that is found out in its place."""
    if not shape.size or shape[0] != bound:
        return shape
    return np.array([0 if -1 in shape else -1, *shape[1:]], dtype=shape.dtype)


def read_network(path: Path, ends: Ends) -> GraphNetwork:
    """The network of an ONNX file, in eval mode.

    Raises:
        UnreadError: what is not covered, by operator.
    """
    return GraphNetwork(onnx.load(path), str(path), ends).eval()
