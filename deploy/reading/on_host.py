"""Arithmetic of shapes in numpy: what a graph computes of sizes, without a picture.

Sizes are kept as Python's own integers, or as those of a tracer that exports the network with a
free batch size.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
from onnx import TensorProto

from deploy.reading.values import Attributes, Host, ints, number, opset


def _cast(a: Attributes, x: Host) -> Host:
    if a["to"] == TensorProto.BOOL:
        return x.astype(bool)
    if x.dtype == object:
        # Numbers, or a tracer's, which are whole.
        whole = a["to"] == TensorProto.INT64
        return _plain(
            np.vectorize(lambda n: int(n) if whole and type(n) is float else n, [object])
        )(a, x)
    if a["to"] in (
        TensorProto.FLOAT,
        TensorProto.FLOAT16,
        TensorProto.DOUBLE,
        TensorProto.BFLOAT16,
    ):
        return x.astype(np.float32)
    return x.astype(np.int64)


def _axes(a: Attributes, axes: Host | None) -> list[int] | None:
    return a.get("axes") if axes is None else ints(axes)


def _squeeze(a: Attributes, x: Host, axes: Host | None = None) -> Host:
    over = _axes(a, axes)
    return np.squeeze(x, None if over is None else tuple(over))


def _unsqueeze(a: Attributes, x: Host, axes: Host | None = None) -> Host:
    return np.expand_dims(x, tuple(_axes(a, axes) or ()))


def _slice(
    a: Attributes,
    x: Host,
    starts: Any = None,
    ends: Any = None,
    axes: Any = None,
    steps: Any = None,
) -> Host:
    if opset(a) < 10:
        starts, ends, axes = a["starts"], a["ends"], a.get("axes")
    begins, stops = ints(starts), ints(ends)
    over = range(len(begins)) if axes is None else ints(axes)
    strides = [1] * len(begins) if steps is None else ints(steps)
    for begin, end, axis, step in zip(begins, stops, over, strides, strict=True):
        # An end before the first value is written as a number far below it.
        stop = None if step < 0 and end < -x.shape[axis] else end
        x = x[(slice(None),) * (axis % x.ndim) + (slice(begin, stop, step),)]
    return x


def _gather(a: Attributes, x: Host, indices: Host) -> Host:
    # Of a list, numpy hands out the number itself.
    found = np.take(x, indices.astype(np.int64), axis=a.get("axis", 0))
    return found if isinstance(found, np.ndarray) else np.array(found, dtype=x.dtype)


def _reshape(_: Attributes, x: Host, shape: Host) -> Host:
    sizes = [x.shape[i] if size == 0 else size for i, size in enumerate(ints(shape))]
    return x.reshape(sizes)


def _divide(_: Attributes, x: Host, y: Host) -> Host:
    if x.dtype.kind == "f" or y.dtype.kind == "f":
        return np.asarray(x / y)
    found = np.vectorize(_quotient, [object])(x, y)
    return np.asarray(found, np.result_type(x, y))


def _quotient(x: Any, y: Any) -> Any:
    """Rounded towards 0, as by ONNX; Python rounds down."""
    if isinstance(x, int) and isinstance(y, int) and (x < 0) != (y < 0):
        return -(-x // y)
    # Of one sign, or a size that a tracer has yet to learn, which is not negative.
    return x // y


def _prod(a: Attributes, x: Host, axes: Host | None = None) -> Host:
    over = _axes(a, axes)
    found = np.prod(x, axis=None if not over else tuple(over), keepdims=bool(a.get("keepdims", 1)))
    return np.asarray(found, dtype=x.dtype)


def _range(_: Attributes, start: Host, end: Host, step: Host) -> Host:
    return np.arange(number(start), number(end), number(step))


def _expand(_: Attributes, x: Host, shape: Host) -> Host:
    return x * np.ones(ints(shape), dtype=x.dtype)


def _plain(function: Callable[..., Any]) -> Callable[..., Host]:
    return lambda _, *parts: np.asarray(function(*parts))


ON_HOST: dict[str, Callable[..., Any]] = {
    "Add": _plain(lambda x, y: x + y),
    "Cast": _cast,
    "Concat": lambda a, *parts: np.concatenate(parts, axis=a["axis"]),
    "Div": _divide,
    "Equal": _plain(lambda x, y: x == y),
    "Expand": _expand,
    "Gather": _gather,
    "Identity": lambda _, x: x,
    "Max": _plain(lambda *parts: reduce(np.maximum, parts)),
    "Min": _plain(lambda *parts: reduce(np.minimum, parts)),
    "Mul": _plain(lambda x, y: x * y),
    "Range": _range,
    "ReduceProd": _prod,
    "Reshape": _reshape,
    "Shape": lambda a, x: np.array([*x.shape][a.get("start", 0) : a.get("end", x.ndim)], object),
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Sub": _plain(lambda x, y: x - y),
    "Unsqueeze": _unsqueeze,
    "Where": _plain(lambda condition, x, y: np.where(condition.astype(bool), x, y)),
}
"""By ONNX name, for arguments that are all known without the images."""
