"""A network as a user may have one: GroupNorm, SiLU, dropout, and a layer of their own."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Scale(nn.Module):
    """A weight per channel, which no layer of torch's is."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


def build(classes: int) -> nn.Module:
    """For images of three channels, of any size."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.GroupNorm(8, 32),
        nn.SiLU(),
        Scale(32),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.GroupNorm(8, 64),
        nn.SiLU(),
        nn.Dropout(0.1),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(256, classes),
    )
