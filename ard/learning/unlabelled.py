"""Pictures without labels beside those with: the teacher says what they show.

Distillation needs no labels but the teacher's word; where an objective asks for a label, it gets
the teacher's class (Carmon et al. 2019, arXiv 1905.13736, robust self-training).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ard.data.picture_files import loaded_ahead
from ard.data.splits import (
    Dataset,
    Split,
    as_float,
    rest_of,
    training_and_validation,
    training_images,
)
from ard.data.unlabelled import count_unlabelled, load_unlabelled
from ard.learning.config import REST, TrainConfig
from edge_bench.core.errors import InputError

OPTION = "--unlabelled"
BATCH = 256


@dataclass(frozen=True, kw_only=True)
class Unlabelled:
    """Pictures that are learnt from without their labels.

    Attributes:
        found: how many there were.
        known: of these, those that are test or held-out images too, which are left out.
        unsure: of the others, those of which the teacher is less sure than asked for.
        used: the rest, with the teacher's classes as labels.
    """

    found: int
    known: int
    unsure: int
    used: Split

    def __str__(self) -> str:
        """A line for people."""
        parts = [f"unlabelled: {self.found:,} pictures, {len(self.used):,} of them used"]
        if self.known:
            parts.append(f"{self.known:,} are test or held-out images")
        if self.unsure:
            parts.append(f"the teacher is unsure of {self.unsure:,}")
        return "; ".join(parts)


def unlabelled_of(
    config: TrainConfig, dataset: Dataset, teacher: nn.Module | None, torch_device: str
) -> Unlabelled | None:
    """The pictures of the setting `unlabelled`; None where it is not set.

    Raises:
        InputError: no teacher, no such pictures, or none that is left.
    """
    if config.unlabelled is None:
        return None
    if teacher is None:
        raise InputError(
            f"{OPTION} {config.unlabelled}: pictures without labels need a teacher, and "
            f"{config.method} has none; choose a method that distils"
        )
    pictures = _pictures(config, dataset)
    fresh = _without_known(pictures, dataset)
    classes, confidence = _asked(teacher, fresh, torch_device)
    sure = confidence >= config.unlabelled_min_confidence
    if not bool(sure.any()):
        raise InputError(
            f"{OPTION} {config.unlabelled}: of {len(pictures):,} pictures none is left that is no "
            "test or held-out image and of which the teacher is sure enough "
            f"(--unlabelled-min-confidence {config.unlabelled_min_confidence:g}, at most "
            f"{float(confidence.max()) if len(confidence) else 0:.3f} came); lower it, or give "
            "other pictures"
        )
    used = replace(fresh, labels=classes).at(sure.nonzero().squeeze(1))
    return Unlabelled(
        found=len(pictures),
        known=len(pictures) - len(fresh),
        unsure=len(fresh) - len(used),
        used=used,
    )


def further_images(where: str | None, dataset: Dataset, fraction: float) -> int:
    """How many pictures the setting `unlabelled` adds to an epoch at most, none of which is read.

    Args:
        where: its value; None adds none.
        fraction: that of the training data, by `train_fraction`.
    """
    if where is None:
        return 0
    if where != REST:
        return count_unlabelled(Path(where))
    return training_images(dataset, 1) - training_images(dataset, fraction)


def _pictures(config: TrainConfig, dataset: Dataset) -> Split:
    assert config.unlabelled is not None
    if config.unlabelled != REST:
        return load_unlabelled(
            Path(config.unlabelled), dataset.image_shape, OPTION, dataset.preprocessing
        )
    training, _ = training_and_validation(dataset)
    rest = rest_of(training, config.train_fraction, config.seed)
    if not len(rest):
        raise InputError(
            f"{OPTION} {REST}: --train-fraction {config.train_fraction:g} of {dataset.name} leaves "
            "no picture; give less, or a folder of pictures"
        )
    return rest


def _without_known(pictures: Split, dataset: Dataset) -> Split:
    """Without pictures that the student is judged by: to the pixel those of the test, held out.

    Where these are not in memory they are not compared.
    """
    judged = [dataset.test, training_and_validation(dataset)[1]]
    known = {
        _digest(image) for split in judged if not split.streams for image in split.images.cpu()
    }
    fresh = [
        begin + row
        for begin, batch in _batches(pictures)
        for row, image in enumerate(batch.images)
        if _digest(image) not in known
    ]
    return pictures if len(fresh) == len(pictures) else pictures.at(torch.tensor(fresh).long())


def _digest(image: Tensor) -> bytes:
    return hashlib.sha256(image.contiguous().numpy().tobytes()).digest()


def _batches(pictures: Split) -> list[tuple[int, Split]] | zip[tuple[int, Split]]:
    begins = range(0, len(pictures), BATCH)
    indices = torch.split(torch.arange(len(pictures)), BATCH)
    return zip(begins, loaded_ahead(pictures, indices), strict=True)


def _asked(model: nn.Module, pictures: Split, torch_device: str) -> tuple[Tensor, Tensor]:
    """The teacher's classes (N,) of clean pictures, and its probabilities (N,) of these."""
    model = model.to(torch_device).eval()
    classes, confidence = [torch.empty(0, dtype=torch.long)], [torch.empty(0)]
    with torch.no_grad():
        for _, batch in _batches(pictures):
            found = model(as_float(batch.images.to(torch_device))).softmax(dim=1).max(dim=1)
            classes.append(found.indices.cpu())
            confidence.append(found.values.cpu())
    return torch.cat(classes), torch.cat(confidence)
