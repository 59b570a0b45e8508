"""Networks of CIFAR's shapes as files, made once and kept in the work folder of the suite.

Random weights with the batch statistics of noise: speed does not depend on what was learnt.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ard.models.architectures import build_model
from benchmarks.speed.finding import Asked
from deploy.onnx_export.export import export_fp32
from deploy.quantization.quantize import quantize_int8
from deploy.quantization.targets import TARGETS, target_here

SHAPE, CLASSES = (3, 32, 32), 10
CALIBRATION = 64
NAMES = {
    "resnet8": "ResNet-8",
    "resnet18": "ResNet-18",
    "resnet20": "ResNet-20",
    "mobilenet_v2": "MobileNetV2",
    "mobilenet_v3_small": "MobileNetV3",
}


def network(architecture: str) -> torch.nn.Module:
    """The network in eval mode, the same one every time."""
    torch.manual_seed(0)
    half = torch.full((SHAPE[0],), 0.5)
    model = build_model(architecture, SHAPE[0], CLASSES, half, half / 2)
    with torch.no_grad():
        model.train()
        for _ in range(10):
            model(torch.rand(64, *SHAPE))
    return model.eval()


def files(architecture: str, asked: Asked) -> Path:
    """A folder with fp32.onnx, and int8.onnx for this machine's own target."""
    folder = asked.work / architecture
    fp32, int8 = folder / "fp32.onnx", folder / "int8.onnx"
    folder.mkdir(parents=True, exist_ok=True)
    if not fp32.exists():
        export_fp32(network(architecture), SHAPE, fp32)
    if not int8.exists():
        quantize_int8(fp32, int8, images(CALIBRATION), target()[0])
    return folder


def target() -> tuple[str, dict[str, str]]:
    """This machine's own INT8 target, and what ONNX Runtime's sessions are opened with for it."""
    name, _ = target_here()
    return name, TARGETS[name].session_options


def images(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Images (count, 3, 32, 32) in [0, 1]."""
    return np.random.default_rng(seed).random((count, *SHAPE), np.float32)
