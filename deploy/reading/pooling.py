"""Poolings over windows and over the whole picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from deploy.reading.linear import pads_of
from deploy.reading.values import Attributes, opset, require, text

MAX_POOLS: dict[int, Callable[..., Tensor]] = {
    1: F.max_pool1d,
    2: F.max_pool2d,
    3: F.max_pool3d,
}
CONVOLUTIONS: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def _windows(
    a: Attributes, x: Tensor
) -> tuple[list[int], list[int], list[int], list[tuple[int, int]], list[int]]:
    """Kernel, strides, dilations, pads, and what `ceil_mode` adds at each end beyond these."""
    kernel = list(a["kernel_shape"])
    rank = len(kernel)
    require(rank in MAX_POOLS and x.dim() == rank + 2, f"a pooling over {rank} axes")
    strides = list(a.get("strides") or [1] * rank)
    dilations = list(a.get("dilations") or [1] * rank)
    sizes = list(x.shape[2:])
    pads = pads_of(a, sizes, kernel)
    if not a.get("ceil_mode", 0) or text(a, "auto_pad", "NOTSET") not in ("", "NOTSET"):
        return kernel, strides, dilations, pads, [0] * rank
    beyond = []
    for size, length, stride, dilation, (begin, end) in zip(
        sizes, kernel, strides, dilations, pads, strict=True
    ):
        reach = (length - 1) * dilation + 1
        steps = -(-(size + begin + end - reach) // stride)
        # A window that would begin beyond the picture and its first padding is none.
        if steps * stride >= size + begin:
            steps -= 1
        beyond.append(max(steps * stride + reach - (size + begin + end), 0))
    return kernel, strides, dilations, pads, beyond


def _around(pads: list[tuple[int, int]], beyond: list[int]) -> list[int]:
    """Padding in torch's order."""
    pairs = [(begin, end + more) for (begin, end), more in zip(pads, beyond, strict=True)]
    return [each for pair in reversed(pairs) for each in pair]


def _max_pool(a: Attributes, x: Tensor) -> Tensor:
    kernel, strides, dilations, pads, beyond = _windows(a, x)
    pool = MAX_POOLS[len(kernel)]
    even = all(b == e and 2 * b <= length for (b, e), length in zip(pads, kernel, strict=True))
    if even and not any(beyond):
        return pool(x, kernel, strides, [begin for begin, _ in pads], dilations)
    return pool(F.pad(x, _around(pads, beyond), value=-torch.inf), kernel, strides, 0, dilations)


def _average_pool(a: Attributes, x: Tensor) -> Tensor:
    kernel, strides, dilations, pads, beyond = _windows(a, x)
    include = bool(a.get("count_include_pad", 0))
    even = all(b == e and 2 * b <= length for (b, e), length in zip(pads, kernel, strict=True))
    if len(kernel) == 2 and even and not any(beyond) and set(dilations) == {1}:
        padding = tuple(begin for begin, _ in pads)
        return F.avg_pool2d(x, kernel, strides, padding, count_include_pad=include)
    # What `ceil_mode` adds is counted by nobody; the padding where it is asked for.
    ones = x.new_ones(1, 1, *x.shape[2:])
    ones = F.pad(ones, _around(pads, [0] * len(kernel)), value=1.0 if include else 0.0)
    ones = F.pad(ones, _around([(0, 0)] * len(kernel), beyond))
    one = x.new_ones(1, 1, *kernel)
    convolve = CONVOLUTIONS[len(kernel)]
    channels = x.shape[1]
    sums = convolve(
        F.pad(x, _around(pads, beyond)),
        one.expand(channels, 1, *kernel),
        None,
        strides,
        0,
        dilations,
        channels,
    )
    found: Tensor = sums / convolve(ones, one, None, strides, 0, dilations)
    return found


def _lp_pool(a: Attributes, x: Tensor) -> Tensor:
    p = a.get("p", 2)
    area = 1
    for length in a["kernel_shape"]:
        area *= length
    mean = _average_pool(a | {"count_include_pad": 1}, x.abs() ** p)
    found: Tensor = (mean * area) ** (1 / p)
    return found


def _spatial(x: Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.dim()))


def _global_lp(a: Attributes, x: Tensor) -> Tensor:
    p = a.get("p", 2)
    total: Tensor = (x.abs() ** p).sum(dim=_spatial(x), keepdim=True) ** (1 / p)
    return total


def _indices_unused(a: Attributes, x: Tensor) -> Tensor:
    require(opset(a) < 8 or not a.get("storage_order", 0), "MaxPool by columns")
    return _max_pool(a, x)


POOLING: dict[str, Callable[..., Any]] = {
    "AveragePool": _average_pool,
    "GlobalAveragePool": lambda _, x: x.mean(dim=_spatial(x), keepdim=True),
    "GlobalLpPool": _global_lp,
    "GlobalMaxPool": lambda _, x: x.amax(dim=_spatial(x), keepdim=True),
    "LpPool": _lp_pool,
    "MaxPool": _indices_unused,
}
