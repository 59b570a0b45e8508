"""What every objective is made of: its settings, the logits of a step, terms, and divergences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from math import inf

import torch
from torch import Tensor
from torch.nn import functional as F

from ard.methods.registry import ANCHORS
from ard.ranking.levels import RankingOptions
from edge_bench.core.errors import InputError

NOTHING = torch.empty(0)


@dataclass(frozen=True, kw_only=True)
class LossOptions:
    """Settings of the objectives; each method reads its own. None is the published value.

    Attributes:
        alpha: weight of the distillation term: goldblum_ard (1), igdm's module (1; for CIFAR-100
            its authors take 20; as the anchor of ard 8), dist_adv's cross-entropy (1); share of
            the term on adversarial images: adaad (1), rslad (5/6).
        beta: weight of the robust term of trades (6) and mart (5); exponent of iad (0.1); weight
            of dist_adv's relations within a sample (2).
        gamma: weight of dist_adv's relations between samples (2).
        temperature: of the softmax in goldblum_ard (30), dist_adv (4), iad (1), and of the
            anchor of ard (1).
        teacher_temperature: the robust teacher's logits are divided by it wherever they are read,
            in the attack too: below 1 it is surer of what it says, above 1 less sure. `ardx
            distill` takes 0.5 for ard on the anchor igdm where nothing else is asked for.
        anchor: of ARD: what fixes the scale that a ranking is blind to: the objective `rslad`,
            `adaad` or `igdm`, or `ce`, cross-entropy on adversarial images. Its attack is the
            anchor's, too.
        ranking: the ranking terms of ARD, and the inner objective `ranking`.
    """

    alpha: float | None = None
    beta: float | None = None
    gamma: float | None = None
    temperature: float | None = None
    teacher_temperature: float = 1.0
    anchor: str = "igdm"
    ranking: RankingOptions = field(default_factory=RankingOptions)

    def __post_init__(self) -> None:
        if self.anchor not in ANCHORS:
            raise InputError(f"--anchor {self.anchor}: expected one of {', '.join(ANCHORS)}")
        weights = (("loss.alpha", self.alpha), ("--beta", self.beta), ("loss.gamma", self.gamma))
        for option, weight in weights:
            if weight is not None and not 0 <= weight < inf:
                raise InputError(f"{option} {weight:g}: expected a weight of 0 or more")
        for option in ("temperature", "teacher_temperature"):
            heat = getattr(self, option)
            if heat is not None and not 0 < heat < inf:
                raise InputError(f"loss.{option} {heat:g}: expected a value above 0")

    @property
    def progress(self) -> float:
        """Share of the training that is done: all of it, unless `at` says otherwise."""
        return 1.0

    def at(self, progress: float) -> LossOptions:
        """The options in force when this share (0 to 1) of the training is done."""
        given = {each.name: getattr(self, each.name) for each in fields(LossOptions)}
        return _OptionsAt(**given | {"ranking": self.ranking.at(progress), "progress": progress})


@dataclass(frozen=True, kw_only=True)
class _OptionsAt(LossOptions):
    """Options at one moment of a training. The moment is no setting, so no field of the above."""

    progress: float = 1.0


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
