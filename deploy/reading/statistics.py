"""Operators over whole axes: reductions and normalisations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from deploy.reading.values import Attributes, ints, opset, require

Reduction = Callable[[Tensor, tuple[int, ...], bool], Tensor]


def axes_of(a: Attributes, axes: Any) -> list[int] | None:
    """The axes of an input, or as older operators state them; None where nobody says any."""
    stated = a.get("axes") if axes is None else ints(axes)
    return None if stated is None or len(stated) == 0 else [int(axis) for axis in stated]


def _reducing(reduction: Reduction, *, of_one: bool = True) -> Callable[..., Tensor]:
    """The operator of a reduction; `of_one` says that one of a single value is that value."""

    def apply(a: Attributes, x: Tensor, axes: Any = None) -> Tensor:
        over = axes_of(a, axes)
        if over is None and a.get("noop_with_empty_axes", 0):
            # Runtimes and versions of the standard differ on what is left of the others then.
            require(of_one, "a reduction over no axes (noop_with_empty_axes)")
            return x
        dims = tuple(range(x.dim())) if over is None else tuple(over)
        return reduction(x, dims, bool(a.get("keepdims", 1)))

    return apply


def _product(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    for dim in sorted((dim % x.dim() for dim in dims), reverse=True):
        x = x.prod(dim=dim, keepdim=keep)
    return x


def _batch_norm(
    a: Attributes, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor
) -> Tensor:
    require(not a.get("training_mode", 0), "statistics of the batch (training_mode)")
    epsilon = a.get("epsilon", 1e-5)
    if opset(a) < 9 and not a.get("spatial", 1):
        found: Tensor = (x - mean) / (variance + epsilon).sqrt() * scale + bias
        return found
    return F.batch_norm(x, mean, variance, scale, bias, eps=epsilon)


def _layer_norm(a: Attributes, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    axis = a.get("axis", -1) % x.dim()
    dims = tuple(range(axis, x.dim()))
    found = _standardised(x, dims, a.get("epsilon", 1e-5)) * scale
    return found if bias is None else found + bias


def _rms_norm(a: Attributes, x: Tensor, scale: Tensor) -> Tensor:
    dims = tuple(range(a.get("axis", -1) % x.dim(), x.dim()))
    root = (x.square().mean(dim=dims, keepdim=True) + a.get("epsilon", 1e-5)).sqrt()
    found: Tensor = x / root * scale
    return found


def _standardised(x: Tensor, dims: tuple[int, ...], epsilon: float) -> Tensor:
    centred = x - x.mean(dim=dims, keepdim=True)
    return centred / (centred.square().mean(dim=dims, keepdim=True) + epsilon).sqrt()


def _group_norm(a: Attributes, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    groups, channels = a["num_groups"], x.shape[1]
    if opset(a) < 21:
        # Until then each group had one scale.
        repeats = channels // groups
        scale, bias = scale.repeat_interleave(repeats), bias.repeat_interleave(repeats)
    return F.group_norm(x, groups, scale, bias, a.get("epsilon", 1e-5))


def _instance_norm(a: Attributes, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    shape = (1, -1, *[1] * (x.dim() - 2))
    found = _standardised(x, tuple(range(2, x.dim())), a.get("epsilon", 1e-5))
    return found * scale.reshape(shape) + bias.reshape(shape)


def _local_response(a: Attributes, x: Tensor) -> Tensor:
    """Each value by the squares of `size` channels around it; of an even size, one more after."""
    size, channels = a["size"], x.shape[1]
    before = (size - 1) // 2
    squares = F.pad(x.square(), [0, 0] * (x.dim() - 2) + [before, size - 1 - before])
    total = squares.narrow(1, 0, channels)
    for shift in range(1, size):
        total = total + squares.narrow(1, shift, channels)
    scale: Tensor = a.get("bias", 1.0) + a.get("alpha", 1e-4) / size * total
    found: Tensor = x / scale ** a.get("beta", 0.75)
    return found


def _lp_normalised(a: Attributes, x: Tensor) -> Tensor:
    length = x.norm(p=a.get("p", 2), dim=a.get("axis", -1), keepdim=True)
    return torch.where(length == 0, torch.zeros_like(x), x / length.clamp_min(1e-30))


def _mean_variance(a: Attributes, x: Tensor) -> Tensor:
    return _standardised(x, tuple(a.get("axes", (0, 2, 3))), 1e-18)


STATISTICS: dict[str, Callable[..., Any]] = {
    "BatchNormalization": _batch_norm,
    "GroupNormalization": _group_norm,
    "InstanceNormalization": _instance_norm,
    "LRN": _local_response,
    "LayerNormalization": _layer_norm,
    "LpNormalization": _lp_normalised,
    "MeanVarianceNormalization": _mean_variance,
    "RMSNormalization": _rms_norm,
    "ReduceL1": _reducing(lambda x, dims, keep: x.abs().sum(dims, keep), of_one=False),
    "ReduceL2": _reducing(lambda x, dims, keep: x.norm(dim=dims, keepdim=keep), of_one=False),
    "ReduceLogSum": _reducing(lambda x, dims, keep: x.sum(dims, keep).log(), of_one=False),
    "ReduceLogSumExp": _reducing(lambda x, dims, keep: x.logsumexp(dims, keep), of_one=False),
    "ReduceMax": _reducing(lambda x, dims, keep: x.amax(dims, keep)),
    "ReduceMean": _reducing(lambda x, dims, keep: x.mean(dims, keep)),
    "ReduceMin": _reducing(lambda x, dims, keep: x.amin(dims, keep)),
    "ReduceProd": _reducing(_product),
    "ReduceSum": _reducing(lambda x, dims, keep: x.sum(dims, keep)),
    "ReduceSumSquare": _reducing(lambda x, dims, keep: x.square().sum(dims, keep), of_one=False),
}
