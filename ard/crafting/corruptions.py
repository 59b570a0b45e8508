"""Corruptions without an adversary, by name: noise, blur, weather, and what cameras and codecs do.

Hendrycks and Dietterich 2019 (arXiv 1903.12261), with the five severities of their scripts: those
of CIFAR-10-C for sides of up to SMALL pixels, and above those of ImageNet-C, whose lengths in
pixels are of sides of 224 and shrink or grow with the side. What needs more than an image (their
photographs of frost) or another library's filters (motion, snow) is left out.

To add one: a function in `corrupting` of the name of its entry here. Nothing here imports more than
the standard library, so that help can name them all.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_bench.core.errors import InputError
from edge_bench.core.threats.attack import SEVERITIES

Strength = tuple[float, ...]
SMALL, PUBLISHED_SIDE = 48, 224
PILLOW_CHANNELS = (1, 3)
"""Channels of a picture that Pillow takes for grey, or for red, green and blue."""


@dataclass(frozen=True, kw_only=True)
class Corruption:
    """The strengths of a corruption, from severity 1 to 5.

    Attributes:
        small: those of CIFAR-10-C, for sides of up to SMALL pixels.
        large: those of ImageNet-C.
        in_pixels: whether the first number of a strength is a length in pixels.
        channels: those of the images that it is defined for; None for all.
    """

    small: tuple[Strength, ...]
    large: tuple[Strength, ...]
    in_pixels: bool = False
    channels: tuple[int, ...] | None = None

    def strength(self, severity: int, side: int) -> Strength:
        """What its function takes for pictures of this side."""
        if side <= SMALL:
            return self.small[severity - 1]
        first, *rest = self.large[severity - 1]
        return (first * side / PUBLISHED_SIDE if self.in_pixels else first, *rest)


def _each(*values: float) -> tuple[tuple[float, ...], ...]:
    return tuple((value,) for value in values)


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": Corruption(
        small=_each(0.04, 0.06, 0.08, 0.09, 0.10),
        large=_each(0.08, 0.12, 0.18, 0.26, 0.38),
    ),
    "shot_noise": Corruption(
        small=_each(500, 250, 100, 75, 50),
        large=_each(60, 25, 12, 5, 3),
    ),
    "impulse_noise": Corruption(
        small=_each(0.01, 0.02, 0.03, 0.05, 0.07),
        large=_each(0.03, 0.06, 0.09, 0.17, 0.27),
    ),
    "gaussian_blur": Corruption(
        small=_each(0.4, 0.6, 0.7, 0.8, 1),
        large=_each(1, 2, 3, 4, 6),
        in_pixels=True,
    ),
    "defocus_blur": Corruption(
        small=((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        large=((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
        in_pixels=True,
    ),
    "fog": Corruption(
        small=((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        large=((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    ),
    "brightness": Corruption(
        small=_each(0.05, 0.1, 0.15, 0.2, 0.3),
        large=_each(0.1, 0.2, 0.3, 0.4, 0.5),
    ),
    "contrast": Corruption(
        small=_each(0.75, 0.5, 0.4, 0.3, 0.15),
        large=_each(0.4, 0.3, 0.2, 0.1, 0.05),
    ),
    "jpeg": Corruption(
        small=_each(80, 65, 58, 50, 40),
        large=_each(25, 18, 15, 10, 7),
        channels=PILLOW_CHANNELS,
    ),
    "pixelate": Corruption(
        small=_each(0.95, 0.9, 0.85, 0.75, 0.65),
        large=_each(0.6, 0.5, 0.4, 0.3, 0.25),
    ),
}


def parse_corruption(text: str) -> tuple[str, int]:
    """Read `NAME:SEVERITY`, such as `fog:3`.

    Raises:
        InputError: no such corruption or severity.
    """
    name, _, severity = text.partition(":")
    if name not in CORRUPTIONS or severity not in {str(each) for each in SEVERITIES}:
        raise InputError(
            f"--corruption {text}: expected NAME:SEVERITY, such as fog:3, of "
            f"{', '.join(CORRUPTIONS)} and {SEVERITIES[0]} to {SEVERITIES[-1]}"
        )
    return name, int(severity)
