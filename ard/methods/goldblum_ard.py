"""Adversarially Robust Distillation of Goldblum et al."""

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
    """Goldblum et al. 2020 (Adversarially Robust Distillation).

    alpha t^2 KL(T(x) / t || S(x') / t) + (1 - alpha) CE(S(x)), with alpha 1 and t 30.
    """
    alpha, temperature = published(options.alpha, 1.0), published(options.temperature, 30.0)
    soft = kl_divergence(logits.student_adversarial, logits.teacher_clean, temperature)
    terms = {"kl_adversarial": alpha * temperature**2 * soft}
    if alpha != 1:
        terms["ce"] = (1 - alpha) * F.cross_entropy(logits.student_clean, labels)
    return terms
