"""The fast gradient sign method."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from ard.attacks.attempt import Attempt
from ard.attacks.steps.ascent import gradient_and_logits
from ard.attacks.steps.climbing import cross_entropy_of
from ard.attacks.steps.norms import project, steepest


def fgsm(attempt: Attempt) -> Tensor:
    """Goodfellow et al. 2015: one step of length epsilon from the clean image."""
    spec = attempt.spec
    climbed = partial(
        cross_entropy_of, classes=attempt.classes, are_targets=attempt.targets is not None
    )
    gradient, _ = gradient_and_logits(attempt.model, attempt.images, climbed)
    step = spec.epsilon * steepest(gradient, spec.norm)
    return project(attempt.images + step, attempt.images, spec.epsilon, spec.norm)
