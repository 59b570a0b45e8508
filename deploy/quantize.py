"""Static INT8 in QDQ form by ONNX Runtime, with the settings that each target's runtime wants."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from deploy.export import INPUT
from deploy.placement import place_for_tensorrt
from edge_bench.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Target:
    """How a runtime wants its integers.

    Attributes:
        activations, weights: integer types.
        reduce_range: 7-bit weights, where 8-bit products would saturate.
        extra: ONNX Runtime's further options.
        session_options: what its sessions are opened with, here and on the device.
        why: for people.
    """

    activations: QuantType
    weights: QuantType
    reduce_range: bool
    extra: dict[str, Any]
    session_options: dict[str, str]
    why: str


# By default ONNX Runtime keeps signed activations on Arm ("1") and rewrites them as unsigned ones
# elsewhere ("0", before it fuses: QDQS8ToU8Transformer), so that one S8S8 file becomes two graphs,
# which on a ResNet-18 lie three steps of its logits apart. To have no default says which.
KEEP_SIGNED = {"session.qdqisint8allowed": "1"}
REWRITE_SIGNED = {"session.qdqisint8allowed": "0"}
# Round where the pairs stand and compute in float between them, as the graph is written.
AS_WRITTEN = {"session.disable_quant_qdq": "1"}

TARGETS: dict[str, Target] = {
    "x86": Target(
        activations=QuantType.QUInt8,
        weights=QuantType.QInt8,
        reduce_range=True,
        extra={},
        session_options=REWRITE_SIGNED,
        why="unsigned activations, 7-bit weights: AVX2 saturates on 8-bit ones",
    ),
    "x86-vnni": Target(
        activations=QuantType.QUInt8,
        weights=QuantType.QInt8,
        reduce_range=False,
        extra={},
        session_options=REWRITE_SIGNED,
        why="unsigned activations, full 8-bit weights: VNNI does not saturate",
    ),
    "arm": Target(
        activations=QuantType.QInt8,
        weights=QuantType.QInt8,
        reduce_range=False,
        extra={},
        session_options=KEEP_SIGNED,
        why="signed activations and weights",
    ),
    "tensorrt": Target(
        activations=QuantType.QInt8,
        weights=QuantType.QInt8,
        reduce_range=False,
        extra={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
        # It ships in TensorRT. ONNX Runtime only checks it, and fits its integer kernels to a few
        # of the layers alone: as written is closer to what TensorRT computes, and faster.
        session_options=AS_WRITTEN,
        why="signed, zero points of 0, no int32 biases",
    ),
}


class CalibrationImages:
    """Calibration images (N, C, H, W) float32 in [0, 1], handed out in batches.

    `__len__` and `set_range` let calibrators that buffer activations work in strides.
    """

    def __init__(self, images: NDArray[np.float32], batch_size: int = 32) -> None:
        self._batches = [images[i : i + batch_size] for i in range(0, len(images), batch_size)]
        self.set_range(0, len(self._batches))

    def __len__(self) -> int:
        return len(self._batches)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Continue with the batches of [start_index, end_index)."""
        self._queue = iter(self._batches[start_index:end_index])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """The next batch as a feed, or None at the end."""
        batch = next(self._queue, None)
        return None if batch is None else {INPUT: batch}


def quantize_int8(fp32: Path, int8: Path, images: NDArray[np.float32], target: str) -> None:
    """Quantise the ONNX file `fp32` into `int8` with ranges from calibration images.

    Args:
        images: (N, C, H, W) float32 in [0, 1], from the training set.
        target: key of TARGETS.

    Raises:
        InputError: no such target.
    """
    settings = target_named(target)
    prepared = fp32.with_name(f"prepared-{fp32.name}")
    quiet = logging.getLogger()
    level = quiet.level
    # onnxruntime advises on the root logger to do what the next line has just done.
    quiet.setLevel(logging.ERROR)
    try:
        quant_pre_process(str(fp32), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(int8),
            CalibrationImages(images),
            quant_format=QuantFormat.QDQ,
            activation_type=settings.activations,
            weight_type=settings.weights,
            per_channel=True,
            reduce_range=settings.reduce_range,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options=dict(settings.extra),
        )
        if target == "tensorrt":
            place_for_tensorrt(int8)
    finally:
        quiet.setLevel(level)
        prepared.unlink(missing_ok=True)


def target_named(name: str) -> Target:
    """Look a target up.

    Raises:
        InputError: no such target.
    """
    if name not in TARGETS:
        raise InputError(f"--target {name}: expected one of {', '.join(TARGETS)}")
    return TARGETS[name]
