"""What operators are given besides tensors: attributes, and numbers that shapes are made of.

A value of the graph is a `Tensor` where it follows from the images, and a numpy array where it is
constant or follows from shapes alone; of those, sizes that a tracer has yet to learn are kept as
objects. So axes and shapes are never read off a tensor.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

Attributes = dict[str, Any]
Host = NDArray[Any]
"""An array that is known without the images."""

OPSET = "opset"
"""Among the attributes: the version of ONNX's own operators that the graph is of."""
NEWEST = 26


class NotReadError(Exception):
    """What an operator does with these attributes is not covered; the message says what."""


def keys_of(names: Iterable[str]) -> dict[str, str]:
    """For each of a graph's names one that torch takes for a buffer: without a dot, none twice."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    holders = nn.Module(), nn.ModuleDict(), nn.ParameterDict()
    for index, name in enumerate(sorted(names)):
        key = name.replace(".", "/")
        while not key or key in taken or any(hasattr(holder, key) for holder in holders):
            key = f"{key}_{index}"
        taken.add(key)
        found[name] = key
    return found


def opset(a: Attributes) -> int:
    """The version of the graph's operators."""
    return int(a.get(OPSET, NEWEST))


def ints(value: Any) -> list[Any]:
    """A list of integers (or sizes) of what the graph gives as one: a list, array or tensor."""
    if isinstance(value, np.ndarray):
        found = value.reshape(-1).tolist()
        return found if value.dtype == object else [int(each) for each in found]
    if isinstance(value, Tensor):
        return [int(each) for each in value.reshape(-1).tolist()]
    return list(value)


def number(value: Any) -> Any:
    """A single number of what the graph gives as one."""
    if isinstance(value, np.ndarray | Tensor):
        return value.reshape(-1).tolist()[0]
    return value


def text(a: Attributes, name: str, default: str) -> str:
    """An attribute of type string."""
    value = a.get(name, default.encode())
    return value.decode() if isinstance(value, bytes) else str(value)


def require(holds: bool, what: str) -> None:
    """Say that an operator is not covered as it stands.

    Raises:
        NotReadError: unless `holds`.
    """
    if not holds:
        raise NotReadError(what)
