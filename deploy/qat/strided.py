"""Strided 1x1 convolutions, around a fault of torch's on x86 processors.

oneDNN, which torch calls, computes the gradient of the weights of such a convolution in a workspace
that is too small where the images lie in memory channel by channel of each pixel and a group's
channels are fewer than a vector holds: 8 with AVX2, 16 with AVX512 (uxlfoundation/oneDNN, issue
6035). It writes past the end: with one thread the process dies sooner or later, with two it hangs
or learns from other gradients at each run. Nor can a caller choose how images lie: those of one
channel, or of one pixel, lie in both ways at once, and torch then takes the one that it prefers.

A stride of 1 has no such workspace, so the pixels that are read are cut out first.
`tests/deploy/qat/test_strided.py` says when a newer torch needs this no longer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Pair = tuple[int, int]
WIDE = 16
"""Channels of a group from which the workspace is large enough, on every x86 processor."""


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> Tensor:
    """`F.conv2d` of x (B, C, H, W), up to rounding, whose weights' gradient is right everywhere.

    Where no gradient of the weights is asked for, it is `F.conv2d` itself, so that networks that
    are attacked, evaluated or exported are as they would be without.
    """
    if torch.is_grad_enabled() and weight.requires_grad and is_affected(weight, stride, padding):
        x, stride = x[:, :, :: stride[0], :: stride[1]], (1, 1)
    return F.conv2d(x, weight, bias, stride, padding, dilation, groups)


def is_affected(weight: Tensor, stride: Pair, padding: Pair) -> bool:
    """Whether a convolution with `weight` (O, C / groups, h, w) is of the faulty kind."""
    _, channels, *kernel = weight.shape
    return kernel == [1, 1] and stride != (1, 1) and padding == (0, 0) and channels < WIDE


class StridedConv2d(nn.Conv2d):
    """A layer as torch's own, computed by `conv2d`."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002, torch's name for it
        """Images (B, C, H, W) to (B, O, h, w)."""
        assert not isinstance(self.padding, str)
        parts = self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        return conv2d(input, *parts)  # type: ignore[arg-type, unused-ignore]


def mend(network: nn.Module) -> None:
    """Have each layer of the faulty kind computed by `conv2d`; names and weights stay."""
    for layer in network.modules():
        if type(layer) is not nn.Conv2d or isinstance(layer.padding, str):
            continue
        if is_affected(layer.weight, layer.stride, layer.padding):  # type: ignore[arg-type]
            layer.__class__ = StridedConv2d
