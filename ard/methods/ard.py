"""Adversarial ranking distillation."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from ard.methods.parts.base import (
    Logits,
    LossOptions,
    Terms,
    published,
    total,
)
from ard.methods.registry import ANCHORS, METHODS
from ard.ranking.levels import ranking_losses

WEIGHTS = {"igdm": 8.0}
"""The alpha of an anchor that is not the published one, where none is given: the one that was best
on unused images, for IGDM alone as well (docs/results/methods_search.md)."""


def terms(logits: Logits, labels: Tensor, options: LossOptions) -> Terms:
    """ARD (doi 10.7544/issn1000-1239.202550339): an anchor and three ranking levels."""
    temperature = published(options.temperature, 1.0) if options.anchor != "ce" else 1.0
    if options.alpha is None and options.anchor in WEIGHTS:
        options = replace(options, alpha=WEIGHTS[options.anchor])
    softened = Logits(*(z / temperature for z in vars(logits).values()))
    anchored = METHODS[ANCHORS[options.anchor]].terms(softened, labels, options)
    anchor = temperature**2 * total(anchored)
    ranking = options.ranking
    weights = {
        "class": ranking.weight_class,
        "sample": ranking.weight_sample,
        "discrepancy": ranking.weight_discrepancy,
        "class_clean": ranking.weight_class_clean,
        "sample_clean": ranking.weight_sample_clean,
    }
    levels = ranking_losses(
        logits.student_clean,
        logits.student_adversarial,
        logits.teacher_clean,
        logits.teacher_adversarial,
        ranking,
        labels,
    )
    return {"anchor": anchor} | {name: weights[name] * loss for name, loss in levels.items()}
