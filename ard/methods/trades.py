"""TRADES."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from ard.methods.parts.base import (
    Logits,
    LossOptions,
    Terms,
    kl_divergence,
    published,
)


def terms(logits: Logits, labels: Tensor, options: LossOptions) -> Terms:
    """Zhang et al. 2019 (TRADES): CE(x) + beta KL(S(x) || S(x'))."""
    robust = kl_divergence(logits.student_adversarial, logits.student_clean)
    return {
        "ce": F.cross_entropy(logits.student_clean, labels),
        "kl": published(options.beta, 6.0) * robust,
    }
