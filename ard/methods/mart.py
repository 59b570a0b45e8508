"""MART."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ard.methods.parts.base import (
    Logits,
    LossOptions,
    Terms,
    kl_divergence_each,
    published,
)

# A probability is kept this far from 1 before its complement's logarithm is taken (MART).
PROBABILITY_EPS = 1e-7


def terms(logits: Logits, labels: Tensor, options: LossOptions) -> Terms:
    """Wang et al. 2020 (MART): boosted CE(x') + beta KL(S(x) || S(x')) (1 - p_y(x)).

    The boost adds -log(1 - max_{c != y} p_c(x')).
    """
    probabilities = logits.student_adversarial.softmax(dim=1)
    others = probabilities.scatter(1, labels.unsqueeze(1), 0.0).amax(dim=1)
    boost = -torch.log1p(-others.clamp_max(1 - PROBABILITY_EPS)).mean()
    confidence = logits.student_clean.softmax(dim=1).gather(1, labels.unsqueeze(1)).squeeze(1)
    divergence = kl_divergence_each(logits.student_adversarial, logits.student_clean)
    return {
        "ce": F.cross_entropy(logits.student_adversarial, labels) + boost,
        "kl": published(options.beta, 5.0) * (divergence * (1 - confidence)).mean(),
    }
