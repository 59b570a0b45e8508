"""Pillow's resize as torch computes it, so that an attack sees through it to the camera's size.

Bilinear resampling is a weighted mean over the pixels that an output pixel covers, along one axis
after the other, so two matrices are all of it, with any box. Pillow rounds to 8 bits after each
axis and this does not: the two differ by a level at most.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_bench.core.pictures.preprocessing import CROP, STRETCH, Preprocessing

TOLERANCE = 1.0
"""Levels that this and Pillow may differ by: half of one for each rounding."""


class Resized(nn.Module):
    """(B, C, H, W) in [0, 1] of any size to (B, C, side, side), as a card says.

    `preprocessing` None takes images as they are.
    """

    def __init__(self, preprocessing: Preprocessing | None) -> None:
        super().__init__()
        self.how = preprocessing

    def forward(self, images: Tensor) -> Tensor:
        """Differentiable, and exact but for Pillow's rounding to 8 bits."""
        how = self.how
        if how is None:
            return images
        height, width = images.shape[-2:]
        if how.policy == STRETCH:
            return _through(images, (how.side, 0, height), (how.side, 0, width))
        if how.policy == CROP:
            side = how.crop_share * min(height, width)
            top, left = (height - side) / 2, (width - side) / 2
            return _through(images, (how.side, top, top + side), (how.side, left, left + side))
        scale = how.side / max(height, width)
        inner = max(1, round(height * scale)), max(1, round(width * scale))
        small = _through(images, (inner[0], 0, height), (inner[1], 0, width))
        top, left = (how.side - inner[0]) // 2, (how.side - inner[1]) // 2
        around = (left, how.side - inner[1] - left, top, how.side - inner[0] - top)
        return nn.functional.pad(small, around)


Axis = tuple[int, float, float]
"""Output pixels, and the part of the input that they are of."""


def _through(images: Tensor, rows: Axis, columns: Axis) -> Tensor:
    height, width = images.shape[-2:]
    across = torch.from_numpy(weights(width, *columns)).to(images)
    down = torch.from_numpy(weights(height, *rows)).to(images)
    return down @ (images @ across.T)


def weights(count: int, outputs: int, begin: float, end: float) -> NDArray[np.float64]:
    """(outputs, count): how much each of `count` pixels weighs in each output pixel.

    A triangle as wide as two output pixels, or two input pixels where those are the wider ones,
    around the output pixel's centre, over whole input pixels.
    """
    scale = (end - begin) / outputs
    support = max(scale, 1.0)
    centres = begin + (np.arange(outputs) + 0.5) * scale
    # Pixels whose centres lie outside weigh nothing: the triangle is 0 there.
    apart = np.arange(count)[None] + 0.5 - centres[:, None]
    found: NDArray[np.float64] = np.clip(1 - np.abs(apart) / support, 0, None)
    found /= found.sum(axis=1, keepdims=True)
    return found
