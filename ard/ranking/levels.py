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

from ard.ranking.emphasis import EVERY_PAIR, Emphasis, class_emphasis, hub_sums, reliability
from ard.ranking.pairs import pair_sums, soft_ranks
from edge_bench.core.errors import InputError

AGREEMENTS = ("kendall", "spearman")
FORMS = ("agreement", "distance")
SPACES = ("zscore", "teacher_scale", "logits", "probabilities")
NORMALISATIONS = ("pairs", "cosine")
TEACHER_INPUTS = ("adversarial", "clean")
PRIORITIES = ("uniform", "teacher", "label")
RELIABILITIES = ("none", "label", "entropy")
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
"""Below this sum of squared comparisons all scores of a row are equal, at a steepness of 1."""


@dataclass(frozen=True, kw_only=True)
class RankingOptions:
    """What agreement between rankings means, and how much each level weighs.

    Attributes:
        agreement: `kendall` (pairs) or `spearman` (correlation of soft ranks).
        form: what is minimised: `agreement`, 1 - the mean product of both comparisons, lowest where
            the student is more decisive than its teacher; `distance`, the mean square of their
            difference, lowest at the teacher's own scores.
        space: scores that are ranked: `zscore` of the logits; `teacher_scale`, the logits of both
            over the deviation of the teacher's, which leaves the student's scale visible; `logits`;
            or `probabilities`.
        k: steepness of the comparison, above 0; it must fit the space.
        k_end: steepness at the end of training, reached geometrically; None keeps k.
        normalisation: of kendall's agreement: `pairs` divides by the number of pairs; `cosine` by
            the norms of both comparison vectors, so that equal scores agree by 1, however small k
            is, down to 1e-6 in float32: comparisons of less are not told from 0.
        hard_teacher: compare the teacher's scores by sign, not by tanh.
        priority: of kendall between classes: `uniform` counts every pair of classes alike;
            `teacher` weighs a pair by the teacher's probabilities of both, so that the order at
            the top counts most; `label` counts the pairs that hold the label alone, by how close
            the teacher finds them (see `emphasis.closeness`), at O(B C).
        top: between classes: only the teacher's likeliest ones are ranked, this many, at O(B m^2);
            0 ranks all, as the discrepancy of `order` always does.
        reliability: how much a sample counts: `none`, all alike; `label`, by the teacher's
            probability of the label on the images that it ranks, which are the clean ones at the
            levels on clean images; `entropy`, by 1 - H / log C.
        teacher_input: whether the teacher ranks the `adversarial` or the `clean` images.
        discrepancy: what the third level compares: `logits`, the order of Z(x) - Z(x'); `order`,
            how much the soft ranks themselves change from x to x', of all classes alike.
        weight_class, weight_sample, weight_discrepancy: weights of the three levels.
        weight_class_clean, weight_sample_clean: of the same two levels on clean images.
        warm_up: share of the training in which the weights rise linearly from 0.
    """

    agreement: str = "kendall"
    form: str = "agreement"
    space: str = "zscore"
    k: float = 1.0
    k_end: float | None = None
    normalisation: str = "pairs"
    hard_teacher: bool = False
    priority: str = "uniform"
    top: int = 0
    reliability: str = "none"
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
            ("ranking.form", self.form, FORMS),
            ("--score-space", self.space, SPACES),
            ("--normalisation", self.normalisation, NORMALISATIONS),
            ("--teacher-input", self.teacher_input, TEACHER_INPUTS),
            ("ranking.priority", self.priority, PRIORITIES),
            ("ranking.reliability", self.reliability, RELIABILITIES),
            ("ranking.discrepancy", self.discrepancy, DISCREPANCIES),
        ):
            if value not in known:
                raise InputError(f"{option} {value}: expected one of {', '.join(known)}")
        self._check_together()
        for option, k in (("--k", self.k), ("ranking.k_end", self.k_end)):
            if k is not None and not 0 < k < inf:
                raise InputError(f"{option} {k:g}: expected a steepness above 0")
        if not all(0 <= getattr(self, name) < inf for name in WEIGHTS):
            given = ", ".join(f"{name} {getattr(self, name):g}" for name in WEIGHTS)
            raise InputError(f"ranking weights: expected 0 or more for every level, got {given}")
        if not 0 <= self.warm_up <= 1:
            raise InputError(f"ranking.warm_up {self.warm_up:g}: expected a share from 0 to 1")

    def _check_together(self) -> None:
        """What each option allows the others."""
        by_pairs = {"priority": "uniform", "reliability": "none"}
        for name, plain in by_pairs.items():
            if getattr(self, name) != plain and self.agreement != "kendall":
                raise InputError(
                    f"ranking.{name} {getattr(self, name)}: {self.agreement} has no pairs to "
                    "weigh; use kendall"
                )
        if self.form == "distance" and self.normalisation != "pairs":
            raise InputError(
                f"--normalisation {self.normalisation}: a distance has no norms to divide by; "
                "use pairs, or ranking.form agreement"
            )
        if self.top < 0 or self.top == 1:
            raise InputError(f"ranking.top {self.top}: expected 0 (all classes), or 2 or more")

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
    emphasis: Emphasis = EVERY_PAIR,
) -> Tensor:
    """Soft Kendall correlation of the scores in each row.

        tau_k(a, b) = 2 / (n (n - 1)) sum_{i<j} tanh(k (a_i - a_j)) tanh(k (b_i - b_j))

    With `normalisation="cosine"` the sum is divided by sqrt(sum tanh_a^2 sum tanh_b^2) instead.

    Args:
        a, b: scores, (rows, n) with n of 2 or more.
        k: steepness, above 0.
        hard_b: compare b by sign.
        emphasis: how much each pair counts.

    Returns:
        (rows,) in [-1, 1]; differentiable in `a`, and in `b` unless `hard_b`.
    """
    cosine = normalisation == "cosine"
    ab, aa, bb, pairs = _sums(a, b, k, hard_b, cosine, emphasis)
    if not cosine:
        return _mean(ab, pairs)
    return _cosine(ab, aa, bb, k)


def kendall_distance(
    a: Tensor, b: Tensor, k: float, *, hard_b: bool = False, emphasis: Emphasis = EVERY_PAIR
) -> Tensor:
    """Mean over the pairs of each row of (tanh(k (a_i - a_j)) - tanh(k (b_i - b_j)))^2.

    (rows,) in [0, 4], and 0 where the scores are equal but for a shift; arguments as in
    `kendall_agreement`.
    """
    ab, aa, bb, pairs = _sums(a, b, k, hard_b, True, emphasis)
    return _mean(aa - 2 * ab + bb, pairs)


def _sums(
    a: Tensor, b: Tensor, k: float, hard_b: bool, squares: bool, emphasis: Emphasis
) -> tuple[Tensor, Tensor, Tensor, Tensor | float]:
    """The sums of `pairs.pair_sums` over what counts, and how many pairs that is."""
    if emphasis.hub is not None:
        return *hub_sums(a, b, k, hard_b, emphasis), 1.0
    if emphasis.chosen is not None:
        a, b = a.gather(1, emphasis.chosen), b.gather(1, emphasis.chosen)
    n = a.shape[1]
    pairs: Tensor | float = n * (n - 1) / 2
    if emphasis.elements is not None:
        # Every element is in n - 1 pairs.
        pairs = (n - 1) * emphasis.elements.sum(dim=1)
    return *pair_sums(a, b, k, hard_b, squares, emphasis.elements), pairs


def _cosine(ab: Tensor, aa: Tensor, bb: Tensor, k: float) -> Tensor:
    """ab / sqrt(aa bb) of each row; 0, without a gradient, where its scores are equal.

    Comparisons shrink with k, so what counts as equal does, too; and so would the product of two
    sums of their squares, out of what a float holds.
    """
    equal = max(TINY * min(1.0, k) ** 2, torch.finfo(ab.dtype).tiny)
    norms = aa.clamp_min(equal).sqrt() * bb.clamp_min(equal).sqrt()
    return torch.where((aa > equal) & (bb > equal), ab / norms, 0.0)


def _mean(sums: Tensor, pairs: Tensor | float) -> Tensor:
    return sums / pairs if isinstance(pairs, Tensor) else sums * (1 / pairs)


def spearman_agreement(a: Tensor, b: Tensor, k: float, *, hard_b: bool = False) -> Tensor:
    """Pearson correlation of the soft ranks of each row; shapes as in `kendall_agreement`.

    Ranks sum to zero, since a comparison is antisymmetric, so their Pearson correlation is the
    cosine of the angle between them.
    """
    ranks_a, ranks_b = soft_ranks(a, k), soft_ranks(b, k, hard=hard_b)
    ab, aa, bb = (
        (one * other).sum(1)
        for one, other in ((ranks_a, ranks_b), (ranks_a, ranks_a), (ranks_b, ranks_b))
    )
    return _cosine(ab, aa, bb, k)


def spearman_distance(a: Tensor, b: Tensor, k: float, *, hard_b: bool = False) -> Tensor:
    """Mean over the elements of each row of the squared difference of soft ranks over n - 1."""
    ranks_a, ranks_b = soft_ranks(a, k), soft_ranks(b, k, hard=hard_b)
    return ((ranks_a - ranks_b) / (a.shape[1] - 1)).square().mean(dim=1)


def ranking_losses(
    student_clean: Tensor,
    student_adversarial: Tensor,
    teacher_clean: Tensor,
    teacher_adversarial: Tensor,
    options: RankingOptions,
    labels: Tensor | None = None,
) -> dict[str, Tensor]:
    """The three levels of ARD, each a disagreement (see there) of 0 or more, unweighted.

        class:        mean over samples of the disagreement over classes
        sample:       mean over classes of the disagreement over samples
        discrepancy:  mean over samples of the disagreement over classes of Z(x) - Z(x')

    or, as `discrepancy="order"`, the mean over samples of |R_S - R_T|^2 of the changes of order R
    (see `order_change`), and `class_clean` and `sample_clean`, the first two on clean images, where
    the teacher ranks the clean images too and is trusted by them. Levels of weight 0 are left out.

    Args:
        student_clean, student_adversarial, teacher_clean, teacher_adversarial: logits (B, C).
        labels: (B,), for a priority or a reliability by the label.

    Returns:
        scalars under the names of the levels.
    """
    s_clean, s_adversarial, t_clean, t_adversarial = (
        logits.softmax(dim=1) if options.space == "probabilities" else logits
        for logits in (student_clean, student_adversarial, teacher_clean, teacher_adversarial)
    )
    teacher = t_adversarial if options.teacher_input == "adversarial" else t_clean
    ranked = teacher_adversarial if options.teacher_input == "adversarial" else teacher_clean
    emphasis = class_emphasis(ranked, labels, options)
    trust = reliability(ranked, labels, options.reliability)
    terms: dict[str, Tensor] = {}
    if options.weight_class:
        terms["class"] = _trusted(disagreement(s_adversarial, teacher, options, emphasis), trust)
    if options.weight_sample:
        terms["sample"] = _between_samples(s_adversarial, teacher, options, trust)
    if options.weight_discrepancy and options.discrepancy == "order":
        change, expected = (
            order_change(clean, adversarial, options, t_clean)
            for clean, adversarial in ((s_clean, s_adversarial), (t_clean, t_adversarial))
        )
        terms["discrepancy"] = _trusted((change - expected).square().sum(dim=1), trust)
    elif options.weight_discrepancy:
        changes = s_clean - s_adversarial, t_clean - t_adversarial
        each = disagreement(*changes, options, emphasis, t_clean)
        terms["discrepancy"] = _trusted(each, trust)
    trust = reliability(teacher_clean, labels, options.reliability)
    if options.weight_class_clean:
        clean_emphasis = class_emphasis(teacher_clean, labels, options)
        each = disagreement(s_clean, t_clean, options, clean_emphasis)
        terms["class_clean"] = _trusted(each, trust)
    if options.weight_sample_clean:
        terms["sample_clean"] = _between_samples(s_clean, t_clean, options, trust)
    return terms


def _trusted(each: Tensor, trust: Tensor | None) -> Tensor:
    """Mean over the samples (B,), each counting as much as it is trusted."""
    return each.mean() if trust is None else (trust * each).mean()


def _between_samples(
    student: Tensor, teacher: Tensor, options: RankingOptions, trust: Tensor | None
) -> Tensor:
    """Mean over classes of the disagreement over samples; a pair counts as much as both do."""
    emphasis = EVERY_PAIR
    if trust is not None:
        emphasis = Emphasis(elements=trust.expand(student.shape[1], -1))
    return disagreement(student.t(), teacher.t(), options, emphasis).mean()


def disagreement(
    student: Tensor,
    teacher: Tensor,
    options: RankingOptions,
    emphasis: Emphasis = EVERY_PAIR,
    scale: Tensor | None = None,
) -> Tensor:
    """How far each row of scores (rows, n) is from the teacher's, (rows,).

    1 - agreement, in [0, 2], or the distance, in [0, 4]; that of `spearman` is at most 4 too. The
    scores are scaled where the options say so; probabilities are the caller's to take.

    Args:
        scale: the rows (rows, n) whose deviation is that of `teacher_scale`; None takes `teacher`.
    """
    if options.space == "zscore":
        student, teacher = zscore(student), zscore(teacher)
    elif options.space == "teacher_scale":
        unit = inverse_deviation(teacher if scale is None else scale)
        student, teacher = unit * student, unit * teacher
    k, hard = options.k, options.hard_teacher
    if options.agreement == "kendall" and options.form == "distance":
        return kendall_distance(student, teacher, k, hard_b=hard, emphasis=emphasis)
    if options.agreement == "kendall":
        return 1 - kendall_agreement(
            student,
            teacher,
            k,
            normalisation=options.normalisation,
            hard_b=hard,
            emphasis=emphasis,
        )
    if emphasis.chosen is not None:
        student, teacher = (each.gather(1, emphasis.chosen) for each in (student, teacher))
    if options.form == "distance":
        return spearman_distance(student, teacher, k, hard_b=hard)
    return 1 - spearman_agreement(student, teacher, k, hard_b=hard)


def order_change(
    clean: Tensor, adversarial: Tensor, options: RankingOptions, scale: Tensor
) -> Tensor:
    """How the soft ranks of each row change, r(x) - r(x') over n - 1: (rows, n) in [-2, 2].

    The agreement of two differences of logits is blind to their size, so it never asks a student
    to give way as little as its teacher does; this is not. The deviation of `teacher_scale` is that
    of the rows of `scale` (rows, n).
    """
    if options.space == "zscore":
        clean, adversarial = zscore(clean), zscore(adversarial)
    elif options.space == "teacher_scale":
        unit = inverse_deviation(scale)
        clean, adversarial = unit * clean, unit * adversarial
    ranks = soft_ranks(clean, options.k) - soft_ranks(adversarial, options.k)
    return ranks / (clean.shape[1] - 1)


def zscore(scores: Tensor) -> Tensor:
    """Each row (rows, n) shifted to mean 0 and scaled to (population) variance 1."""
    centred = scores - scores.mean(dim=1, keepdim=True)
    variance = centred.square().mean(dim=1, keepdim=True)
    return torch.where(variance > FLAT, centred / variance.clamp_min(FLAT).sqrt(), 0.0)


def inverse_deviation(scores: Tensor) -> Tensor:
    """1 / (population) deviation of each row (rows, n), (rows, 1); 0 for a row without an order."""
    variance = scores.var(dim=1, correction=0, keepdim=True)
    return torch.where(variance > FLAT, variance.clamp_min(FLAT).rsqrt(), 0.0)
