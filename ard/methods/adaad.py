"""Adaptive adversarial distillation."""

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
    """Huang et al. 2023 (AdaAD): alpha KL(T(x') || S(x')) + (1 - alpha) KL(T(x) || S(x)).

    With alpha 1; its inner maximisation ascends KL(T(x') || S(x')) through both networks.
    """
    alpha = share_of(options.alpha, 1.0)
    robust = kl_divergence(logits.student_adversarial, logits.teacher_adversarial)
    terms = {"kl_adversarial": alpha * robust}
    if alpha != 1:
        terms["kl_clean"] = (1 - alpha) * kl_divergence(logits.student_clean, logits.teacher_clean)
    return terms
