"""Soft rankings and the three ranking losses of adversarial ranking distillation (ARD).

The method is that of "Adversarial Ranking Distillation" (CRAD,
doi 10.7544/issn1000-1239.202550339), of which only the abstract is public: the student agrees
with the teacher on the *order* of outputs on adversarial samples, the discontinuous ranking being
approximated by hyperbolic tangents, at class, sample and adversarial-discrepancy level. The
formulas below are our reading of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

import torch
from torch import Tensor

from ard.methods.pairs import pair_sums, soft_ranks
from edge_bench.core.errors import InputError

AGREEMENTS = ("kendall", "spearman")
SPACES = ("zscore", "logits", "probabilities")
NORMALISATIONS = ("pairs", "cosine")
TEACHER_INPUTS = ("adversarial", "clean")
PRIORITIES = ("uniform", "teacher")
DISCREPANCIES = ("logits", "order")
WEIGHTS = (
    "weight_class",
    "weight_sample",
    "weight_discrepancy",
    "weight_class_clean",
    "weight_sample_clean",
)

# Below this variance (a deviation of 1e-4) a row of scores has no order worth learning: its
# z-scores and their gradients are 0, where dividing by the deviation would blow both up.
FLAT = 1e-8
TINY = 1e-12


@dataclass(frozen=True, kw_only=True)
class RankingOptions:
    """What agreement between rankings means, and how much each level weighs.

    Attributes:
        agreement: `kendall` (pairs) or `spearman` (correlation of soft ranks).
        space: scores that are ranked: `zscore` of the logits, `logits`, or `probabilities`.
        k: steepness of the comparison, above 0; it must fit the space.
        k_end: steepness at the end of training, reached geometrically; None keeps k.
        normalisation: of kendall: `pairs` divides by the number of pairs; `cosine` by the norms
            of both comparison vectors, so that equal scores agree by exactly 1 at any k.
        hard_teacher: compare the teacher's scores by sign, not by tanh.
        priority: of kendall between classes: `uniform` counts every pair of classes alike;
            `teacher` weighs a pair by the teacher's probabilities of both, so that the order at
            the top counts most.
        teacher_input: whether the teacher ranks the `adversarial` or the `clean` images.
        discrepancy: what the third level compares: `logits`, the order of Z(x) - Z(x'); `order`,
            how much the soft ranks themselves change from x to x'.
        weight_class, weight_sample, weight_discrepancy: weights of the three levels.
        weight_class_clean, weight_sample_clean: of the same two levels on clean images.
        warm_up: share of the training in which the weights rise linearly from 0.
    """

    agreement: str = "kendall"
    space: str = "zscore"
    k: float = 2.0
    k_end: float | None = None
    normalisation: str = "pairs"
    hard_teacher: bool = False
    priority: str = "uniform"
    teacher_input: str = "adversarial"
    discrepancy: str = "logits"
    weight_class: float = 1.0
    weight_sample: float = 1.0
    weight_discrepancy: float = 0.5
    weight_class_clean: float = 0.0
    weight_sample_clean: float = 0.0
    warm_up: float = 0.0

    def __post_init__(self) -> None:
        for option, value, known in (
            ("--agreement", self.agreement, AGREEMENTS),
            ("--score-space", self.space, SPACES),
            ("--normalisation", self.normalisation, NORMALISATIONS),
            ("--teacher-input", self.teacher_input, TEACHER_INPUTS),
            ("ranking.priority", self.priority, PRIORITIES),
            ("ranking.discrepancy", self.discrepancy, DISCREPANCIES),
        ):
            if value not in known:
                raise InputError(f"{option} {value}: expected one of {', '.join(known)}")
        if self.priority == "teacher" and self.agreement != "kendall":
            raise InputError(
                f"ranking.priority teacher: {self.agreement} has no pairs to weigh; use kendall"
            )
        for option, k in (("--k", self.k), ("ranking.k_end", self.k_end)):
            if k is not None and not 0 < k < inf:
                raise InputError(f"{option} {k:g}: expected a steepness above 0")
        if not all(0 <= getattr(self, name) < inf for name in WEIGHTS):
            given = ", ".join(f"{name} {getattr(self, name):g}" for name in WEIGHTS)
            raise InputError(f"ranking weights: expected 0 or more for every level, got {given}")
        if not 0 <= self.warm_up <= 1:
            raise InputError(f"ranking.warm_up {self.warm_up:g}: expected a share from 0 to 1")

    def at(self, progress: float) -> RankingOptions:
        """The options in force when this share (0 to 1) of the training is done."""
        if self.k_end is None and self.warm_up == 0:
            return self
        k = self.k if self.k_end is None else self.k * (self.k_end / self.k) ** progress
        share = min(1.0, progress / self.warm_up) if self.warm_up else 1.0
        weights = {name: share * getattr(self, name) for name in WEIGHTS}
        return replace(self, k=k, k_end=None, warm_up=0.0, **weights)


def kendall_agreement(
    a: Tensor,
    b: Tensor,
    k: float,
    *,
    normalisation: str = "pairs",
    hard_b: bool = False,
    priority: Tensor | None = None,
) -> Tensor:
    """Soft Kendall correlation of the scores in each row.

        tau_k(a, b) = 2 / (n (n - 1)) sum_{i<j} tanh(k (a_i - a_j)) tanh(k (b_i - b_j))

    With `normalisation="cosine"` the sum is divided by sqrt(sum tanh_a^2 sum tanh_b^2) instead.
    With a priority each pair counts w_i + w_j times.

    Args:
        a, b: scores, (rows, n) with n of 2 or more.
        k: steepness, above 0.
        hard_b: compare b by sign.
        priority: weights w of the elements, (rows, n), 0 or more with a positive sum in each row;
            constants to the gradient.

    Returns:
        (rows,) in [-1, 1]; differentiable in `a`, and in `b` unless `hard_b`.
    """
    n = a.shape[1]
    cosine = normalisation == "cosine"
    ab, aa, bb = pair_sums(a, b, k, hard_b, cosine, priority)
    agreement: Tensor
    if cosine:
        # Equal scores in a row have no comparison to agree with: 0, without a gradient.
        squares = aa * bb
        agreement = torch.where(squares > TINY, ab / squares.clamp_min(TINY).sqrt(), 0.0)
    elif priority is not None:
        # Every element is in n - 1 pairs.
        agreement = ab / ((n - 1) * priority.sum(dim=1))
    else:
        agreement = ab * (2 / (n * (n - 1)))
    return agreement


def spearman_agreement(a: Tensor, b: Tensor, k: float, *, hard_b: bool = False) -> Tensor:
    """Pearson correlation of the soft ranks of each row; shapes as in `kendall_agreement`.

    Ranks sum to zero, since a comparison is antisymmetric, so their Pearson correlation is the
    cosine of the angle between them.
    """
    ranks_a, ranks_b = soft_ranks(a, k), soft_ranks(b, k, hard=hard_b)
    squares = ranks_a.square().sum(1) * ranks_b.square().sum(1)
    product = (ranks_a * ranks_b).sum(1)
    return torch.where(squares > TINY, product / squares.clamp_min(TINY).sqrt(), 0.0)


def ranking_losses(
    student_clean: Tensor,
    student_adversarial: Tensor,
    teacher_clean: Tensor,
    teacher_adversarial: Tensor,
    options: RankingOptions,
) -> dict[str, Tensor]:
    """The three levels of ARD, each 1 - agreement in [0, 2], unweighted.

        class:        mean over samples of 1 - agree over classes
        sample:       mean over classes of 1 - agree over samples
        discrepancy:  mean over samples of 1 - agree over classes of Z(x) - Z(x')

    or, as `discrepancy="order"`, the mean over samples of |R_S - R_T|^2 of the changes of order R
    (see `order_change`), and `class_clean` and `sample_clean`, the first two on clean images, where
    the teacher ranks the clean images too. Levels of weight 0 are left out.

    Args:
        student_clean, student_adversarial, teacher_clean, teacher_adversarial: logits (B, C).

    Returns:
        scalars under the names of the levels.
    """
    s_clean, s_adversarial, t_clean, t_adversarial = (
        logits.softmax(dim=1) if options.space == "probabilities" else logits
        for logits in (student_clean, student_adversarial, teacher_clean, teacher_adversarial)
    )
    teacher = t_adversarial if options.teacher_input == "adversarial" else t_clean
    ranked = teacher_adversarial if options.teacher_input == "adversarial" else teacher_clean
    priority = class_priority(ranked, options)
    terms: dict[str, Tensor] = {}
    if options.weight_class:
        terms["class"] = disagreement(s_adversarial, teacher, options, priority).mean()
    if options.weight_sample:
        terms["sample"] = disagreement(s_adversarial.t(), teacher.t(), options).mean()
    if options.weight_discrepancy and options.discrepancy == "order":
        change = order_change(s_clean, s_adversarial, options)
        expected = order_change(t_clean, t_adversarial, options)
        terms["discrepancy"] = (change - expected).square().sum(dim=1).mean()
    elif options.weight_discrepancy:
        terms["discrepancy"] = disagreement(
            s_clean - s_adversarial, t_clean - t_adversarial, options, priority
        ).mean()
    if options.weight_class_clean:
        clean_priority = class_priority(teacher_clean, options)
        terms["class_clean"] = disagreement(s_clean, t_clean, options, clean_priority).mean()
    if options.weight_sample_clean:
        terms["sample_clean"] = disagreement(s_clean.t(), t_clean.t(), options).mean()
    return terms


def class_priority(teacher: Tensor, options: RankingOptions) -> Tensor | None:
    """Weights of the classes (B, C) by the teacher's logits, where the options ask for them."""
    return teacher.detach().softmax(dim=1) if options.priority == "teacher" else None


def disagreement(
    student: Tensor, teacher: Tensor, options: RankingOptions, priority: Tensor | None = None
) -> Tensor:
    """1 - agreement of each row of scores (rows, n), (rows,) in [0, 2].

    The scores are z-scored where the options say so; probabilities are the caller's to take.
    """
    if options.space == "zscore":
        student, teacher = zscore(student), zscore(teacher)
    if options.agreement == "kendall":
        agreement = kendall_agreement(
            student,
            teacher,
            options.k,
            normalisation=options.normalisation,
            hard_b=options.hard_teacher,
            priority=priority,
        )
    else:
        agreement = spearman_agreement(student, teacher, options.k, hard_b=options.hard_teacher)
    return 1 - agreement


def order_change(clean: Tensor, adversarial: Tensor, options: RankingOptions) -> Tensor:
    """How the soft ranks of each row change, r(x) - r(x') over n - 1: (rows, n) in [-2, 2].

    The agreement of two differences of logits is blind to their size, so it never asks a student
    to give way as little as its teacher does; this is not.
    """
    if options.space == "zscore":
        clean, adversarial = zscore(clean), zscore(adversarial)
    ranks = soft_ranks(clean, options.k) - soft_ranks(adversarial, options.k)
    return ranks / (clean.shape[1] - 1)


def zscore(scores: Tensor) -> Tensor:
    """Each row (rows, n) shifted to mean 0 and scaled to (population) variance 1."""
    centred = scores - scores.mean(dim=1, keepdim=True)
    variance = centred.square().mean(dim=1, keepdim=True)
    return torch.where(variance > FLAT, centred / variance.clamp_min(FLAT).sqrt(), 0.0)
