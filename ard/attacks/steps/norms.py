"""The ball of an attack, by norm: staying inside it, starting in it, stepping through it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

SMALL = 1e-6
"""Gradients of no larger value are scaled up before their length is taken."""


def project(adversarial: Tensor, images: Tensor, epsilon: float, norm: str = "linf") -> Tensor:
    """Bring images back into the ball of radius epsilon around `images`, and into [0, 1].

    The nearest point of the ball, clamped to the box: as `images` lie in the box, clamping only
    brings a pixel closer to its clean value, so both hold afterwards.
    """
    return projection(images, epsilon, norm)(adversarial)


def projection(images: Tensor, epsilon: float, norm: str = "linf") -> Callable[[Tensor], Tensor]:
    """`project` onto the ball around `images`, for many adversarial images one after another.

    In L-infinity the ball within the box is a box, whose sides are found here once: on a small
    network they cost more than the rest of a step.
    """
    if norm == "linf":
        low = (images - epsilon).clamp_(min=0.0)
        high = (images + epsilon).clamp_(max=1.0)
        return lambda adversarial: torch.clamp(adversarial, low, high)

    def shortened(adversarial: Tensor) -> Tensor:
        change = adversarial - images
        # Not torch's own norm, which is off by 1e-5 where there are 150,000 values.
        lengths = change.flatten(1).square().sum(dim=1).sqrt().clamp(min=1e-12)
        shares = (epsilon / lengths).clamp(max=1.0).view(-1, *[1] * (change.dim() - 1))
        inside = images + change * shares
        return torch.clamp(inside, min=0.0, max=1.0)

    return shortened


def steepest(gradient: Tensor, norm: str) -> Tensor:
    """The direction of unit length that increases a linear function most: sign, or unit vector."""
    if norm == "linf":
        return gradient.sign()
    # A network that is sure of itself has gradients whose squares are no floats any more.
    largest = gradient.flatten(1).abs().amax(dim=1).view(-1, *[1] * (gradient.dim() - 1))
    tiny = torch.finfo(gradient.dtype).tiny
    scaled = gradient / torch.where(largest < SMALL, largest.clamp(min=tiny), 1.0)
    return scaled / _lengths(scaled)


def of_sum_one(gradient: Tensor) -> Tensor:
    """Each sample's gradient over the sum of its absolute values, however small that is."""
    tiny = torch.finfo(gradient.dtype).tiny
    sums = gradient.flatten(1).abs().sum(dim=1).clamp(min=tiny)
    return gradient / sums.view(-1, *[1] * (gradient.dim() - 1))


def random_start(images: Tensor, epsilon: float, norm: str, generator: torch.Generator) -> Tensor:
    """A point drawn uniformly from the ball around each image, clamped to [0, 1].

    Args:
        generator: of the CPU, so that the draw is the same on every device.
    """
    if norm == "linf":
        noise = torch.rand(images.shape, generator=generator).to(images.device) * 2 - 1
    else:
        direction = torch.randn(images.shape, generator=generator)
        uniform = torch.rand(len(images), generator=generator)
        # The volume inside radius r grows as r**dimension.
        radius = uniform.pow(1 / images[0].numel()).view(-1, *[1] * (images.dim() - 1))
        noise = (radius * direction / _lengths(direction)).to(images.device)
    return project(images + epsilon * noise, images, epsilon, norm)


def _lengths(vectors: Tensor) -> Tensor:
    """L2 length of each sample, (B, 1, ...), kept above 0 so that one may divide by it."""
    lengths: Tensor = torch.linalg.vector_norm(vectors.flatten(1), dim=1).clamp(min=1e-12)
    return lengths.view(-1, *[1] * (vectors.dim() - 1))
