"""Indirect gradient distillation."""

from __future__ import annotations

from torch import Tensor

from ard.methods.parts.base import (
    Logits,
    LossOptions,
    Terms,
    kl_divergence,
    published,
)


def terms(logits: Logits, labels: Tensor, options: LossOptions) -> Terms:
    """Lee et al. 2025 (IGDM), eqs. 8 and 9, on AdaAD: output differences for input gradients.

    KL(T(x') || S(x')) + alpha p KL(T(x') - T(2x - x') || S(x') - S(2x - x')) of logits, where p
    rises from 0 to 1 over the training as in the authors' code, with alpha 1.
    """
    student = logits.student_adversarial - logits.student_mirrored
    teacher = logits.teacher_adversarial - logits.teacher_mirrored
    weight = published(options.alpha, 1.0) * options.progress
    return {
        "kl_adversarial": kl_divergence(logits.student_adversarial, logits.teacher_adversarial),
        "gradient": weight * kl_divergence(student, teacher),
    }
