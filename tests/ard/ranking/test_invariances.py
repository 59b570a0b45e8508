"""What the ranking losses do not depend on, and where they stay finite."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys

import pytest
import torch

from ard.ranking.levels import (
    RankingOptions,
    kendall_agreement,
    ranking_losses,
    zscore,
)
from ard.ranking.pairs import soft_ranks
from edge_bench.core.errors import InputError

from .test_levels import Row, logits, losses_of


@pytest.mark.parametrize("k", [0.1, 1.0, 10.0])
def test_equal_scores_agree_exactly_under_the_cosine_at_any_steepness(k: float) -> None:
    (a,) = logits(1, 4, 7)
    torch.testing.assert_close(
        kendall_agreement(a, a, k, normalisation="cosine"), torch.ones(4, dtype=torch.float64)
    )


@pytest.mark.parametrize("agreement", ["kendall", "spearman"])
def test_zscored_losses_ignore_shift_and_scale(agreement: str) -> None:
    options = RankingOptions(agreement=agreement)
    four = logits(4, 5, 6, seed=4)
    plain = losses_of(four, options)
    s_clean, s_adv, t_clean, t_adv = four
    moved = ranking_losses(
        7 * s_clean + 3, 7 * s_adv + 3, 0.2 * t_clean - 1, 0.2 * t_adv - 1, options
    )
    for level in plain:
        assert float(moved[level]) == pytest.approx(float(plain[level]), abs=1e-12), level


@pytest.mark.parametrize("space", ["logits", "probabilities"])
def test_rankings_ignore_a_shift_of_each_row(space: str) -> None:
    options = RankingOptions(space=space, k=1.0, weight_sample=0)
    s_clean, s_adv, t_clean, t_adv = logits(4, 5, 6, seed=5)
    shift = torch.arange(5, dtype=torch.float64).unsqueeze(1)
    plain = ranking_losses(s_clean, s_adv, t_clean, t_adv, options)
    moved = ranking_losses(s_clean + shift, s_adv + shift, t_clean, t_adv, options)
    for level in plain:
        assert float(moved[level]) == pytest.approx(float(plain[level]), abs=1e-12), level


def test_agreement_does_not_depend_on_the_order_of_classes_or_samples() -> None:
    four = logits(4, 5, 6, seed=6)
    plain = losses_of(four, RankingOptions())
    columns, rows = torch.tensor([3, 0, 5, 1, 4, 2]), torch.tensor([4, 2, 0, 1, 3])
    shuffled = losses_of([z[rows][:, columns] for z in four], RankingOptions())
    for level in plain:
        assert float(shuffled[level]) == pytest.approx(float(plain[level]), abs=1e-12), level


def test_soft_ranks_tend_to_the_ranks() -> None:
    ranks = soft_ranks(torch.tensor([[3.0, -1.0, 7.0, 0.5]]), k=1000)
    torch.testing.assert_close(ranks, torch.tensor([[1.0, -3.0, 3.0, -1.0]]))


def test_equal_scores_give_finite_losses_and_gradients() -> None:
    flat = torch.zeros(4, 6, requires_grad=True)
    (teacher,) = logits(1, 4, 6)
    for agreement, normalisation in itertools.product(("kendall", "spearman"), ("pairs", "cosine")):
        options = RankingOptions(agreement=agreement, normalisation=normalisation)
        losses = ranking_losses(flat, flat, teacher.float(), teacher.float(), options)
        (gradient,) = torch.autograd.grad(torch.stack(list(losses.values())).sum(), flat)
        assert bool(torch.isfinite(gradient).all())
        assert all(math.isfinite(v.item()) for v in losses.values())


@pytest.mark.parametrize("agreement", ["kendall", "spearman"])
@pytest.mark.parametrize("normalisation", ["pairs", "cosine"])
def test_rows_without_an_order_pull_at_nothing(agreement: str, normalisation: str) -> None:
    """Clean and adversarial logits that hardly differ leave no discrepancy to rank."""
    options = RankingOptions(
        agreement=agreement, normalisation=normalisation, weight_class=0, weight_sample=0
    )
    clean, noise, t_clean, t_adv = logits(4, 4, 6)
    for scale in (0.0, 1e-6):
        adversarial = (clean + scale * noise).requires_grad_()
        loss = ranking_losses(clean, adversarial, t_clean, t_adv, options)["discrepancy"]
        (gradient,) = torch.autograd.grad(loss, adversarial)
        assert float(gradient.abs().max()) == 0


def test_a_level_of_weight_zero_is_left_out() -> None:
    four = logits(4, 3, 4)
    options = RankingOptions(weight_class=0, weight_discrepancy=0)
    assert list(losses_of(four, options)) == ["sample"]


def test_zscore_has_mean_zero_and_variance_one() -> None:
    (a,) = logits(1, 3, 8)
    z = zscore(a)
    torch.testing.assert_close(z.mean(dim=1), torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(z.var(dim=1, unbiased=False), torch.ones(3, dtype=torch.float64))


MEMORY_PROBE = """
import torch
from ard.ranking.levels import RankingOptions, ranking_losses
from edge_bench.devices.process import peak_memory_bytes as peak

def step(rows, classes, options):
    clean, adversarial, *teacher = (torch.randn(rows, classes) for _ in range(4))
    clean.requires_grad_(), adversarial.requires_grad_()
    sum(ranking_losses(clean, adversarial, *teacher, options).values()).backward()

for changes in ({}, {"agreement": "spearman"}, {"form": "distance", "space": "teacher_scale"}):
    options = RankingOptions(**changes)
    step(8, 10, options)
    before = peak()
    step(128, 1000, options)
    print(peak() - before)
"""


def test_memory_at_1000_classes_is_far_from_one_value_per_pair() -> None:
    """B = 128, C = 1000: the pairs of one level alone would take 256 MB in float32."""
    out = subprocess.run(
        [sys.executable, "-c", MEMORY_PROBE], capture_output=True, text=True, check=True
    )
    growths = [int(line) for line in out.stdout.split()]
    one_tensor = 128 * 1000 * 4
    assert len(growths) == 3
    assert max(growths) < 150 * one_tensor


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"agreement": "pearson"}, "--agreement pearson"),
        ({"space": "ranks"}, "--score-space ranks"),
        ({"normalisation": "none"}, "--normalisation none"),
        ({"teacher_input": "noise"}, "--teacher-input noise"),
        ({"k": 0.0}, "--k 0"),
        ({"k": -1.0}, "--k -1"),
        ({"k": math.nan}, "--k nan"),
        ({"weight_sample": math.nan}, "ranking weights"),
        ({"weight_class": -1.0}, "ranking weights"),
        ({"priority": "student"}, "ranking.priority student"),
        ({"priority": "teacher", "agreement": "spearman"}, "no pairs to weigh"),
        ({"priority": "label", "agreement": "spearman"}, "ranking.priority label"),
        ({"reliability": "label", "agreement": "spearman"}, "ranking.reliability label"),
        ({"reliability": "loss"}, "ranking.reliability loss"),
        ({"form": "distances"}, "ranking.form distances"),
        ({"form": "distance", "normalisation": "cosine"}, "--normalisation cosine"),
        ({"top": 1}, "ranking.top 1"),
        ({"top": -2}, "ranking.top -2"),
    ],
)
def test_bad_options_are_named(changes: dict[str, object], named: str) -> None:
    with pytest.raises(InputError, match=named):
        RankingOptions(**changes)  # type: ignore[arg-type]


def test_the_change_of_order_is_compared_in_soft_ranks_of_both_images() -> None:
    generator = torch.Generator().manual_seed(3)
    four = [torch.randn(3, 5, dtype=torch.float64, generator=generator) for _ in range(4)]
    options = RankingOptions(discrepancy="order", k=1.7)

    def ranks(scores: Row) -> Row:
        mean = sum(scores) / 5
        deviation = math.sqrt(sum((x - mean) ** 2 for x in scores) / 5)
        z = [(x - mean) / deviation for x in scores]
        return [sum(math.tanh(1.7 * (a - b)) for b in z) / 4 for a in z]

    total = 0.0
    for row in range(3):
        s, s_adv, t, t_adv = (ranks(logits[row].tolist()) for logits in four)
        total += sum(
            ((a - b) - (c - d)) ** 2 for a, b, c, d in zip(s, s_adv, t, t_adv, strict=True)
        )
    found = ranking_losses(four[0], four[1], four[2], four[3], options)["discrepancy"]
    assert float(found) == pytest.approx(total / 3)


def test_a_student_that_gives_way_more_than_its_teacher_pays_in_the_change_of_order_alone() -> None:
    clean = torch.tensor([[3.0, 1.0, 0.0, -1.0]], dtype=torch.float64)
    direction = torch.tensor([[-1.0, 1.0, 0.5, 0.0]], dtype=torch.float64)
    small, large = clean + 0.3 * direction, clean + 1.5 * direction
    for discrepancy, expected in (("logits", 0.0), ("order", 0.1)):
        options = RankingOptions(discrepancy=discrepancy, normalisation="cosine")
        as_teacher = ranking_losses(clean, small, clean, small, options)["discrepancy"]
        more = ranking_losses(clean, large, clean, small, options)["discrepancy"]
        assert float(as_teacher) == pytest.approx(0.0, abs=1e-9)
        assert float(more) >= expected - 1e-9
        assert (float(more) > 0.1) == (discrepancy == "order")
