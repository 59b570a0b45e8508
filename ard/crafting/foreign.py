"""The arrays of a set that another library made, checked image by image as they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ard.crafting.npz import Member, open_member
from ard.data.sources import check_labels
from edge_bench.core.errors import InputError
from edge_bench.core.spec import ModelCard, SetManifest
from edge_bench.files.sets import ROUNDING, as_unit, distances

# How near clean floats must be to 8-bit levels, which they are stored as.
NEAR_A_LEVEL = 1e-3
LAYOUTS = ("nchw", "nhwc")
HOW_TO_NAME_KEYS = "--import-key images=KEY,clean=KEY,labels=KEY"


@dataclass(frozen=True, kw_only=True)
class ImportKeys:
    """Names of the arrays in the file; `layout` of its images where their shape does not tell."""

    images: str = "images"
    clean: str = "clean"
    labels: str = "labels"
    layout: str | None = None

    def __post_init__(self) -> None:
        if self.layout is not None and self.layout not in LAYOUTS:
            raise InputError(f"--import-key layout={self.layout}: expected {' or '.join(LAYOUTS)}")


def parse_import_keys(text: str | None) -> ImportKeys:
    """Read `images=x_adv,clean=x,labels=y`; what is not named keeps its default."""
    known = [field.name for field in fields(ImportKeys)]
    given: dict[str, str] = {}
    for pair in text.split(",") if text else ():
        role, _, key = (part.strip() for part in pair.partition("="))
        if role not in known or not key:
            raise InputError(
                f"--import-key {text}: expected pairs such as images=x_adv,clean=x,labels=y, with "
                f"one of {', '.join(known)} before each ="
            )
        given[role] = key
    return ImportKeys(**given)


@dataclass(frozen=True, kw_only=True)
class ForeignPictures:
    """Images in a file, and the order of their dimensions there."""

    member: Member
    shape: tuple[int, int, int]
    channels_last: bool

    def batches(self, size: int) -> Iterator[tuple[int, NDArray[Any]]]:
        """(index of the first image, images (B, C, H, W)): uint8, or floats in [0, 1]."""
        channels, height, width = self.shape
        begin = 0
        for part in self.member.batches(size):
            if self.channels_last:
                part = part.reshape(-1, height, width, channels).transpose(0, 3, 1, 2)
            else:
                part = part.reshape(-1, channels, height, width)
            if part.dtype != np.uint8:
                _check_range(part, self.member.where, begin)
            yield begin, part
            begin += len(part)


@dataclass(frozen=True, kw_only=True)
class ForeignArrays:
    """The three arrays of a file, of one length."""

    images: ForeignPictures
    clean: ForeignPictures
    labels: Member

    def batches(
        self, manifest: SetManifest, size: int
    ) -> Iterator[tuple[int, NDArray[Any], NDArray[np.uint8], NDArray[np.int64]]]:
        """(begin, images, clean images, labels), checked, as the set of `manifest` stores them."""
        attack = manifest.attack
        parts = zip(
            self.images.batches(size),
            self.clean.batches(size),
            self.labels.batches(size),
            strict=True,
        )
        for (begin, found), (_, raw_clean), labels in parts:
            clean = to_levels(raw_clean)
            apart = _largest(np.abs(_unit64(raw_clean) - _unit64(clean)))
            _refuse_first(
                apart > NEAR_A_LEVEL,
                apart,
                begin,
                lambda index, value: (
                    f"{self.clean.member.where}: expected clean images on the 8-bit grid, where "
                    f"they are stored, but image {index} is {value:.4f} from it; round them "
                    "before the attack"
                ),
            )
            images = to_levels(found) if manifest.on_grid else found.astype(np.float32)
            distance = distances(as_unit(images), as_unit(clean), attack.norm)
            _refuse_first(
                distance > attack.epsilon + ROUNDING,
                distance,
                begin,
                lambda index, value: (
                    f"{self.images.member.where}: image {index} is {value:.4f} ({attack.norm}) "
                    f"from its clean one, beyond --epsilon {attack.epsilon:.4f}; give the budget "
                    "that it was made with"
                ),
            )
            check_labels(labels, manifest.classes, self.labels.where)
            yield begin, images, clean, labels.astype(np.int64)


def open_arrays(path: Path, keys: ImportKeys, card: ModelCard) -> ForeignArrays:
    """Find the arrays in the file and see that their types and shapes fit the model."""
    images = open_member(path, keys.images, HOW_TO_NAME_KEYS)
    clean = open_member(path, keys.clean, HOW_TO_NAME_KEYS)
    labels = open_member(path, keys.labels, HOW_TO_NAME_KEYS)
    if labels.dtype.kind not in "iu" or len(labels.shape) != 1 or labels.shape[0] < 1:
        raise InputError(
            f"{labels.where}: expected one integer per image, came {labels.dtype.name} of shape "
            f"{labels.shape}; save class numbers"
        )
    arrays = ForeignArrays(
        images=_pictures(images, card, keys.layout),
        clean=_pictures(clean, card, keys.layout),
        labels=labels,
    )
    for member in (images, clean):
        if member.shape[0] != labels.shape[0]:
            raise InputError(
                f"{member.where}: {member.shape[0]} images, but {labels.key} has "
                f"{labels.shape[0]} labels; save one label per image"
            )
    return arrays


def _pictures(member: Member, card: ModelCard, layout: str | None) -> ForeignPictures:
    """Recognise the layout of images by the model's input shape."""
    channels, height, width = card.input_shape
    if member.dtype != np.uint8 and member.dtype.kind != "f":
        raise InputError(
            f"{member.where}: expected uint8 or floats in [0, 1], came {member.dtype.name}; "
            "convert it"
        )
    shape = member.shape[1:]
    first = shape == (channels, height, width) or (channels == 1 and shape == (height, width))
    last = shape == (height, width, channels)
    if first and last and layout is None and channels > 1:
        raise InputError(
            f"{member.where}: shape {member.shape} can be NCHW or NHWC for this model; say which: "
            "--import-key layout=nchw or layout=nhwc"
        )
    if (layout == "nchw" and not first) or (layout == "nhwc" and not last) or not (first or last):
        wanted = {"nchw": "NCHW", "nhwc": "NHWC", None: "NCHW or NHWC"}[layout]
        raise InputError(
            f"{member.where}: expected {wanted} images of the model's {channels} channels and "
            f"{height}x{width} pixels, came shape {member.shape}; give the model that they were "
            "made for"
        )
    channels_last = last and (layout == "nhwc" or not first)
    return ForeignPictures(member=member, shape=card.input_shape, channels_last=channels_last)


def are_levels(images: ForeignPictures, size: int) -> bool:
    """Do all images lie on the 8-bit grid? Up to the rounding of one division by 255."""
    if images.member.dtype == np.uint8:
        return True
    return all(
        bool((np.abs(_unit64(part) - _unit64(to_levels(part))) <= ROUNDING).all())
        for _, part in images.batches(size)
    )


def _check_range(images: NDArray[Any], where: str, begin: int) -> None:
    """Refuse values outside [0, 1], NaN among them."""
    flat = images.reshape(len(images), -1)
    outside = ~((flat >= 0) & (flat <= 1))
    wrong: NDArray[np.bool_] = np.any(outside, axis=1)
    _refuse_first(
        wrong,
        np.take_along_axis(flat, outside.argmax(axis=1)[:, None], axis=1)[:, 0],
        begin,
        lambda index, value: (
            f"{where}: image {index} holds {value:g}, expected values in [0, 1]; divide levels by "
            "255 or save them as uint8"
        ),
    )


def _refuse_first(
    wrong: NDArray[np.bool_],
    values: NDArray[Any],
    begin: int,
    sentence: Callable[[int, float], str],
) -> None:
    """Refuse the first image of a batch that is wrong, by its number in the file and its value."""
    if wrong.any():
        first = int(wrong.argmax())
        raise InputError(sentence(begin + first, float(values[first])))


def to_levels(images: NDArray[Any]) -> NDArray[np.uint8]:
    """Images in [0, 1] to the nearest 8-bit levels; levels stay as they are."""
    return images if images.dtype == np.uint8 else np.rint(_unit64(images) * 255).astype(np.uint8)


def _unit64(images: NDArray[Any]) -> NDArray[np.float64]:
    """Images in [0, 1], exact enough to tell a level from its neighbourhood."""
    return images.astype(np.float64) / (255 if images.dtype == np.uint8 else 1)


def _largest(distance: NDArray[Any]) -> NDArray[Any]:
    """(B, ...) to the largest of every image, (B,)."""
    found: NDArray[Any] = distance.reshape(len(distance), -1).max(axis=1)
    return found
