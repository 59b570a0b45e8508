"""The relations of DIST on adversarial logits."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from ard.methods.parts.base import (
    Logits,
    LossOptions,
    Terms,
    published,
)


def terms(logits: Logits, labels: Tensor, options: LossOptions) -> Terms:
    """Huang et al. 2022 (DIST), on adversarial logits.

    alpha CE(x') + t^2 (beta (1 - Pearson over classes) + gamma (1 - Pearson over samples)) of
    softmax(Z(x') / t), with alpha 1, beta and gamma 2 and t 4.
    """
    temperature = published(options.temperature, 4.0)
    student = (logits.student_adversarial / temperature).softmax(dim=1)
    teacher = (logits.teacher_adversarial / temperature).softmax(dim=1)
    within, between = _correlation(student, teacher), _correlation(student.t(), teacher.t())
    ce = F.cross_entropy(logits.student_adversarial, labels)
    return {
        "ce": published(options.alpha, 1.0) * ce,
        "within": published(options.beta, 2.0) * temperature**2 * (1 - within),
        "between": published(options.gamma, 2.0) * temperature**2 * (1 - between),
    }


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """Mean over rows of Pearson's correlation."""
    centred_a, centred_b = a - a.mean(dim=1, keepdim=True), b - b.mean(dim=1, keepdim=True)
    return F.cosine_similarity(centred_a, centred_b, dim=1).mean()
