"""Distillation from a robust and a clean teacher."""

from __future__ import annotations

import torch
from torch import Tensor

from ard.methods.parts.base import (
    Logits,
    LossOptions,
    Terms,
    kl_divergence,
)

LEAST = 1e-7
"""A loss of less is what rounding leaves of none, as of a student that starts from its teacher's
weights; nothing can fall further, nor be divided by."""
MTARD_RATE = 0.025
"""How fast MTARD's weights follow the losses, per step (its published value)."""


def terms(logits: Logits, labels: Tensor, options: LossOptions) -> Terms:
    """Zhao et al. 2022 (MTARD): a robust teacher on x', a clean one on x."""
    return {
        "kl_adversarial": kl_divergence(logits.student_adversarial, logits.teacher_adversarial),
        "kl_clean": kl_divergence(logits.student_clean, logits.second_teacher_clean),
    }


def balance(memory: Tensor, terms: Terms) -> tuple[dict[str, float], Tensor]:
    """Zhao et al. 2022: the term that has fallen less since the start comes to weigh more.

    Memory: the first values of both terms, and the weights (half each at first). The authors
    lower the rate together with their learning rate; here it stays.
    """
    values = torch.stack([term.detach().double().cpu() for term in terms.values()])
    values = values.clamp_min(LEAST)
    first, weights = (values, torch.full((2,), 0.5)) if memory.numel() == 0 else memory.chunk(2)
    relative = values / first
    weights = weights + MTARD_RATE * (relative / relative.sum() - weights)
    return dict(zip(terms, weights.tolist(), strict=True)), torch.cat([first, weights])
