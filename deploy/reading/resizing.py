"""Resize and Upsample, one axis after another: each new line is a weighted sum of old ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deploy.reading.values import Attributes, ints, opset, require, text

Weights = NDArray[np.float64]


def _resize(
    a: Attributes, x: Tensor, region: Any = None, scales: Any = None, sizes: Any = None
) -> Tensor:
    if opset(a) < 11:
        # (x, scales), of one way to place the pixels.
        a = a | {"coordinate_transformation_mode": b"asymmetric", "nearest_mode": b"floor"}
        scales, sizes = region, None
    require(
        text(a, "keep_aspect_ratio_policy", "stretch") == "stretch", "a Resize that keeps the ratio"
    )
    require(not a.get("antialias", 0), "a Resize with antialias")
    over = [axis % x.dim() for axis in a.get("axes") or range(x.dim())]
    by_size = sizes is not None and sizes.size > 0
    for i, axis in enumerate(over):
        old = x.shape[axis]
        if by_size:
            new = ints(sizes)[i]
            if new is old or new == old:
                continue
            scale = new / old
        else:
            scale = float(scales.reshape(-1)[i])
            if scale == 1.0:
                continue
            # In float32, as ONNX Runtime multiplies: 1.1 as a float is above 1.1.
            new = math.floor(np.float32(old) * np.float32(scale))
        x = _along(x, axis, weights(a, old, new, scale))
    return x


def _along(x: Tensor, axis: int, table: Weights) -> Tensor:
    matrix = torch.from_numpy(table).to(x.device, x.dtype)
    return (x.transpose(axis, -1) @ matrix.T).transpose(axis, -1)


def weights(a: Attributes, old: int, new: int, scale: float) -> Weights:
    """(new, old): what each new value takes from the old ones.

    Args:
        scale: as the graph states it; new / old is less exact where the product was cut.
    """
    mode = text(a, "mode", "nearest")
    at = _coordinates(text(a, "coordinate_transformation_mode", "half_pixel"), old, new, scale)
    if mode == "nearest":
        places = _nearest(text(a, "nearest_mode", "round_prefer_floor"), at)
        return _sums(places[:, None], np.ones((new, 1)), old)
    if mode == "linear":
        at = at.clip(0, old - 1)
        low = np.floor(at)
        share = at - low
        return _sums(np.stack([low, low + 1], 1), np.stack([1 - share, share], 1), old)
    require(mode == "cubic", f"a Resize of mode {mode}")
    return _cubic(a, at, old)


def _coordinates(mode: str, old: int, new: int, scale: float) -> Weights:
    """Where in the old picture each new pixel lies: in float32, as runtimes round it."""
    return _placed(mode, old, new, np.float32(scale)).astype(np.float64)


def _placed(mode: str, old: int, new: int, scale: np.float32) -> NDArray[np.float32]:
    place, half = np.arange(new, dtype=np.float32), np.float32(0.5)
    if mode == "asymmetric":
        return place / scale
    if mode == "align_corners":
        return place * np.float32(old - 1) / np.float32(new - 1) if new > 1 else 0 * place
    if mode == "pytorch_half_pixel" and new == 1:
        return 0 * place
    if mode == "half_pixel_symmetric":
        adjustment = np.float32(new) / (scale * np.float32(old))
        return half * np.float32(old) * (1 - adjustment) + (place + half) / scale - half
    if mode == "tf_half_pixel_for_nn":
        return (place + half) / scale
    require(mode in ("half_pixel", "pytorch_half_pixel"), f"a Resize by {mode}")
    return (place + half) / scale - half


def _nearest(mode: str, at: Weights) -> Weights:
    known: dict[str, Callable[[Weights], Weights]] = {
        "round_prefer_floor": lambda at: np.ceil(at - 0.5),
        "round_prefer_ceil": lambda at: np.floor(at + 0.5),
        "floor": np.floor,
        "ceil": np.ceil,
    }
    require(mode in known, f"a Resize by {mode}")
    return known[mode](at)


def _cubic(a: Attributes, at: Weights, old: int) -> Weights:
    sharp = a.get("cubic_coeff_a", -0.75)
    low = np.floor(at)
    places = low[:, None] + np.arange(-1, 3)
    far = np.abs(at[:, None] - places)
    near = ((sharp + 2) * far - (sharp + 3)) * far**2 + 1
    wide = ((sharp * far - 5 * sharp) * far + 8 * sharp) * far - 4 * sharp
    shares = np.where(far <= 1, near, np.where(far < 2, wide, 0))
    if a.get("exclude_outside", 0):
        shares = np.where((places < 0) | (places >= old), 0, shares)
        shares = shares / shares.sum(axis=1, keepdims=True)
    return _sums(places, shares, old)


def _sums(places: NDArray[Any], shares: Weights, old: int) -> Weights:
    """The table of shares at places (new, K); those outside count for the line at the edge."""
    found = np.zeros((len(places), old))
    columns = places.clip(0, old - 1).astype(np.int64)
    for k in range(places.shape[1]):
        np.add.at(found, (np.arange(len(places)), columns[:, k]), shares[:, k])
    return found


def _upsample(a: Attributes, x: Tensor, scales: Any = None) -> Tensor:
    factors = np.asarray(a["scales"]) if scales is None else scales
    return _resize(a | {"opset": 10}, x, factors)


RESIZING: dict[str, Callable[..., Any]] = {"Resize": _resize, "Upsample": _upsample}
