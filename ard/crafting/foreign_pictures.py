"""Images of another library: in its layout and type, held to [0, 1] and to their budget.

What rounding in the file's own type leaves outside is brought back: the numbers of float16 lie an
eighth of an 8-bit level apart near 1, and a step in float32 may end a hair above it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ard.crafting.array_files import Member
from edge_bench.core.errors import InputError
from edge_bench.core.spec import AttackSpec
from edge_bench.files.sets import ROUNDING, as_unit, distances, rounding_of_budget, told_apart


@dataclass(kw_only=True)
class ForeignPictures:
    """Images in a file, and the order of their dimensions there.

    Attributes:
        clipped: how far a value that was read lay outside [0, 1], as rounding may leave it.
    """

    member: Member
    shape: tuple[int, int, int]
    channels_last: bool
    clipped: float = 0.0

    @property
    def rounding(self) -> float:
        """How far rounding in the file's type takes a value in [0, 1] from what was meant.

        Two roundings near 1; of float32 and float64, what a set may miss its budget by.
        """
        levels = self.member.dtype == np.uint8
        return 0.0 if levels else max(ROUNDING, float(np.finfo(self.member.dtype).eps) / 2)

    def batches(self, size: int) -> Iterator[tuple[int, NDArray[Any]]]:
        """(index of the first image, images (B, C, H, W)): uint8, or floats in [0, 1]."""
        channels, height, width = self.shape
        begin = 0
        for part in self.member.batches(size):
            if self.channels_last:
                part = part.reshape(-1, height, width, channels).transpose(0, 3, 1, 2)
            else:
                part = part.reshape(-1, channels, height, width)
            yield begin, part if part.dtype == np.uint8 else self._in_range(part, begin)
            begin += len(part)

    def _in_range(self, images: NDArray[Any], begin: int) -> NDArray[Any]:
        """Clip what rounding left outside [0, 1]; refuse what is farther out, and NaN."""
        flat = images.reshape(len(images), -1)
        # The numbers above 1 lie twice as far apart as those below.
        slack = 4 * self.rounding
        outside = ~((flat >= -slack) & (flat <= 1 + slack))
        wrong: NDArray[np.bool_] = np.any(outside, axis=1)
        refuse_first(
            wrong,
            np.take_along_axis(flat, outside.argmax(axis=1)[:, None], axis=1)[:, 0],
            begin,
            lambda index, value: (
                f"{self.member.where}: image {index} holds {value!s}, expected values in [0, 1]; "
                "divide levels by 255 or save them as uint8"
            ),
        )
        beyond = max(float(-flat.min()), float(flat.max()) - 1)
        if beyond <= 0:
            return images
        self.clipped = max(self.clipped, beyond)
        clipped: NDArray[Any] = np.clip(images, 0, 1)
        return clipped


def are_levels(images: ForeignPictures, size: int) -> bool:
    """Do all images lie on the 8-bit grid? Up to the rounding of one division by 255."""
    if images.member.dtype == np.uint8:
        return True
    return all(
        bool((np.abs(unit64(part) - unit64(to_levels(part))) <= images.rounding).all())
        for _, part in images.batches(size)
    )


def in_budget(
    images: NDArray[Any],
    clean: NDArray[np.uint8],
    begin: int,
    attack: AttackSpec,
    pictures: ForeignPictures,
) -> NDArray[Any]:
    """Bring what rounding in the file's type left beyond the budget back to it; refuse the rest."""
    levels, centre = images.dtype == np.uint8, as_unit(clean)
    distance = distances(as_unit(images), centre, attack.norm)
    slack = rounding_of_budget(attack.epsilon, attack.norm)
    if pictures.rounding > ROUNDING:
        # In L2 every value may be off by as much.
        each = prod(clean.shape[1:]) ** 0.5 if attack.norm == "l2" else 1
        slack = max(slack, pictures.rounding * each)
    words = f"({attack.norm}) from its clean one, beyond --epsilon"
    refuse_first(
        distance > attack.epsilon + slack,
        distance,
        begin,
        lambda index, value: (
            f"{pictures.member.where}: image {index} is "
            f"{told_apart(value, attack.epsilon, words)}; "
            "give the budget that it was made with, and clean images in the same order"
        ),
    )
    over = distance > attack.epsilon + ROUNDING
    if levels or not over.any():
        return images
    change = images - centre
    if attack.norm == "linf":
        change = np.clip(change, -attack.epsilon, attack.epsilon)
    else:
        change *= np.minimum(1, attack.epsilon / np.maximum(distance, attack.epsilon))[
            :, None, None, None
        ]
    moved: NDArray[Any] = np.clip(centre + change, 0, 1).astype(np.float32)
    return np.where(over[:, None, None, None], moved, images)


def refuse_first(
    wrong: NDArray[np.bool_],
    values: NDArray[Any],
    begin: int,
    sentence: Callable[[int, Any], str],
) -> None:
    """Refuse the first image of a batch that is wrong, by its number in the file and its value.

    The value keeps its type, which decides how many of its digits mean something.
    """
    if wrong.any():
        first = int(wrong.argmax())
        raise InputError(sentence(begin + first, values[first]))


def to_levels(images: NDArray[Any]) -> NDArray[np.uint8]:
    """Images in [0, 1] to the nearest 8-bit levels; levels stay as they are."""
    return images if images.dtype == np.uint8 else np.rint(unit64(images) * 255).astype(np.uint8)


def unit64(images: NDArray[Any]) -> NDArray[np.float64]:
    """Images in [0, 1], exact enough to tell a level from its neighbourhood."""
    return images.astype(np.float64) / (255 if images.dtype == np.uint8 else 1)


def largest(distance: NDArray[Any]) -> NDArray[Any]:
    """(B, ...) to the largest of every image, (B,)."""
    found: NDArray[Any] = distance.reshape(len(distance), -1).max(axis=1)
    return found
