"""Labelled images as uint8: the 8-bit grid that pictures live on.

Splits, subsets and augmentation; `datasets` loads them by name.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_bench.core.classes import ClassNames
from edge_bench.core.errors import InputError
from edge_bench.core.pictures.preprocessing import Preprocessing

# Splits that must agree between teacher, student and evaluation never follow the run's seed.
SPLIT_SEED = 20_250_339
VALIDATION_FRACTION = 0.1
VALIDATION_MOST = 1000


class Stored(Protocol):
    """Images that are not in memory."""

    @property
    def shape(self) -> torch.Size:
        """(N, C, H, W)."""

    def at(self, index: Tensor) -> Stored:
        """Some of them; nothing is read yet."""

    def read(self) -> Tensor:
        """All of them, (N, C, H, W) uint8."""

    def digest(self) -> str:
        """Hex digest that changes when the images do."""


@dataclass(frozen=True)
class Split:
    """Images (N, C, H, W) uint8, in memory or not, and labels (N,) int64."""

    stored: Tensor | Stored
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def streams(self) -> bool:
        """Whether the images are read only when they are asked for."""
        return not isinstance(self.stored, Tensor)

    @property
    def images(self) -> Tensor:
        """(N, C, H, W) uint8; all of them are read for it, where they are not in memory."""
        return self.stored if isinstance(self.stored, Tensor) else self.stored.read()

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        channels, height, width = self.stored.shape[1:]
        return channels, height, width

    def at(self, index: Tensor) -> Split:
        """The samples at `index`; what is not in memory stays where it is."""
        if isinstance(self.stored, Tensor):
            return Split(self.stored[index], self.labels[index])
        return Split(self.stored.at(index), self.labels[index])

    def part(self, begin: int, end: int) -> Split:
        """Samples `begin` to `end` (not included), in memory; a view of those that are there."""
        if isinstance(self.stored, Tensor):
            return Split(self.stored[begin:end], self.labels[begin:end])
        return self.at(torch.arange(begin, min(end, len(self)))).loaded()

    def loaded(self) -> Split:
        """The same, in memory."""
        return Split(self.images, self.labels) if self.streams else self

    def to(self, torch_device: str | torch.device) -> Split:
        """On that device; what is not in memory stays where it is, and so do its labels."""
        if isinstance(self.stored, Tensor):
            return Split(self.stored.to(torch_device), self.labels.to(torch_device))
        return self

    @property
    def sha256(self) -> str:
        """Identity of the images and labels."""
        if isinstance(self.stored, Tensor):
            digest = hashlib.sha256(np.ascontiguousarray(self.stored.numpy()).data)
        else:
            digest = hashlib.sha256(self.stored.digest().encode())
        digest.update(np.ascontiguousarray(self.labels.numpy()).data)
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A named dataset.

    Attributes:
        flips: a mirrored image keeps its class.
        class_names: of the classes, in the order of their labels; None where nobody knows them.
        skipped: lines about files that were passed over in a folder of pictures, and about classes
            named by numbers that stand for others; empty where there is nothing to tell.
        validation: what its owner set apart for the choice of a model; None where a part of the
            training images is held out for it.
        preprocessing: how its pictures became images; None where they are taken as they are.
        unlabelled: further training images, whose labels are what a teacher takes them for.
    """

    name: str
    train: Split
    test: Split
    classes: int
    flips: bool
    class_names: ClassNames | None = None
    skipped: str = ""
    validation: Split | None = None
    preprocessing: Preprocessing | None = None
    unlabelled: Split | None = None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return self.train.image_shape

    @property
    def sha256(self) -> str:
        """Identity of all images that decide the weights, those that choose among them too."""
        more = [each.sha256 for each in (self.validation, self.unlabelled) if each is not None]
        if not more:
            return self.train.sha256
        return hashlib.sha256("".join([self.train.sha256, *more]).encode()).hexdigest()


def training_and_validation(dataset: Dataset) -> tuple[Split, Split]:
    """What is trained on, and what chooses a model: set apart by the data's owner, or held out."""
    if dataset.validation is None:
        return hold_out_validation(dataset.train)
    return dataset.train, take_limit(dataset.validation, VALIDATION_MOST)


def training_images(dataset: Dataset, fraction: float) -> int:
    """How many images that part of the training data has, without reading any."""
    held_out = 0 if dataset.validation is not None else _held_out(dataset.train)
    return round(fraction * (len(dataset.train) - held_out))


def _held_out(train: Split) -> int:
    """How many training images `hold_out_validation` sets apart."""
    classes = len(torch.unique(train.labels))
    return max(min(VALIDATION_MOST, round(VALIDATION_FRACTION * len(train))), classes)


def hold_out_validation(train: Split) -> tuple[Split, Split]:
    """Split training data into (training, validation): 10 percent, at most 1,000, stratified.

    One a class at least, where that is more.

    The split depends on the data alone, so that a teacher has not seen its student's validation
    images either.
    """
    labels, counts = torch.unique(train.labels, return_counts=True)
    if len(counts) and counts.min() < 2:
        raise InputError(
            f"--dataset: expected 2 training images or more of each class, one of which is held "
            f"out to choose the weights by, came 1 of class {labels[counts.argmin()]}; add some, "
            "or a folder valid beside train"
        )
    validation = stratified_subset(train, _held_out(train), SPLIT_SEED, "the validation split")
    rest = torch.ones(len(train), dtype=torch.bool)
    rest[validation] = False
    return train.at(rest.nonzero().squeeze(1)), train.at(validation)


def check_fraction(fraction: float) -> None:
    """Refuse what is no part of the training data.

    Raises:
        InputError: 0 or less, more than 1, or no number.
    """
    if not 0 < fraction <= 1:
        raise InputError(f"--train-fraction {fraction:g}: expected a value above 0 and at most 1")


def take_fraction(train: Split, fraction: float, seed: int) -> Split:
    """A stratified, seeded part of the training data."""
    check_fraction(fraction)
    if fraction == 1:
        return train
    count = round(fraction * len(train))
    asked = f"--train-fraction {fraction:g}"
    return train.at(stratified_subset(train, count, seed, asked))


def rest_of(train: Split, fraction: float, seed: int) -> Split:
    """What `take_fraction` leaves: training images that such a run never sees."""
    if fraction == 1:
        return train.at(torch.arange(0))
    count = round(fraction * len(train))
    drawn = stratified_subset(train, count, seed, f"--train-fraction {fraction:g}")
    rest = torch.ones(len(train), dtype=torch.bool)
    rest[drawn] = False
    return train.at(rest.nonzero().squeeze(1))


def take_limit(split: Split, limit: int | None, seed: int = SPLIT_SEED) -> Split:
    """`limit` samples of a split, the same ones for one seed; None takes all."""
    if limit is None or limit >= len(split):
        return split
    if limit < 1:
        raise InputError(f"--limit {limit}: expected 1 or more")
    return split.at(any_subset(split, limit, seed))


def stratified_subset(split: Split, count: int, seed: int, asked: str) -> Tensor:
    """Sorted indices of `count` samples in the classes' proportions.

    Raises:
        InputError: some class would be missing on one side; names `asked`, the option.
    """
    from sklearn.model_selection import train_test_split

    try:
        chosen, _ = train_test_split(
            np.arange(len(split)),
            train_size=count,
            random_state=seed,
            stratify=split.labels.numpy(),
        )
    except ValueError:
        classes = len(torch.unique(split.labels))
        raise InputError(
            f"{asked}: {count} of {len(split)} images cannot be drawn with one or more of each of "
            f"the {classes} classes drawn and left; choose another number or a larger dataset"
        ) from None
    return torch.from_numpy(np.sort(_of_every_class(chosen, split.labels.numpy(), seed)))


def _of_every_class(chosen: NDArray[Any], labels: NDArray[Any], seed: int) -> NDArray[Any]:
    """The draw with rare classes on both sides: proportions alone may round one to nothing."""
    inside = np.zeros(len(labels), dtype=bool)
    inside[chosen] = True
    generator = np.random.default_rng(seed)
    for wanted in (True, False):
        for label in np.setdiff1d(labels, labels[inside == wanted]):
            # One of it comes in, and one of the class with most goes out, so the number stays.
            side = inside == wanted
            largest = np.bincount(labels[side]).argmax()
            moved = [
                generator.choice(np.flatnonzero(labels == label)),
                generator.choice(np.flatnonzero(side & (labels == largest))),
            ]
            inside[moved] = ~inside[moved]
    return np.flatnonzero(inside)


def any_subset(split: Split, count: int, seed: int) -> Tensor:
    """Like `stratified_subset` where the numbers allow it, and a plain random draw elsewhere."""
    classes = len(torch.unique(split.labels))
    smallest = int(torch.bincount(split.labels)[torch.unique(split.labels)].min())
    if count < classes or len(split) - count < classes or smallest < 2:
        generator = np.random.default_rng(seed)
        drawn = generator.choice(len(split), size=count, replace=False)
        return torch.from_numpy(np.sort(drawn))
    return stratified_subset(split, count, seed, "the subset")


def calibration_part(training: Split, count: int, seed: int) -> Split:
    """The training images that set the ranges of a quantised model: `count` of them, or all."""
    if count >= len(training):
        return training
    return training.at(any_subset(training, count, SPLIT_SEED + seed))


def as_float(images: Tensor) -> Tensor:
    """uint8 levels to float32 in [0, 1]."""
    return images.float() / 255


def augment(images: Tensor, *, flips: bool, generator: torch.Generator) -> Tensor:
    """Random shifts by up to an eighth of each side, and mirroring, for a whole batch at once.

    Args:
        images: (B, C, H, W) uint8.
        generator: a CPU generator.
    """
    count, _, height, width = images.shape
    down, along = (max(1, side // 8) for side in (height, width))
    padded = torch.nn.functional.pad(images, (along, along, down, down))
    rows, columns = (
        torch.randint(0, 2 * pad + 1, (count, 1), generator=generator) + torch.arange(side)
        for pad, side in ((down, height), (along, width))
    )
    mirrored = torch.rand(count, generator=generator) < 0.5
    if flips:
        columns = torch.where(mirrored.unsqueeze(1), columns.flip(1), columns)
    device = images.device
    batch = torch.arange(count, device=device).view(-1, 1, 1)
    picked = padded[batch, :, rows.to(device).unsqueeze(2), columns.to(device).unsqueeze(1)]
    return picked.permute(0, 3, 1, 2).contiguous()
