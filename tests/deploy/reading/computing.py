"""Operators that compute values: one by one, by matrices, over windows and over axes."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from tests.deploy.reading.cases import (
    NEWEST,
    Case,
    binary,
    convolution,
    drawn,
    normalised,
    pooling,
    positive,
    reduction,
    unary,
    whole,
)
from tests.deploy.reading.graphs import node

COMPUTING = [
    *(unary(name) for name in ("Abs", "Cos", "Elu", "Erf", "Exp", "HardSigmoid", "Identity")),
    *(unary(name) for name in ("LeakyRelu", "Neg", "Relu", "Selu", "Sigmoid", "Sign", "Sin")),
    *(unary(name) for name in ("Softplus", "Softsign", "Tanh")),
    *(positive(name) for name in ("Log", "Reciprocal", "Sqrt")),
    *(binary(name) for name in ("Add", "Div", "Max", "Mean", "Min", "Mul", "PRelu", "Sub", "Sum")),
    unary("Celu", (12, NEWEST), alpha=0.7),
    unary("Elu", alpha=0.3),
    unary("Gelu", (20, NEWEST)),
    unary("Gelu", (20, NEWEST), approximate="tanh"),
    unary("HardSigmoid", alpha=0.3, beta=0.4),
    unary("HardSwish", (14, NEWEST)),
    unary("LeakyRelu", alpha=0.3),
    unary("Mish", (18, NEWEST)),
    unary("Selu", alpha=1.2, gamma=0.9),
    unary("Shrink", lambd=0.3, bias=0.1),
    unary("ThresholdedRelu", (10, NEWEST), alpha=0.2),
    unary("Dropout"),
    # Before opset 13 they are of all axes from `axis` on, which are flattened.
    *(unary(name) for name in ("LogSoftmax", "Softmax")),
    *(unary(name, axis=axis) for name in ("LogSoftmax", "Softmax") for axis in (1, 2, -1)),
    *(Case([node(name, "z")], opsets=(9, NEWEST), smooth=False) for name in ("Ceil", "Floor")),
    Case([node("Round", "z")], opsets=(11, NEWEST), smooth=False),
    Case([node("Clip", "z", min=-0.3, max=0.4)], opsets=(7, 9)),
    Case([node("Clip", "z", max=0.4)], opsets=(9,)),
    Case([node("Clip", "z lo hi")], {"lo": np.float32(-0.3), "hi": np.float32(0.4)}, (11, NEWEST)),
    Case([node("Clip", "z - hi")], {"hi": np.float32(0.4)}, (11, NEWEST)),
    Case([node("Pow", "z two")], {"two": np.float32(2)}, (9, 12, NEWEST)),
    Case([node("Pow", "z two")], {"two": whole(3)}, (12, NEWEST)),
    Case([node("Cast", "z", "d", to=TensorProto.DOUBLE), node("Cast", "d", to=TensorProto.FLOAT)]),
    Case(
        [
            node("Mul", "z ten", "t"),
            node("Cast", "t", "i", to=TensorProto.INT32),
            node("Cast", "i", to=1),
        ],
        {"ten": np.float32(10)},
        smooth=False,
    ),
    Case(
        [node("Greater", "z limit", "c"), node("Where", "c z other")],
        {"limit": np.float32(0.1), "other": drawn(3, 6, 5)},
    ),
    *(
        Case(
            [
                node(name, "z limit", "c"),
                node("Not", "c", "d"),
                node("Cast", "d", "m", to=1),
                node("Mul", "z m"),
            ],
            {"limit": np.float32(0.1)},
            (opset, NEWEST),
        )
        for name, opset in (("Less", 9), ("LessOrEqual", 12), ("GreaterOrEqual", 12))
    ),
    Case(
        [
            node("Equal", "z z", "a"),
            node("Less", "z limit", "b"),
            *(node(name, "a b", f"c{name}") for name in ("And", "Or", "Xor")),
            node("Xor", "cAnd cOr", "d"),
            node("Xor", "d cXor", "e"),
            node("Cast", "e", "m", to=1),
            node("Mul", "z m"),
        ],
        {"limit": np.float32(0.1)},
        (11, NEWEST),
    ),
    Case([node("Mod", "images d", fmod=1)], {"d": np.float32(0.4)}, (10, NEWEST)),
    Case([node("CastLike", "z like")], {"like": np.float32(1)}, (15, NEWEST)),
    # Linear
    convolution(),
    convolution("b", pads=[1, 1, 1, 1], strides=[2, 1]),
    convolution("b", pads=[0, 1, 2, 0], group=3),
    convolution("b", dilations=[2, 2], pads=[2, 2, 2, 2]),
    convolution("b", auto_pad="SAME_UPPER", strides=[2, 2]),
    convolution("b", auto_pad="SAME_LOWER", strides=[2, 2], kernel=(2, 4)),
    convolution("b", auto_pad="SAME_UPPER", kernel=(2, 4)),
    convolution("b", auto_pad="VALID"),
    Case(
        [
            node("Flatten", "z", "f", axis=2),
            node("Reshape", "f s", "g"),
            node("Conv", "g w", pads=[1, 0]),
        ],
        {"s": whole(-1, 3, 30), "w": drawn(2, 3, 4)},
    ),
    Case(
        [
            node(
                "ConvTranspose",
                "z w b",
                strides=[2, 2],
                pads=[1, 0, 0, 1],
                output_padding=[1, 0],
                group=1,
            )
        ],
        {"w": drawn(3, 4, 3, 3), "b": drawn(4)},
    ),
    Case([node("ConvTranspose", "z w", group=3, dilations=[1, 2])], {"w": drawn(3, 2, 3, 2)}),
    Case([node("MatMul", "z w")], {"w": drawn(5, 4)}),
    Case([node("MatMul", "w z")], {"w": drawn(3, 4, 6)}),
    Case(
        [node("Flatten", "z", "f"), node("Gemm", "f w b", alpha=0.5, beta=2.0)],
        {"w": drawn(90, 4), "b": drawn(4)},
    ),
    Case(
        [node("Flatten", "z", "f"), node("Gemm", "f w", transB=1)],
        {"w": drawn(4, 90)},
        (11, NEWEST),
    ),
    Case(
        [node("Flatten", "z", "f"), node("Transpose", "f", "t"), node("Gemm", "t w", transA=1)],
        {"w": drawn(90, 4)},
        (11, NEWEST),
    ),
    Case([node("Einsum", "z w", equation="bchw,wv->bchv")], {"w": drawn(5, 4)}, (12, NEWEST)),
    # Pooling
    *(
        pooling(name, **attributes)
        for name in ("MaxPool", "AveragePool")
        for attributes in (
            {},
            {"strides": [2, 2], "pads": [1, 1, 1, 1]},
            {"strides": [2, 2], "pads": [0, 1, 2, 0]},
            {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
            {"strides": [2, 2], "auto_pad": "SAME_LOWER"},
        )
    ),
    *(
        pooling(name, opsets, strides=[2, 3], ceil_mode=1, pads=pads)
        for name in ("MaxPool", "AveragePool")
        for pads, opsets in (
            ([0, 0, 0, 0], (11, NEWEST)),
            # Of older ones ONNX Runtime infers another shape than it computes.
            ([1, 0, 0, 1], (NEWEST,)),
            ([1, 1, 1, 1], (NEWEST,)),
        )
    ),
    pooling("AveragePool", strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1),
    pooling("AveragePool", strides=[2, 2], pads=[1, 0, 2, 1], count_include_pad=1),
    pooling(
        "AveragePool",
        (NEWEST,),
        strides=[2, 3],
        pads=[1, 0, 0, 1],
        count_include_pad=1,
        ceil_mode=1,
    ),
    pooling("AveragePool", (NEWEST,), dilations=[2, 1]),
    pooling("MaxPool", (11, NEWEST), dilations=[2, 2]),
    pooling("LpPool", strides=[2, 2]),
    *(unary(name) for name in ("GlobalAveragePool", "GlobalMaxPool")),
    unary("GlobalLpPool", (9, 13)),
    # Over axes
    *reduction("ReduceMean"),
    *reduction("ReduceMean", keepdims=0),
    *(
        case
        for name in ("ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMin")
        for case in reduction(name)
    ),
    *(case for name in ("ReduceProd", "ReduceSum", "ReduceSumSquare") for case in reduction(name)),
    *reduction("ReduceLogSum", "p"),
    Case([node("ReduceMean", "z - ", noop_with_empty_axes=1)], opsets=(18, NEWEST)),
    normalised(),
    Case([node("InstanceNormalization", "z s b", epsilon=1e-3)], {"s": drawn(3), "b": drawn(3)}),
    *(unary("LRN", size=size, alpha=0.5, beta=0.6, bias=1.5) for size in (1, 3, 5)),
    *(unary("LpNormalization", axis=1, p=p) for p in (1, 2)),
    unary("MeanVarianceNormalization"),
    Case([node("LayerNormalization", "z s b")], {"s": drawn(5), "b": drawn(5)}, (17, NEWEST)),
    Case([node("LayerNormalization", "z s", axis=2)], {"s": drawn(6, 5)}, (17, NEWEST)),
    Case([node("RMSNormalization", "z s")], {"s": drawn(5)}, (23,)),
    Case([node("Swish", "z", alpha=1.3)], opsets=(24,)),
    Case(
        [node("Concat", "z z", "d", axis=1), node("GroupNormalization", "d s b", num_groups=2)],
        {"s": drawn(6), "b": drawn(6)},
        (21, NEWEST),
    ),
]
