"""Introspective adversarial distillation."""

from __future__ import annotations

from torch import Tensor

from ard.methods.parts.base import (
    Logits,
    LossOptions,
    Terms,
    kl_divergence,
    kl_divergence_each,
    published,
)

IAD_WARM_UP = 0.3
"""Share of the training in which IAD trusts its teacher alone: 60 of the authors' 200 epochs."""


def terms(logits: Logits, labels: Tensor, options: LossOptions) -> Terms:
    """Zhu et al. 2022 (IAD-I): where the teacher is wrong, the student heeds itself as well.

    t^2 KL(T(x) / t || S(x') / t) + (1 - p_T(y | x')^beta) KL(S(x) || S(x')), the second term after
    a warm-up, with beta 0.1 and t 1. As in the authors' code, the first term has the same weight
    for every sample, and a temperature does not touch the second.
    """
    temperature = published(options.temperature, 1.0)
    student = logits.student_adversarial
    truth = logits.teacher_adversarial.softmax(dim=1).gather(1, labels.unsqueeze(1)).squeeze(1)
    distrust = 1 - truth.pow(published(options.beta, 0.1))
    own = (distrust * kl_divergence_each(student, logits.student_clean)).mean()
    return {
        "kl_teacher": temperature**2 * kl_divergence(student, logits.teacher_clean, temperature),
        "kl_self": float(options.progress >= IAD_WARM_UP) * own,
    }
