"""Operators of shapes, of sizes and of integers."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import helper

from tests.deploy.reading.cases import NEWEST, Case, drawn, quantised, resized, whole
from tests.deploy.reading.graphs import node

U8 = np.uint8
STEPS: dict[str, Any] = {"xs": np.float32(1 / 64), "xz": U8(128)}
MOVING = [
    # Shapes
    *(Case([node("Concat", "z z", axis=axis)]) for axis in (1, -1)),
    *(
        Case(
            [node("Flatten", "z", "f", axis=axis), node("Reshape", "f s")],
            {"s": whole(-1, 90)},
            (11, NEWEST),
        )
        for axis in (0, 1, 3, -1)
    ),
    *(
        Case([node("Reshape", "z s")], {"s": whole(*shape)})
        for shape in ((0, -1), (-1, 9, 10), (0, 0, 30))
    ),
    *(Case([node("Transpose", "z", perm=perm)]) for perm in ([0, 2, 3, 1], [0, 3, 1, 2])),
    Case(
        [node("Unsqueeze", "z", "u", axes=[1, 4]), node("Squeeze", "u", axes=[1])], opsets=(9, 11)
    ),
    Case(
        [node("Unsqueeze", "z", "u", axes=[-1, 1]), node("Squeeze", "u", axes=[-1])], opsets=(11,)
    ),
    Case(
        [node("Unsqueeze", "z a", "u"), node("Squeeze", "u b")],
        {"a": whole(1, -1), "b": whole(-1)},
        (13, NEWEST),
    ),
    # Of a single image it takes the batch away, too, which no linear layer follows.
    Case([node("GlobalMaxPool", "z", "p"), node("Squeeze", "p")], smooth=False),
    Case([node("Slice", "z", starts=[1, -4], ends=[9, -1], axes=[1, 2])], opsets=(9,)),
    *(
        Case(
            [node("Slice", "z s e a t")],
            dict(zip("seat", (whole(*v) for v in values), strict=True)),
            (10, 13, NEWEST),
        )
        for values in (
            ((1, -4), (1 << 62, -1), (1, -2), (1, 2)),
            ((-1,), (-(1 << 62),), (3,), (-1,)),
            ((4, 2), (0, 0), (2, 1), (-2, -1)),
        )
    ),
    *(
        Case([node("Gather", "z i", axis=axis)], {"i": index})
        for axis in (1, -1)
        for index in (np.array(1), np.array([[0, 2], [1, -1]]))
    ),
    Case([node("Split", "z", "a y", axis=1, split=[1, 2])], opsets=(9, 11)),
    Case([node("Split", "z s", "a y", axis=1)], {"s": whole(1, 2)}, (13, NEWEST)),
    Case([node("Split", "z", "a b y", axis=1)], opsets=(9, 13)),
    Case([node("Split", "z", "a y", axis=2, num_outputs=2)], opsets=(18, NEWEST)),
    Case([node("Split", "z", "a b y", axis=3, num_outputs=3)], opsets=(18, NEWEST)),
    Case([node("Expand", "p s")], {"s": whole(1, 3, 6, 1)}, ()),
    Case([node("GlobalMaxPool", "z", "p"), node("Expand", "p s")], {"s": whole(1, 1, 2, 4)}),
    Case([node("Tile", "z r")], {"r": whole(1, 2, 1, 3)}),
    *(
        Case([node("Pad", "z", mode=mode, pads=[0, 0, 1, 2, 0, 1, 3, 0])], opsets=(9,))
        for mode in ("constant", "edge")
    ),
    Case([node("Pad", "z", value=0.3, pads=[0, 0, 1, 2, 0, 1, 3, -1])], opsets=(9,)),
    *(
        Case([node("Pad", "z p", mode=mode)], {"p": whole(0, 0, 1, 2, 0, 1, 3, 0)}, opsets)
        for mode, opsets in (
            ("constant", (11, 13, NEWEST)),
            ("edge", (11, NEWEST)),
            ("reflect", (11, NEWEST)),
            ("wrap", (19, NEWEST)),
        )
    ),
    Case(
        [node("Pad", "z p v")],
        {"p": whole(0, 0, 1, 2, 0, 0, 0, 0), "v": np.float32(0.7)},
        (11, NEWEST),
    ),
    Case(
        [node("Pad", "z p v a")],
        {"p": whole(1, 0, -1, 2), "v": np.float32(0.7), "a": whole(-1, 2)},
        (18, NEWEST),
    ),
    Case([node("SpaceToDepth", "s", blocksize=2)], opsets=()),
    Case(
        [node("Slice", "z s e a", "c"), node("SpaceToDepth", "c", blocksize=2)],
        {"s": whole(0), "e": whole(4), "a": whole(3)},
        (10, NEWEST),
    ),
    *(
        Case(
            [
                node("Concat", "z z z z", "c", axis=1),
                node("DepthToSpace", "c", blocksize=2, mode=mode),
            ],
            opsets=(11, NEWEST),
        )
        for mode in ("DCR", "CRD")
    ),
    # Shape arithmetic, as exporters write x.view(len(x), -1) and the like
    Case(
        [
            node("Shape", "z", "s"),
            node("Gather", "s zero", "n", axis=0),
            node("Unsqueeze", "n", "m", axes=[0]),
            node("Concat", "m rest", "t", axis=0),
            node("Reshape", "z t"),
        ],
        {"zero": np.array(0), "rest": whole(-1)},
        (9, 11),
    ),
    Case(
        [
            node("Shape", "z", "s"),
            node("Slice", "s b e", "n"),
            node("Cast", "n", "f", to=1),
            node("Mul", "f half", "g"),
            node("Cast", "g", "h", to=7),
            node("Shape", "z", "t"),
            node("Slice", "t o b", "front"),
            node("Concat", "front h", "sizes", axis=0),
            node("Resize", "z - - sizes", mode="linear"),
        ],
        {"b": whole(2), "e": whole(4), "o": whole(0), "half": np.float32(1.6)},
        (13, NEWEST),
    ),
    Case(
        [
            node("Shape", "z", "s"),
            node("Gather", "s last", "w"),
            node("Sub", "w one", "a"),
            node("Add", "a one", "b"),
            node("Mul", "b two", "c"),
            node("Div", "c two", "d"),
            node("Unsqueeze", "d axis", "e"),
            node("Concat", "three e", "f", axis=0),
            node("ConstantOfShape", "f", "ones", value=helper.make_tensor("v", 1, [1], [2.0])),
            node("Mul", "z ones"),
        ],
        {
            "last": np.array(3),
            "one": np.array(1),
            "two": np.array(2),
            "axis": whole(0),
            "three": whole(3, 6),
        },
        (13, NEWEST),
    ),
    Case(
        [
            node("Shape", "z", "s", start=1, end=3),
            node("ReduceProd", "s", "p", keepdims=1),
            node("Concat", "front p five", "t", axis=0),
            node("Equal", "t five", "e"),
            node("Where", "e five t", "w"),
            node("Reshape", "w back", "v"),
            node("Identity", "v", "i"),
            node("Max", "i least", "u"),
            node("Min", "u most", "o"),
            node("Reshape", "z o"),
        ],
        {
            "front": whole(-1),
            "five": whole(5),
            "back": whole(-1),
            "least": whole(-1),
            "most": whole(1000),
        },
        (15, 17),
    ),
    Case(
        [
            node("Size", "row", "n"),
            node("Range", "zero n one", "r"),
            node("Expand", "r rows", "e"),
            node("Slice", "e a b c", "f"),
            node("Squeeze", "f c", "g"),
            node("Gather", "z g", axis=3),
        ],
        {
            "row": drawn(5),
            "zero": np.array(0),
            "one": np.array(1),
            "rows": whole(2, 1),
            "a": whole(0),
            "b": whole(1),
            "c": whole(0),
        },
        (13, NEWEST),
    ),
    # Sizes
    resized(
        (1, 1, 2, 3),
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    ),
    *(
        resized((1, 1, 1.5, 0.6), mode=mode, coordinate_transformation_mode=way)
        for mode in ("nearest", "linear", "cubic")
        for way in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
    ),
    *(
        resized((1, 1, 1.5, 0.6), mode="nearest", nearest_mode=way)
        for way in ("floor", "ceil", "round_prefer_ceil", "round_prefer_floor")
    ),
    resized(None, (2, 3, 9, 4), mode="linear"),
    resized(None, (2, 3, 1, 7), mode="linear", coordinate_transformation_mode="pytorch_half_pixel"),
    # As a float 1.4 is below 7 fifths; a product in float32 is not. (ONNX's own inference of shapes
    # says otherwise, so what follows here asks for none.)
    *(
        Case(
            [node("Resize", "z - s", "r", mode=mode), node("GlobalAveragePool", "r")],
            {"s": np.array([1, 1, 1, 1.4], np.float32)},
            (13, NEWEST),
        )
        for mode in ("nearest", "linear")
    ),
    resized((1, 1, 1.5, 0.6), mode="cubic", cubic_coeff_a=-0.5, exclude_outside=1),
    Case(
        [node("Resize", "z - s", mode="linear", axes=[3, 2])],
        {"s": np.array([2, 1.5], np.float32)},
        (18, NEWEST),
    ),
    Case(
        [
            node(
                "Resize",
                "z - s",
                mode="linear",
                coordinate_transformation_mode="half_pixel_symmetric",
            )
        ],
        {"s": np.array([1, 1, 1.3, 1.5], np.float32)},
        (19, NEWEST),
    ),
    *(
        Case([node("Resize", "z s", mode=mode)], {"s": np.array([1, 1, 1.5, 2], np.float32)}, (10,))
        for mode in ("nearest", "linear")
    ),
    *(
        Case(
            [node("Upsample", "z s", mode=mode)], {"s": np.array([1, 1, 1.5, 2], np.float32)}, (9,)
        )
        for mode in ("nearest", "linear")
    ),
    Case([node("Upsample", "z", mode="nearest", scales=[1.0, 1.0, 2.0, 2.0])], opsets=(7, 8)),
    # Integers
    quantised(np.uint8, 120),
    quantised(np.int8, 5),
    Case(
        [node("QuantizeLinear", "z s zp", "q", axis=1), node("DequantizeLinear", "q s zp", axis=1)],
        {"s": np.array([0.01, 0.02, 0.05], np.float32), "zp": np.array([1, 100, 255], U8)},
        (13, NEWEST),
        smooth=False,
    ),
    Case(
        [node("DequantizeLinear", "q s zp", "w", axis=0), node("Conv", "z w")],
        {
            "q": np.random.default_rng(0).integers(-127, 127, (4, 3, 3, 3)).astype(np.int8),
            "s": drawn(4, low=0.01),
            "zp": np.zeros(4, np.int8),
        },
        (13, NEWEST),
    ),
    Case(
        [
            node("QuantizeLinear", "z xs xz", "q"),
            node("QLinearConv", "q xs xz w ws wz ys yz b", "r", pads=[1, 1, 1, 1]),
            node("DequantizeLinear", "r ys yz"),
        ],
        STEPS
        | {
            "w": np.random.default_rng(0).integers(-60, 60, (4, 3, 3, 3)).astype(np.int8),
            "ws": drawn(4, low=0.01) / 60,
            "wz": np.zeros(4, np.int8),
            "ys": np.float32(0.02),
            "yz": U8(110),
            "b": np.array([10, -40, 100, 0], np.int32),
        },
        (10, NEWEST),
        smooth=False,
        step=0.02,
    ),
    Case(
        [
            node("QuantizeLinear", "z xs xz", "q"),
            node("QLinearMatMul", "q xs xz w ws wz ys yz", "r"),
            node("DequantizeLinear", "r ys yz"),
        ],
        STEPS
        | {
            "w": np.random.default_rng(0).integers(0, 255, (5, 4)).astype(np.uint8),
            "ws": np.float32(0.01),
            "wz": U8(130),
            "ys": np.float32(0.02),
            "yz": U8(110),
        },
        (10, NEWEST),
        smooth=False,
        step=0.02,
    ),
    Case(
        [
            node("DynamicQuantizeLinear", "z", "q qs qz"),
            node("DequantizeLinear", "q qs qz"),
        ],
        {},
        (11, NEWEST),
        smooth=False,
    ),
    *(
        Case(
            [
                node("DynamicQuantizeLinear", "z", "q qs qz"),
                node(name, f"q {'k' if name == 'ConvInteger' else 'm'} qz mz", "r"),
                node("Cast", "r", "f", to=1),
                node("Mul", "f qs"),
            ],
            {
                "k": np.random.default_rng(0).integers(0, 255, (4, 3, 2, 2)).astype(U8),
                "m": np.random.default_rng(0).integers(0, 255, (5, 4)).astype(U8),
                "mz": U8(128),
            },
            (11, NEWEST),
            smooth=False,
        )
        for name in ("ConvInteger", "MatMulInteger")
    ),
]
