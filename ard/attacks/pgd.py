"""Projected gradient descent; `pgd_trades` differs in the length of a step alone."""

from __future__ import annotations

from torch import Tensor

from ard.attacks.attempt import Attempt
from ard.attacks.steps.climbing import climb, cross_entropy_of


def pgd(attempt: Attempt) -> Tensor:
    """Madry et al. 2018: projected steps on cross-entropy from uniform random starts."""
    return climb(attempt, cross_entropy_of)
