"""Adversarial images on the 8-bit grid, which is what a device can be given."""

from __future__ import annotations

import torch
from torch import Tensor

from edge_bench.files.sets import grid_radius


def levels_of(images: Tensor) -> Tensor:
    """The uint8 level nearest to each value in [0, 1]."""
    return (images * 255).round().to(torch.uint8)


def round_to_grid(
    adversarial: Tensor, levels: Tensor, epsilon: float, norm: str = "linf"
) -> Tensor:
    """Round images in [0, 1] to 8-bit levels without leaving the ball around uint8 `levels`.

    In whole levels, so that no rounding error can push an image over epsilon.
    """
    clean = levels.to(torch.int32)
    wanted = (adversarial * 255).double() - clean
    if norm == "linf":
        radius = grid_radius(epsilon)
        change = wanted.round().clamp(-radius, radius)
    else:
        change = _shortened(wanted, epsilon * 255)
    return (clean + change.to(torch.int32)).clamp(0, 255).to(torch.uint8)


def _shortened(wanted: Tensor, radius: float) -> Tensor:
    """Whole numbers near `wanted` (B, ...) of L2 length at most `radius`, for each sample.

    Rounding to the nearest lengthens some components; where the whole is too long then, those that
    were lengthened most are rounded towards 0 instead, as few as it takes. With all of them it is
    no longer than `wanted`.
    """
    flat = wanted.flatten(1)
    nearest, inward = flat.round(), flat.trunc()
    lengthened = nearest.abs() - flat.abs()
    order = lengthened.argsort(dim=1, descending=True)
    saved = (nearest.square() - inward.square()).gather(1, order).cumsum(dim=1)
    excess = nearest.square().sum(dim=1, keepdim=True) - radius**2
    # Position p of the order is shortened unless those before it were enough.
    enough_before = torch.cat((torch.zeros_like(saved[:, :1]), saved[:, :-1]), dim=1) >= excess
    shorten = torch.zeros_like(flat, dtype=torch.bool).scatter(1, order, ~enough_before)
    return torch.where(shorten, inward, nearest).view_as(wanted)
