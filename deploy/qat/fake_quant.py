"""Rounding to integers that passes a gradient: fake quantisation with scales that learn."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class _OnGrid(torch.autograd.Function):
    """`clamp(round(x / scale), least, most) * scale`, rounding half to even as ONNX does.

    The gradients are those of learned step sizes (LSQ, Esser et al. 2020, equations 3 and 5): to
    x straight through where it is inside the range and none outside, and to the scale by how the
    rounded value moves with it, here times the scale's square: then a step of gradient descent
    changes it by a share of itself, as if its logarithm were learnt (TQT, Jain et al. 2020).
    Scales of 1e-4 and of 1 stand side by side in a network, and LSQ's own factor, which does
    not know how large they are, lets the small ones grow twentyfold within a hundred steps.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, least: int, most: int, clips: bool) -> Tensor:
        ratio = x / scale
        whole = ratio.round()
        levels = whole.clamp(least, most)
        # Judged after rounding, as by torch's own fake_quantize: the largest value of a range lies
        # outside by a rounding error as often as not.
        inside = levels == whole if clips else torch.ones_like(x, dtype=torch.bool)
        if ctx.needs_input_grad[1]:
            ctx.save_for_backward(inside, levels - ratio * inside, scale)
        else:
            ctx.save_for_backward(inside)
        return levels.mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gradient = gradients[0]
        inside, *to_scale = ctx.saved_tensors
        d_scale = None
        if to_scale:
            slope, scale = to_scale
            d_scale = (gradient * slope).sum_to_size(scale.shape) * scale.square()
        return gradient * inside, d_scale, None, None, None


class FakeQuantiser(nn.Module):
    """A pair of QuantizeLinear and DequantizeLinear: values onto the grid of an integer type.

    Args:
        scale: of one step, () or (C,) along `axis`; a parameter learns, and a buffer does not.
        least, most: range of the integers, less the zero point, which does not learn.
        clips: whether values beyond the range pass no gradient. Of images they do: off the grid of
            its levels, black or white lies up to half a step beyond, by the rounding of the zero
            point, and an attack in training that left such pixels alone would take the model for
            robust.
        axis: of the channels, where each has a scale.
    """

    scale: Tensor

    def __init__(
        self, scale: Tensor, least: int, most: int, axis: int = 0, *, clips: bool = True
    ) -> None:
        super().__init__()
        if isinstance(scale, nn.Parameter):
            self.scale = scale
        else:
            self.register_buffer("scale", scale)
        self._least, self._most, self._axis, self._clips = least, most, axis, clips

    def step(self) -> Tensor:
        """The scale in use: positive, whatever an optimiser made of it."""
        return self.scale.abs()

    def forward(self, x: Tensor) -> Tensor:
        """Values of the grid, of the shape of x."""
        passed: Tensor = _OnGrid.apply(x, self._along(x), self._least, self._most, self._clips)
        return passed

    def integers(self, x: Tensor) -> Tensor:
        """The integers that stand for x, where the zero point is 0."""
        return (x / self._along(x)).round().clamp(self._least, self._most)

    def _along(self, x: Tensor) -> Tensor:
        if self.scale.numel() == 1:
            return self.step().reshape(())
        return self.step().reshape([-1 if d == self._axis else 1 for d in range(x.dim())])


def rounded(x: Tensor, scale: Tensor) -> Tensor:
    """x in whole steps of `scale` without a bound, and its gradient straight through."""
    return x + ((x / scale).round() * scale - x).detach()
