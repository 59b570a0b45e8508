"""Training without any defence."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from ard.methods.parts.base import (
    Logits,
    LossOptions,
    Terms,
)


def terms(logits: Logits, labels: Tensor, options: LossOptions) -> Terms:
    """Cross-entropy on clean images: training without any defence."""
    return {"ce": F.cross_entropy(logits.student_clean, labels)}
