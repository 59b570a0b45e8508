"""The momentum iterative fast gradient sign method."""

from __future__ import annotations

from torch import Tensor

from ard.attacks.attempt import Attempt
from ard.attacks.steps.climbing import climb, cross_entropy_of

# Dong et al. 2018, the decay factor mu.
MOMENTUM = 1.0


def mi_fgsm(attempt: Attempt) -> Tensor:
    """Dong et al. 2018, Algorithm 1: steps along a running sum of L1-normalised gradients."""
    return climb(attempt, cross_entropy_of, momentum=MOMENTUM)
