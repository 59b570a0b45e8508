"""Two networks as a user would write them, for `benchmarks.own.networks:FUNCTION`."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SmoothMax(nn.Module):
    """A layer that no library has: a smooth maximum of 2x2 neighbours, its sharpness learnt."""

    def __init__(self) -> None:
        super().__init__()
        self.sharpness = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        mean = nn.functional.avg_pool2d(torch.exp(self.sharpness * x.clamp(-3, 3)), 2)
        return torch.log(mean) / self.sharpness


def smooth_max(classes: int) -> nn.Module:
    """BatchNorm, tanh, and the layer of one's own."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.Tanh(),
        SmoothMax(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(256, classes),
    )


def group_norm(classes: int) -> nn.Module:
    """GroupNorm, SiLU and dropout; no BatchNorm."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, stride=2, padding=1),
        nn.GroupNorm(8, 32),
        nn.SiLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.GroupNorm(8, 64),
        nn.SiLU(),
        nn.Dropout(0.1),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(256, classes),
    )


def efficientnet_lite0(classes: int) -> nn.Module:
    """EfficientNet-Lite0 of the package efficientnet-lite-pytorch, as its authors publish it."""
    from efficientnet_lite_pytorch import EfficientNet

    network: nn.Module = EfficientNet.from_name("efficientnet-lite0", num_classes=classes)
    return network
