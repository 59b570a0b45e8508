"""The arrays of a set that another library made, checked image by image as they are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ard.crafting.array_files import Member, SourceMember, open_members
from ard.crafting.foreign_pictures import (
    ForeignPictures,
    in_budget,
    largest,
    refuse_first,
    to_levels,
    unit64,
)
from ard.data.sources import Source, check_labels
from edge_bench.core.errors import InputError
from edge_bench.core.spec import ModelCard, SetManifest

# How near clean floats must be to 8-bit levels, which they are stored as.
NEAR_A_LEVEL = 1e-3
LAYOUTS = ("nchw", "nhwc")
HOW_TO_NAME_KEYS = (
    "--import-key images=KEY,clean=KEY,labels=KEY, or give the --dataset whose first test images "
    "the clean ones are"
)
KNOWN = {"images": ("adv_inputs", "adv_complete"), "clean": ("clean_inputs",), "labels": ()}
"""What torchattacks and AutoAttack's own examples call the arrays of the files that they save."""


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
            apart = largest(np.abs(unit64(raw_clean) - unit64(clean)))
            refuse_first(
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
            images = in_budget(images, clean, begin, attack, self.images)
            labels = labels.reshape(-1)
            check_labels(labels, manifest.classes, self.labels.where)
            yield begin, images, clean, labels.astype(np.int64)


def open_arrays(
    path: Path, keys: ImportKeys, card: ModelCard, source: Source | None = None
) -> ForeignArrays:
    """Find the arrays in the file and see that their types and shapes fit the model.

    Clean images and labels that it lacks are the first of `source`, in its order.
    """
    names = {
        role: (name, *known) if name == role else (name,)
        for role, known in KNOWN.items()
        for name in [getattr(keys, role)]
    }
    found = open_members(path, names, optional=source is not None, how=HOW_TO_NAME_KEYS)
    images = found["images"]
    if source is not None:
        count = images.shape[0] if images.shape else 0
        if count > len(source):
            raise InputError(
                f"{images.where}: {count} images, but {source.dataset} has {len(source)} test "
                "images to belong to them; save the clean images and labels in the file, too"
            )
        found.setdefault("clean", SourceMember(source=source, count=count))
        found.setdefault("labels", SourceMember(source=source, count=count, labels=True))
    clean, labels = found["clean"], found["labels"]
    n = labels.shape[0] if labels.shape else 0
    if labels.dtype.kind not in "iu" or labels.shape not in ((n,), (n, 1)) or n < 1:
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
