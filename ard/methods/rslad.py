"""Robust soft label adversarial distillation."""

from __future__ import annotations

from torch import Tensor

from ard.methods.parts.base import (
    Logits,
    LossOptions,
    Terms,
    kl_divergence,
    share_of,
)


def terms(logits: Logits, labels: Tensor, options: LossOptions) -> Terms:
    """Zi et al. 2021 (RSLAD): alpha KL(T(x) || S(x')) + (1 - alpha) KL(T(x) || S(x)), 5/6."""
    alpha = share_of(options.alpha, 5 / 6)
    return {
        "kl_adversarial": alpha * kl_divergence(logits.student_adversarial, logits.teacher_clean),
        "kl_clean": (1 - alpha) * kl_divergence(logits.student_clean, logits.teacher_clean),
    }
