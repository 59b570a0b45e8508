"""Settings that follow from what a run is given: its pictures, its weights, its machine.

They stand below recipes, `--set` and flags. Images of fewer than 64 pixels have the defaults that
research on CIFAR has; larger ones, which people have a few thousand of, have those of fine-tuning
on ImageNet's scale (Salman et al. 2020, arXiv 2007.08489: epsilon 4/255). On a processor, where
updates are few, they have what made most of those (docs/results/own.md, "Ten minutes"): one attack
step of the whole budget, a higher rate, and ARD at half the time of its step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

from edge_bench.core.spec import ModelCard, usual_epsilon

PICTURE_SIDE = 64
INNER_STEPS = 1
"""On a processor, each of the whole budget."""
BATCHES = ((5_000, 32), (20_000, 64))
"""Batch sizes below so many training images; above both it is the default."""
FINE_TUNING_RATE, PICTURE_RATE = 0.01, 0.05
"""Learning rates from trained weights: of small images, and of larger ones on a processor."""
RATE, RATE_BATCH = 0.1, 128
"""Learning rate from random weights, for batches of that size; it is scaled with theirs."""
UPDATES = {True: 1_500, False: 6_000}
"""Aimed at, from trained weights or not."""
EPOCHS = {True: (5, 30), False: (30, 100)}
"""Fewest and most for it."""


Settings = dict[str, Any]

AT_HALF_THE_TIME: Settings = {
    "loss.anchor": "rslad",
    "loss.ranking.k": 2.0,
    "loss.teacher_temperature": 1.0,
}
"""ARD on RSLAD's objective and attack, which ask the teacher about clean images alone."""


@dataclass(frozen=True, kw_only=True)
class Given:
    """What decides.

    Attributes:
        images: with labels, to train on.
        image_shape: (channels, height, width).
        trained: the student starts from trained weights.
        on_gpu: whether it trains there.
        teacher: card of the teacher; None of a published one, and where none is needed.
        unlabelled: further images of an epoch, as far as they are known before the teacher is
            asked which of them it is sure of.
    """

    images: int
    image_shape: tuple[int, int, int]
    trained: bool
    on_gpu: bool
    teacher: ModelCard | None = None
    unlabelled: int = 0


def chosen(given: Given, asked: Mapping[str, Any]) -> Settings:
    """Settings by their names in a recipe, beside those that were asked for.

    Example:
        given = Given(images=1800, image_shape=(3, 96, 96), trained=True, on_gpu=False)
        chosen(given, {"minutes": 10})
    """
    found: Settings = {}
    are_pictures = min(given.image_shape[1:]) >= PICTURE_SIDE
    if given.trained:
        is_short = are_pictures and not given.on_gpu
        found["learning_rate"] = PICTURE_RATE if is_short else FINE_TUNING_RATE
    if given.teacher is not None and not was_hardened(given.teacher):
        # What such a teacher says of a moved image is as wrong as the attack wants it.
        found |= _at_half_the_time(asked) | {"loss.ranking.teacher_input": "clean"}
    if are_pictures:
        found |= _for_pictures(given, asked)
    return {name: value for name, value in found.items() if name not in asked}


def _for_pictures(given: Given, asked: Mapping[str, Any]) -> Settings:
    """What goes with images that are larger, and mostly fewer, than those of research."""
    epsilon = asked.get("epsilon", usual_epsilon(given.image_shape))
    found: Settings = {"epsilon": epsilon}
    # One step as long as the budget: either alone says nothing of the other.
    if not given.on_gpu and not asked.keys() & {"inner_steps", "step_size"}:
        found |= {"inner_steps": INNER_STEPS, "step_size": epsilon}
    if not given.on_gpu:
        found |= _at_half_the_time(asked)
    usual = next((size for below, size in BATCHES if given.images < below), RATE_BATCH)
    batch = asked.get("batch_size", max(2, min(usual, given.images)))
    found["batch_size"] = batch
    if not given.trained:
        found["learning_rate"] = RATE * batch / RATE_BATCH
    if "minutes" not in asked:
        fewest, most = EPOCHS[given.trained]
        wanted = ceil(UPDATES[given.trained] * batch / max(given.images + given.unlabelled, 1))
        found["epochs"] = min(most, max(fewest, wanted))
    return found


def _at_half_the_time(asked: Mapping[str, Any]) -> Settings:
    """ARD at half the time, unless on another anchor, which its steepness is not for."""
    own = AT_HALF_THE_TIME["loss.anchor"]
    return AT_HALF_THE_TIME if asked.get("loss.anchor", own) == own else {}


def was_hardened(card: ModelCard) -> bool:
    """Whether a card tells of adversarial training."""
    return card.recipe.get("method") not in (None, "natural")
