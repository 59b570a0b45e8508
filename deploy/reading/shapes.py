"""Operators that put values elsewhere, and compute none."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from deploy.reading.statistics import axes_of
from deploy.reading.values import Attributes, Host, ints, number, opset, require, text


def _shape(a: Attributes, x: Tensor) -> Host:
    return np.array([*x.shape][a.get("start", 0) : a.get("end", x.dim())], dtype=object)


def _size(_: Attributes, x: Tensor) -> Host:
    return np.array(math.prod(x.shape), dtype=object)


def _reshape(a: Attributes, x: Tensor, shape: Any) -> Tensor:
    copied = not a.get("allowzero", 0)
    sizes = [
        x.shape[i] if copied and d is not None and _is(d, 0) else d
        for i, d in enumerate(ints(shape))
    ]
    return x.reshape(sizes)


def _is(size: Any, value: int) -> bool:
    """Is it this number, rather than a size that a tracer has yet to learn?"""
    return isinstance(size, int) and size == value


def _flatten(a: Attributes, x: Tensor) -> Tensor:
    axis = a.get("axis", 1)
    axis = axis + x.dim() if axis < 0 else axis
    return x.flatten(1) if axis == 1 else x.reshape(math.prod(x.shape[:axis]), -1)


def _squeeze(a: Attributes, x: Tensor, axes: Any = None) -> Tensor:
    over = axes_of(a, axes)
    return x.squeeze() if over is None else x.squeeze(tuple(over))


def _unsqueeze(a: Attributes, x: Tensor, axes: Any = None) -> Tensor:
    over = axes_of(a, axes) or []
    rank = x.dim() + len(over)
    for axis in sorted(axis % rank for axis in over):
        x = x.unsqueeze(axis)
    return x


def _expand(_: Attributes, x: Tensor, shape: Any) -> Tensor:
    wanted = ints(shape)
    rank = max(len(wanted), x.dim())
    wanted = [1] * (rank - len(wanted)) + wanted
    own = [1] * (rank - x.dim()) + [*x.shape]
    return x.expand(
        [mine if _is(size, 1) else size for size, mine in zip(wanted, own, strict=True)]
    )


def _split(a: Attributes, x: Tensor, split: Any = None) -> tuple[Tensor, ...]:
    axis = a.get("axis", 0)
    parts = a.get("split") if split is None else ints(split)
    if parts is not None:
        return torch.split(x, list(parts), dim=axis)
    count, size = a["outputs"], x.shape[axis]
    # Since opset 18 the last one may be smaller.
    return torch.split(x, -(-size // count), dim=axis)


def _slice(
    a: Attributes,
    x: Tensor,
    starts: Any = None,
    ends: Any = None,
    axes: Any = None,
    steps: Any = None,
) -> Tensor:
    if opset(a) < 10:
        starts, ends, axes = a["starts"], a["ends"], a.get("axes")
    begins, stops = ints(starts), ints(ends)
    over = list(range(len(begins))) if axes is None else ints(axes)
    strides = [1] * len(begins) if steps is None else ints(steps)
    for begin, end, axis, step in zip(begins, stops, over, strides, strict=True):
        axis = axis % x.dim()
        if step > 0:
            x = x[(slice(None),) * axis + (slice(begin, end, step),)]
        else:
            places = range(*slice(begin, end, step).indices(x.shape[axis]))
            x = _taken(x, list(places), axis)
    return x


def _taken(x: Tensor, places: list[int], axis: int) -> Tensor:
    return x.index_select(axis, torch.tensor(places, dtype=torch.int64, device=x.device))


def _gather(a: Attributes, x: Tensor, indices: Any) -> Tensor:
    axis = a.get("axis", 0) % x.dim()
    require(isinstance(indices, np.ndarray), "a Gather at places that the picture decides")
    size = x.shape[axis]
    places = [index + size if index < 0 else index for index in ints(indices)]
    if indices.ndim == 0:
        return x.select(axis, places[0])
    taken = _taken(x, places, axis)
    return taken.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


def _pad(a: Attributes, x: Tensor, pads: Any = None, value: Any = None, axes: Any = None) -> Tensor:
    if opset(a) < 11:
        pads, value = a["pads"], a.get("value")
    around, mode = ints(pads), text(a, "mode", "constant")
    over = list(range(x.dim())) if axes is None else [axis % x.dim() for axis in ints(axes)]
    pairs = {axis: (around[i], around[i + len(over)]) for i, axis in enumerate(over)}
    if mode == "constant":
        # ONNX lists where all axes begin, then where they end; torch, from the last axis on.
        wanted = [n for axis in reversed(range(x.dim())) for n in pairs.get(axis, (0, 0))]
        return F.pad(x, wanted, value=0.0 if value is None else number(value))
    for axis, (begin, end) in pairs.items():
        if begin or end:
            places = np.arange(-begin, x.shape[axis] + end)
            x = _taken(x, _mirrored(mode, places, x.shape[axis]), axis)
    return x


def _mirrored(mode: str, places: Host, size: int) -> list[int]:
    """Which of `size` values stands at places that may lie before the first or after the last."""
    require(mode in ("reflect", "edge", "wrap"), f"Pad of mode {mode}")
    if mode == "edge":
        return [int(place) for place in places.clip(0, size - 1)]
    if mode == "wrap":
        return [int(place) for place in places % size]
    period = max(2 * (size - 1), 1)
    return [int(min(place, period - place)) for place in places % period]


def _constant_of_shape(a: Attributes, shape: Any) -> Any:
    value = a["value"].reshape(-1)[0] if "value" in a else np.float32(0)
    sizes = ints(shape)
    if all(isinstance(size, int) for size in sizes):
        return np.full(sizes, value)
    return torch.full(sizes, value.item())


def _tile(_: Attributes, x: Tensor, repeats: Any) -> Tensor:
    return x.repeat(ints(repeats))


def _depth_to_space(a: Attributes, x: Tensor) -> Tensor:
    block, (count, channels, height, width) = a["blocksize"], x.shape
    depth = channels // block**2
    if text(a, "mode", "DCR") == "CRD":
        parts = x.reshape(count, depth, block, block, height, width).permute(0, 1, 4, 2, 5, 3)
    else:
        parts = x.reshape(count, block, block, depth, height, width).permute(0, 3, 4, 1, 5, 2)
    return parts.reshape(count, depth, height * block, width * block)


def _space_to_depth(a: Attributes, x: Tensor) -> Tensor:
    block, (count, channels, height, width) = a["blocksize"], x.shape
    parts = x.reshape(count, channels, height // block, block, width // block, block)
    return parts.permute(0, 3, 5, 1, 2, 4).reshape(
        count, channels * block**2, height // block, width // block
    )


def _transpose(a: Attributes, x: Tensor) -> Tensor:
    return x.permute(list(a["perm"]) if "perm" in a else list(reversed(range(x.dim()))))


SHAPES: dict[str, Callable[..., Any]] = {
    "Concat": lambda a, *parts: torch.cat(parts, dim=a["axis"]),
    "ConstantOfShape": _constant_of_shape,
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Pad": _pad,
    "Reshape": _reshape,
    "Shape": _shape,
    "Size": _size,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
