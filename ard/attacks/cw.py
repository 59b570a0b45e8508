"""The margin attack of Carlini and Wagner."""

from __future__ import annotations

from torch import Tensor

from ard.attacks.attempt import Attempt
from ard.attacks.steps.climbing import climb, margin_of


def cw(attempt: Attempt) -> Tensor:
    """Carlini and Wagner's margin loss ascended by projected steps (CW-inf in L-infinity)."""
    return climb(attempt, margin_of)
