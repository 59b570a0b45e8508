"""One pure function of logits per published method; the training loop never knows which.

To add a method: a function here and an entry in LOSSES. All reductions are means over the batch
and sums over classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

import torch
from torch import Tensor
from torch.nn import functional as F

from ard.ranking import RankingOptions, ranking_losses
from edge_bench.errors import InputError

ANCHORS = ("rslad", "ce")


@dataclass(frozen=True, kw_only=True)
class LossOptions:
    """Settings of the objectives; each method reads its own.

    Attributes:
        beta: weight of the robust term of TRADES.
        anchor: of ARD: `rslad` or `ce`; it fixes the scale that a ranking is blind to.
        ranking: the ranking terms of ARD.
    """

    beta: float = 6.0
    anchor: str = "rslad"
    ranking: RankingOptions = field(default_factory=RankingOptions)

    def __post_init__(self) -> None:
        if self.anchor not in ANCHORS:
            raise InputError(f"--anchor {self.anchor}: expected one of {', '.join(ANCHORS)}")
        if not 0 < self.beta < inf:
            raise InputError(f"--beta {self.beta:g}: expected a weight above 0")


@dataclass(frozen=True)
class Logits:
    """What one step computed, each (B, C) or empty where the method does not need it."""

    student_clean: Tensor
    student_adversarial: Tensor
    teacher_clean: Tensor
    teacher_adversarial: Tensor


STUDENT_CLEAN, STUDENT_ADVERSARIAL = "student_clean", "student_adversarial"
TEACHER_CLEAN, TEACHER_ADVERSARIAL = "teacher_clean", "teacher_adversarial"


@dataclass(frozen=True, kw_only=True)
class Method:
    """A published objective and what it needs from the loop.

    Attributes:
        source: the paper.
        terms: weighted terms of the loss by name; their sum is minimised.
        needs: which fields of `Logits` the terms read.
        inner: objective that its inner maximisation ascends (see `attacks.INNER_OBJECTIVES`);
            None for training without attack.
    """

    source: str
    terms: Callable[[Logits, Tensor, LossOptions], dict[str, Tensor]]
    needs: frozenset[str]
    inner: str | None

    @property
    def distils(self) -> bool:
        """Whether a teacher is needed."""
        return bool(self.needs & {TEACHER_CLEAN, TEACHER_ADVERSARIAL})


def kl_divergence(student: Tensor, target: Tensor) -> Tensor:
    """KL(softmax(target) || softmax(student)) of logits (B, C), mean over the batch."""
    return F.kl_div(
        student.log_softmax(dim=1),
        target.log_softmax(dim=1),
        log_target=True,
        reduction="batchmean",
    )


def natural_terms(logits: Logits, labels: Tensor, options: LossOptions) -> dict[str, Tensor]:
    """Cross-entropy on clean images: training without any defence."""
    return {"ce": F.cross_entropy(logits.student_clean, labels)}


def pgd_at_terms(logits: Logits, labels: Tensor, options: LossOptions) -> dict[str, Tensor]:
    """Madry et al. 2018, eq. 2.1: cross-entropy on adversarial images."""
    return {"ce": F.cross_entropy(logits.student_adversarial, labels)}


def trades_terms(logits: Logits, labels: Tensor, options: LossOptions) -> dict[str, Tensor]:
    """Zhang et al. 2019 (TRADES), eq. 5: CE(x) + beta KL(S(x) || S(x'))."""
    robust = kl_divergence(logits.student_adversarial, logits.student_clean)
    return {
        "ce": F.cross_entropy(logits.student_clean, labels),
        "kl": options.beta * robust,
    }


def rslad_terms(logits: Logits, labels: Tensor, options: LossOptions) -> dict[str, Tensor]:
    """Zi et al. 2021 (RSLAD), eq. 6: 5/6 KL(T(x) || S(x')) + 1/6 KL(T(x) || S(x))."""
    return {
        "kl_adversarial": 5 / 6 * kl_divergence(logits.student_adversarial, logits.teacher_clean),
        "kl_clean": 1 / 6 * kl_divergence(logits.student_clean, logits.teacher_clean),
    }


def ard_terms(logits: Logits, labels: Tensor, options: LossOptions) -> dict[str, Tensor]:
    """ARD (doi 10.7544/issn1000-1239.202550339): an anchor and three ranking levels.

    The anchor `rslad` is the whole of that method; `ce` is cross-entropy on adversarial images.
    """
    if options.anchor == "rslad":
        terms = {"anchor": total(rslad_terms(logits, labels, options))}
    else:
        terms = {"anchor": F.cross_entropy(logits.student_adversarial, labels)}
    ranking = options.ranking
    weights = {
        "class": ranking.weight_class,
        "sample": ranking.weight_sample,
        "discrepancy": ranking.weight_discrepancy,
    }
    losses = ranking_losses(
        logits.student_clean,
        logits.student_adversarial,
        logits.teacher_clean,
        logits.teacher_adversarial,
        ranking,
    )
    return terms | {name: weights[name] * loss for name, loss in losses.items()}


LOSSES: dict[str, Method] = {
    "natural": Method(
        source="no defence",
        terms=natural_terms,
        needs=frozenset({STUDENT_CLEAN}),
        inner=None,
    ),
    "pgd_at": Method(
        source="Madry et al. 2018",
        terms=pgd_at_terms,
        needs=frozenset({STUDENT_ADVERSARIAL}),
        inner="ce",
    ),
    "trades": Method(
        source="Zhang et al. 2019",
        terms=trades_terms,
        needs=frozenset({STUDENT_CLEAN, STUDENT_ADVERSARIAL}),
        inner="kl_self",
    ),
    "rslad": Method(
        source="Zi et al. 2021",
        terms=rslad_terms,
        needs=frozenset({STUDENT_CLEAN, STUDENT_ADVERSARIAL, TEACHER_CLEAN}),
        inner="kl_clean",
    ),
    "ard": Method(
        source="doi 10.7544/issn1000-1239.202550339",
        terms=ard_terms,
        needs=frozenset({STUDENT_CLEAN, STUDENT_ADVERSARIAL, TEACHER_CLEAN, TEACHER_ADVERSARIAL}),
        inner="kl_clean",
    ),
}


def method_named(name: str, distils: bool) -> Method:
    """Look a method up among those that do (or do not) need a teacher.

    Raises:
        InputError: no such method for this command.
    """
    known = [key for key, method in LOSSES.items() if method.distils == distils]
    if name not in known:
        raise InputError(f"--method {name}: expected one of {', '.join(known)}")
    return LOSSES[name]


def total(terms: dict[str, Tensor]) -> Tensor:
    """Sum of the terms, a scalar."""
    return torch.stack(list(terms.values())).sum()
