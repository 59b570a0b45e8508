"""What each corruption does to a picture: a function of the name of its entry in `corruptions`.

Written anew on Pillow and scipy from the paper's and the scripts' descriptions: a package of these
that keeps up with numpy, and knows images of 32 pixels, was not found.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from ard.crafting.corruptions import CORRUPTIONS, PILLOW_CHANNELS, Strength

Picture = NDArray[np.float64]
"""(H, W, C) in [0, 1]."""
Apply = Callable[[Picture, Strength, np.random.Generator], Picture]
"""A picture, its strength and a source of draws to a picture, which may leave [0, 1]."""


def function(name: str) -> Apply:
    """What the corruption of that name does."""
    found: Apply = getattr(sys.modules[__name__], name)
    return found


def corrupted(
    levels: NDArray[np.uint8], name: str, severity: int, *, seed: int, first: int = 0
) -> NDArray[np.uint8]:
    """Images (B, C, H, W), whole 8-bit levels, corrupted.

    The draws of an image follow from the seed and its index alone, that of the first is `first`.
    """
    found = np.empty_like(levels)
    apply = function(name)
    strength = CORRUPTIONS[name].strength(severity, max(levels.shape[2:]))
    for at, image in enumerate(levels):
        rng = np.random.default_rng([seed, first + at])
        picture = apply(image.transpose(1, 2, 0) / 255, strength, rng)
        whole = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
        found[at] = whole.transpose(2, 0, 1)
    return found


def gaussian_noise(x: Picture, strength: Strength, rng: np.random.Generator) -> Picture:
    """Normal noise of this deviation, as of a sensor in the dark."""
    return x + rng.normal(scale=strength[0], size=x.shape)


def shot_noise(x: Picture, strength: Strength, rng: np.random.Generator) -> Picture:
    """Photons counted one by one, so many in a white pixel."""
    found: Picture = rng.poisson(x * strength[0]) / strength[0]
    return found


def impulse_noise(x: Picture, strength: Strength, rng: np.random.Generator) -> Picture:
    """This share of the values white or black."""
    draw, amount = rng.random(x.shape), strength[0]
    return np.where(draw < amount / 2, 0.0, np.where(draw < amount, 1.0, x))


def gaussian_blur(x: Picture, strength: Strength, rng: np.random.Generator) -> Picture:
    """A Gaussian of this deviation in pixels."""
    sigma = (strength[0], strength[0], 0)
    found: Picture = ndimage.gaussian_filter(x, sigma, mode="nearest")
    return found


def defocus_blur(x: Picture, strength: Strength, rng: np.random.Generator) -> Picture:
    """A disk of this radius in pixels, its edge softened by a Gaussian."""
    radius, soft = strength
    reach = int(np.ceil(radius)) + 1
    at = np.arange(-reach, reach + 1)
    disk = (at[:, None] ** 2 + at**2 <= radius**2).astype(np.float64)
    kernel = ndimage.gaussian_filter(disk / disk.sum(), soft, radius=1, mode="constant")
    found: Picture = ndimage.correlate(x, (kernel / kernel.sum())[..., None], mode="mirror")
    return found


def fog(x: Picture, strength: Strength, rng: np.random.Generator) -> Picture:
    """Clouds of this thickness, whose detail falls off by the second number from size to size."""
    thickness, decay = strength
    clouds = plasma(max(x.shape[:2]), decay, rng)[: x.shape[0], : x.shape[1], None]
    most = float(x.max())
    return (x + thickness * clouds) * most / (most + thickness)


def brightness(x: Picture, strength: Strength, rng: np.random.Generator) -> Picture:
    """The largest channel, V of HSV, raised by this; hue and saturation stay."""
    value = x.max(axis=2, keepdims=True)
    raised = np.minimum(value + strength[0], 1.0)
    found: Picture = np.where(value > 0, x * raised / np.maximum(value, 1e-12), raised)
    return found


def contrast(x: Picture, strength: Strength, rng: np.random.Generator) -> Picture:
    """Towards the mean of each channel, of which this share is left."""
    mean = x.mean(axis=(0, 1), keepdims=True)
    found: Picture = (x - mean) * strength[0] + mean
    return found


def jpeg(x: Picture, strength: Strength, rng: np.random.Generator) -> Picture:
    """Compressed and decompressed at this quality."""
    stream = BytesIO()
    _picture(x).save(stream, "JPEG", quality=int(strength[0]))
    return _values(Image.open(stream))


def pixelate(x: Picture, strength: Strength, rng: np.random.Generator) -> Picture:
    """Shrunk to this share of the side, by means of boxes, and enlarged again."""
    height, width, channels = x.shape
    if channels not in PILLOW_CHANNELS:
        # Pillow takes the last of 2 or 4 for an opacity, by which it weighs the others.
        return np.concatenate([pixelate(x[..., [c]], strength, rng) for c in range(channels)], 2)
    size = max(int(width * strength[0]), 1), max(int(height * strength[0]), 1)
    small = _picture(x).resize(size, Image.Resampling.BOX)
    return _values(small.resize((width, height), Image.Resampling.BOX))


def plasma(side: int, decay: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """(S, S) clouds in [0, 1], S a power of two of at least `side`: diamond and square, wrapping.

    Each pass halves the distance between points; a new point is the mean of its four neighbours
    and a uniform draw, whose size falls by the square of `decay` from pass to pass.
    """
    size = 1 << max(side - 1, 1).bit_length()
    field = np.zeros((size, size))
    step, amplitude = size, 1.0
    while step > 1:
        half = step // 2

        def drawn(mean: NDArray[np.float64], amplitude: float = amplitude) -> NDArray[np.float64]:
            return mean + amplitude * rng.uniform(-1, 1, mean.shape)

        corners = field[::step, ::step]
        across = corners + np.roll(corners, -1, axis=0)
        field[half::step, half::step] = drawn((across + np.roll(across, -1, axis=1)) / 4)
        middles = field[half::step, half::step]
        beside = middles + np.roll(middles, 1, axis=0) + corners + np.roll(corners, -1, axis=1)
        below = middles + np.roll(middles, 1, axis=1) + corners + np.roll(corners, -1, axis=0)
        field[::step, half::step] = drawn(beside / 4)
        field[half::step, ::step] = drawn(below / 4)
        step, amplitude = half, amplitude / decay**2
    field -= field.min()
    found: NDArray[np.float64] = field / field.max()
    return found


def _picture(x: Picture) -> Image.Image:
    levels = np.rint(np.clip(x, 0, 1) * 255).astype(np.uint8)
    return Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels)


def _values(picture: Image.Image) -> Picture:
    levels = np.asarray(picture, dtype=np.float64)
    return (levels[..., None] if levels.ndim == 2 else levels) / 255
