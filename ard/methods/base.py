"""What every objective is made of: the logits of a step, its terms, and divergences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from edge_bench.core.errors import InputError

NOTHING = torch.empty(0)


@dataclass(frozen=True)
class Logits:
    """What one step computed, each (B, C) or empty where the method does not need it.

    Mirrored images lie opposite the adversarial ones, at 2 x - x'. The second teacher is the
    clean-trained one of methods with two teachers.
    """

    student_clean: Tensor = NOTHING
    student_adversarial: Tensor = NOTHING
    teacher_clean: Tensor = NOTHING
    teacher_adversarial: Tensor = NOTHING
    student_mirrored: Tensor = NOTHING
    teacher_mirrored: Tensor = NOTHING
    second_teacher_clean: Tensor = NOTHING


Terms = dict[str, Tensor]
"""Weighted terms of a loss by name, scalars."""

Balance = Callable[[Tensor, Terms], tuple[dict[str, float], Tensor]]
"""(memory, unweighted terms) to (weight by term, new memory); the first memory is empty."""


def published(value: float | None, default: float) -> float:
    """The given constant, or the published one."""
    return default if value is None else value


def share_of(alpha: float | None, default: float) -> float:
    """An alpha that leaves 1 - alpha to another term."""
    share = published(alpha, default)
    if share > 1:
        raise InputError(
            f"loss.alpha {share:g}: expected a share from 0 to 1, since the other term of this "
            "objective gets the rest"
        )
    return share


def kl_divergence_each(student: Tensor, target: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(softmax(target / T) || softmax(student / T)) of logits (B, C), per sample (B,)."""
    return F.kl_div(
        (student / temperature).log_softmax(dim=1),
        (target / temperature).log_softmax(dim=1),
        log_target=True,
        reduction="none",
    ).sum(dim=1)


def kl_divergence(student: Tensor, target: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean over the batch of `kl_divergence_each`."""
    return kl_divergence_each(student, target, temperature).mean()


def total(terms: Terms) -> Tensor:
    """Sum of the terms, a scalar."""
    return torch.stack(list(terms.values())).sum()
