"""Soft rankings and the three ranking losses of adversarial ranking distillation (ARD).

The method is that of "Adversarial Ranking Distillation" (CRAD,
doi 10.7544/issn1000-1239.202550339), of which only the abstract is public: the student agrees
with the teacher on the *order* of outputs on adversarial samples, the discontinuous ranking being
approximated by hyperbolic tangents, at class, sample and adversarial-discrepancy level. The
formulas below are our reading of it.

A comparison of two scores is tanh(k (a_i - a_j)). Written naively the losses hold one value per
pair, O(B C^2 + C B^2). Here the pairs are visited by cyclic shift, (i, i + s mod n) for
s = 1 .. n // 2, a few shifts at a time, and recomputed in the backward pass: O(B C) memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from edge_bench.errors import InputError

AGREEMENTS = ("kendall", "spearman")
SPACES = ("zscore", "logits", "probabilities")
NORMALISATIONS = ("pairs", "cosine")
TEACHER_INPUTS = ("adversarial", "clean")

# At least this many shifts are taken at once, and more while the block stays small: a block
# holds at most max(8 n, 2^20 / rows) comparisons of a row.
MIN_SHIFTS = 8
BLOCK_COMPARISONS = 1 << 20

# Below this variance a row of scores has no order to speak of; its z-scores and gradients are 0.
TINY = 1e-12


@dataclass(frozen=True, kw_only=True)
class RankingOptions:
    """What agreement between rankings means, and how much each level weighs.

    Attributes:
        agreement: `kendall` (pairs) or `spearman` (correlation of soft ranks).
        space: scores that are ranked: `zscore` of the logits, `logits`, or `probabilities`.
        k: steepness of the comparison, above 0; it must fit the space.
        normalisation: of kendall: `pairs` divides by the number of pairs; `cosine` by the norms
            of both comparison vectors, so that equal scores agree by exactly 1 at any k.
        hard_teacher: compare the teacher's scores by sign, not by tanh.
        teacher_input: whether the teacher ranks the `adversarial` or the `clean` images.
        weight_class, weight_sample, weight_discrepancy: weights of the three levels.
    """

    agreement: str = "kendall"
    space: str = "zscore"
    k: float = 2.0
    normalisation: str = "pairs"
    hard_teacher: bool = False
    teacher_input: str = "adversarial"
    weight_class: float = 1.0
    weight_sample: float = 1.0
    weight_discrepancy: float = 0.5

    def __post_init__(self) -> None:
        for option, value, known in (
            ("--agreement", self.agreement, AGREEMENTS),
            ("--score-space", self.space, SPACES),
            ("--normalisation", self.normalisation, NORMALISATIONS),
            ("--teacher-input", self.teacher_input, TEACHER_INPUTS),
        ):
            if value not in known:
                raise InputError(f"{option} {value}: expected one of {', '.join(known)}")
        if self.k <= 0:
            raise InputError(f"--k {self.k:g}: expected a steepness above 0")
        weights = (self.weight_class, self.weight_sample, self.weight_discrepancy)
        if min(weights) < 0:
            raise InputError(f"ranking weights {weights}: expected 0 or more for every level")


def kendall_agreement(
    a: Tensor, b: Tensor, k: float, *, normalisation: str = "pairs", hard_b: bool = False
) -> Tensor:
    """Soft Kendall correlation of the scores in each row.

        tau_k(a, b) = 2 / (n (n - 1)) sum_{i<j} tanh(k (a_i - a_j)) tanh(k (b_i - b_j))

    With `normalisation="cosine"` the sum is divided by sqrt(sum tanh_a^2 sum tanh_b^2) instead.

    Args:
        a, b: scores, (rows, n) with n of 2 or more.
        k: steepness, above 0.
        hard_b: compare b by sign.

    Returns:
        (rows,) in [-1, 1]; differentiable in `a`, and in `b` unless `hard_b`.
    """
    rows, n = a.shape
    products = a.new_zeros(rows, 3)
    for first, count in _shift_blocks(rows, n, n // 2):
        products = products + _recompute(
            _pair_products, count < n // 2, a, b, k, first, count, hard_b
        )
    ab, aa, bb = products.unbind(dim=1)
    if normalisation == "cosine":
        return ab / (aa * bb).clamp_min(TINY).sqrt()
    return ab * (2 / (n * (n - 1)))


def spearman_agreement(a: Tensor, b: Tensor, k: float, *, hard_b: bool = False) -> Tensor:
    """Pearson correlation of the soft ranks of each row; shapes as in `kendall_agreement`.

    Ranks sum to zero, since a comparison is antisymmetric, so their Pearson correlation is the
    cosine of the angle between them.
    """
    ranks_a, ranks_b = soft_ranks(a, k), soft_ranks(b, k, hard=hard_b)
    norms = (ranks_a.square().sum(1) * ranks_b.square().sum(1)).clamp_min(TINY).sqrt()
    return (ranks_a * ranks_b).sum(1) / norms


def soft_ranks(a: Tensor, k: float, *, hard: bool = False) -> Tensor:
    """r_i = sum_j tanh(k (a_i - a_j)), (rows, n) to (rows, n) in (1 - n, n - 1)."""
    rows, n = a.shape
    ranks = torch.zeros_like(a)
    for first, count in _shift_blocks(rows, n, n - 1):
        ranks = ranks + _recompute(_rank_parts, count < n - 1, a, k, first, count, hard)
    return ranks


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

    Levels of weight 0 are left out.

    Args:
        student_clean, student_adversarial, teacher_clean, teacher_adversarial: logits (B, C).

    Returns:
        scalars under `class`, `sample`, `discrepancy`.
    """
    s_clean, s_adversarial, t_clean, t_adversarial = (
        logits.softmax(dim=1) if options.space == "probabilities" else logits
        for logits in (student_clean, student_adversarial, teacher_clean, teacher_adversarial)
    )
    teacher = t_adversarial if options.teacher_input == "adversarial" else t_clean
    terms: dict[str, Tensor] = {}
    if options.weight_class:
        terms["class"] = _disagreement(s_adversarial, teacher, options)
    if options.weight_sample:
        terms["sample"] = _disagreement(s_adversarial.t(), teacher.t(), options)
    if options.weight_discrepancy:
        terms["discrepancy"] = _disagreement(
            s_clean - s_adversarial, t_clean - t_adversarial, options
        )
    return terms


def _disagreement(student: Tensor, teacher: Tensor, options: RankingOptions) -> Tensor:
    """Mean over rows of 1 - agreement, in the chosen score space."""
    if options.space == "zscore":
        student, teacher = zscore(student), zscore(teacher)
    if options.agreement == "kendall":
        agreement = kendall_agreement(
            student,
            teacher,
            options.k,
            normalisation=options.normalisation,
            hard_b=options.hard_teacher,
        )
    else:
        agreement = spearman_agreement(student, teacher, options.k, hard_b=options.hard_teacher)
    return 1 - agreement.mean()


def zscore(scores: Tensor) -> Tensor:
    """Each row (rows, n) shifted to mean 0 and scaled to (population) variance 1."""
    centred = scores - scores.mean(dim=1, keepdim=True)
    variance = centred.square().mean(dim=1, keepdim=True)
    return centred / variance.clamp_min(TINY).sqrt()


def _shift_blocks(rows: int, n: int, shifts: int) -> Iterator[tuple[int, int]]:
    """Cover the shifts 1 .. `shifts` by (first, count)."""
    size = max(MIN_SHIFTS, BLOCK_COMPARISONS // max(rows * n, 1))
    for first in range(1, shifts + 1, size):
        yield first, min(size, shifts + 1 - first)


def _recompute(function: Callable[..., Tensor], worthwhile: bool, *arguments: Any) -> Tensor:
    """Call `function`; where there are several blocks, drop its pairs until the backward pass."""
    if worthwhile and torch.is_grad_enabled():
        return checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)
    return function(*arguments)


def _comparisons(a: Tensor, k: float, first: int, count: int, hard: bool) -> Tensor:
    """(rows, count, n): entry (s, i) compares a_i with a_{i + first + s mod n}."""
    n = a.shape[1]
    # The doubled row turns a cyclic shift into a window, which is a view.
    doubled = torch.cat((a, a), dim=1)
    shifted = doubled[:, first : first + count + n - 1].unfold(1, n, 1)
    difference = a.unsqueeze(1) - shifted
    return difference.sign() if hard else (k * difference).tanh()


def _pair_products(a: Tensor, b: Tensor, k: float, first: int, count: int, hard_b: bool) -> Tensor:
    """(rows, 3): sums over the block's pairs of t_a t_b, t_a^2 and t_b^2."""
    n = a.shape[1]
    t_a = _comparisons(a, k, first, count, hard=False)
    t_b = _comparisons(b, k, first, count, hard=hard_b)
    weight = torch.ones(count, 1, dtype=a.dtype, device=a.device)
    if n % 2 == 0 and first + count - 1 == n // 2:
        weight[-1] = 0.5  # The shift by n / 2 meets each of its pairs twice.
    return torch.stack(
        [(weight * x * y).sum(dim=(1, 2)) for x, y in ((t_a, t_b), (t_a, t_a), (t_b, t_b))], dim=1
    )


def _rank_parts(a: Tensor, k: float, first: int, count: int, hard: bool) -> Tensor:
    """(rows, n): what the block's comparisons add to each soft rank."""
    return _comparisons(a, k, first, count, hard).sum(dim=1)
