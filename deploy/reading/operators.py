"""The ONNX operators that are read, by name; one function each.

Each takes the node's attributes and its inputs: tensors, and arrays that are known without the
images where the operator wants numbers (see HOST_INPUTS). To add an operator: a function and an
entry in a table of its kind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deploy.reading.integers import INTEGERS
from deploy.reading.linear import LINEAR
from deploy.reading.pointwise import POINTWISE
from deploy.reading.pooling import POOLING
from deploy.reading.resizing import RESIZING
from deploy.reading.shapes import SHAPES
from deploy.reading.statistics import STATISTICS

OPERATORS: dict[str, Callable[..., Any]] = {
    **INTEGERS,
    **LINEAR,
    **POINTWISE,
    **POOLING,
    **RESIZING,
    **SHAPES,
    **STATISTICS,
}

HOST_INPUTS: dict[str, tuple[int, ...]] = {
    "CastLike": (1,),
    "Clip": (1, 2),
    "ConstantOfShape": (0,),
    "ConvInteger": (2, 3),
    "DequantizeLinear": (1, 2),
    "Dropout": (1, 2),
    "Expand": (1,),
    "Gather": (1,),
    "MatMulInteger": (2, 3),
    "Pad": (1, 2, 3),
    "QLinearConv": (1, 2, 4, 5, 6, 7),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    "QuantizeLinear": (1, 2),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "Unsqueeze": (1,),
    "Upsample": (1,),
    **{name: (1,) for name in STATISTICS if name.startswith("Reduce")},
}
"""Which inputs an operator takes as numbers, where they are known without the images."""
