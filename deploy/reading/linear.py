"""Convolutions and products of matrices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from deploy.reading.values import Attributes, require, text

CONVOLUTIONS: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED: dict[int, Callable[..., Tensor]] = {
    1: F.conv_transpose1d,
    2: F.conv_transpose2d,
    3: F.conv_transpose3d,
}


def pads_of(a: Attributes, sizes: list[int], kernel: list[int]) -> list[tuple[int, int]]:
    """(begin, end) of the padding by spatial axis, as `pads` or `auto_pad` says it.

    Args:
        sizes: of the spatial axes of what is padded.
        kernel: of the same axes.
    """
    rank = len(kernel)
    mode = text(a, "auto_pad", "NOTSET")
    if mode in ("", "NOTSET"):
        pads = list(a.get("pads") or [0] * 2 * rank)
        return list(zip(pads[:rank], pads[rank:], strict=True))
    if mode == "VALID":
        return [(0, 0)] * rank
    found = []
    strides, dilations = a.get("strides") or [1] * rank, a.get("dilations") or [1] * rank
    for size, length, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        reach = (length - 1) * dilation + 1
        total = max((-(-size // stride) - 1) * stride + reach - size, 0)
        few, many = total // 2, total - total // 2
        found.append((few, many) if mode == "SAME_UPPER" else (many, few))
    return found


def padded(x: Tensor, pads: list[tuple[int, int]], value: float) -> tuple[Tensor, tuple[int, ...]]:
    """x and the padding that is left to do, which torch does alike on both sides only."""
    if all(begin == end for begin, end in pads):
        return x, tuple(begin for begin, _ in pads)
    wanted = [each for pair in reversed(pads) for each in pair]
    return F.pad(x, wanted, value=value), (0,) * len(pads)


def conv(
    a: Attributes,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    convolution: Callable[..., Tensor] | None = None,
) -> Tensor:
    """Conv of one to three spatial axes; by torch's own `convolution` unless another is given."""
    rank = weight.dim() - 2
    require(rank in CONVOLUTIONS, f"a convolution over {rank} axes")
    x, padding = padded(x, pads_of(a, list(x.shape[2:]), list(weight.shape[2:])), 0.0)
    strides = tuple(a.get("strides") or (1,) * rank)
    dilations = tuple(a.get("dilations") or (1,) * rank)
    compute = convolution or CONVOLUTIONS[rank]
    return compute(x, weight, bias, strides, padding, dilations, a.get("group", 1))


def _conv_transpose(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    rank = weight.dim() - 2
    require(rank in TRANSPOSED, f"a transposed convolution over {rank} axes")
    require("output_shape" not in a, "a transposed convolution with output_shape")
    mode = text(a, "auto_pad", "NOTSET")
    require(mode in ("", "NOTSET", "VALID"), f"a transposed convolution with auto_pad {mode}")
    pads = list(a.get("pads") or [0] * 2 * rank)
    strides, dilations = a.get("strides") or [1] * rank, a.get("dilations") or [1] * rank
    extra = a.get("output_padding") or [0] * rank
    whole = TRANSPOSED[rank](x, weight, bias, strides, 0, extra, a.get("group", 1), dilations)
    for axis in range(rank):
        begin, end = pads[axis], pads[rank + axis]
        whole = whole.narrow(axis + 2, begin, whole.shape[axis + 2] - begin - end)
    return whole


def _gemm(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    x = x.T if a.get("transA", 0) else x
    weight = weight if a.get("transB", 0) else weight.T
    product: Tensor = F.linear(x, weight) * a.get("alpha", 1.0)
    return product if bias is None else product + a.get("beta", 1.0) * bias


def _einsum(a: Attributes, *parts: Tensor) -> Tensor:
    return torch.einsum(text(a, "equation", ""), *parts)


LINEAR: dict[str, Callable[..., Any]] = {
    "Conv": conv,
    "ConvTranspose": _conv_transpose,
    "Einsum": _einsum,
    "Gemm": _gemm,
    "MatMul": lambda _, x, y: x @ y,
}
