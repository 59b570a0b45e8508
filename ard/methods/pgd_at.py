"""Adversarial training."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from ard.methods.parts.base import (
    Logits,
    LossOptions,
    Terms,
)


def terms(logits: Logits, labels: Tensor, options: LossOptions) -> Terms:
    """Madry et al. 2018, eq. 2.1: cross-entropy on adversarial images."""
    return {"ce": F.cross_entropy(logits.student_adversarial, labels)}
