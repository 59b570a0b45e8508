"""Each method against its paper's formula, written out in float64 numpy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from ard.methods.mtard import MTARD_RATE, balance
from ard.methods.parts.base import Logits, LossOptions, Terms, total
from ard.methods.registry import (
    ANCHORS,
    METHODS,
    constants_read,
    logits_needed,
    method_named,
)
from ard.ranking.levels import RankingOptions, ranking_losses
from edge_bench.core.errors import InputError

from ..ranking.test_levels import reference_losses

Array = NDArray[np.float64]


def softmax(z: Array) -> Array:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def cross_entropy(z: Array, y: Array) -> float:
    return float(np.mean([-np.log(softmax(z)[i, int(c)]) for i, c in enumerate(y)]))


def kl_each(p_logits: Array, q_logits: Array, t: float = 1.0) -> Array:
    """KL(p || q) of each sample, sum over the classes, at temperature t."""
    p, q = softmax(p_logits / t), softmax(q_logits / t)
    return np.asarray(np.sum(p * np.log(p / q), axis=1))


def kl(p_logits: Array, q_logits: Array, t: float = 1.0) -> float:
    """KL(p || q), mean over the batch, sum over the classes."""
    return float(kl_each(p_logits, q_logits, t).mean())


def true_probability(z: Array) -> Array:
    return np.asarray(softmax(z)[np.arange(len(z)), LABELS.numpy()], dtype=np.float64)


def pearson(a: Array, b: Array) -> float:
    """Mean over rows of the correlation, by numpy's own."""
    return float(np.mean([np.corrcoef(x, y)[0, 1] for x, y in zip(a, b, strict=True)]))


@pytest.fixture
def logits() -> Logits:
    generator = torch.Generator().manual_seed(7)

    def draw() -> Tensor:
        return 2 * torch.randn(5, 4, dtype=torch.float64, generator=generator)

    return Logits(draw(), draw(), draw(), draw(), draw(), draw(), draw())


@dataclass(frozen=True)
class Arrays:
    """The same logits for numpy: student and teacher on clean, adversarial, mirrored images."""

    sc: Array
    sa: Array
    tc: Array
    ta: Array
    sm: Array
    tm: Array
    second: Array


@pytest.fixture
def z(logits: Logits) -> Arrays:
    return Arrays(*(getattr(logits, name).numpy() for name in Logits.__dataclass_fields__))


LABELS = torch.tensor([0, 3, 1, 2, 2])


NO_RANKING = RankingOptions(weight_class=0, weight_sample=0, weight_discrepancy=0)


def value(method: str, logits: Logits, progress: float = 1.0, **options: Any) -> float:
    settings = LossOptions(**options).at(progress)
    return float(total(METHODS[method].terms(logits, LABELS, settings)))


def test_natural_is_cross_entropy_on_clean_images(logits: Logits) -> None:
    expected = cross_entropy(logits.student_clean.numpy(), LABELS.numpy())
    assert value("natural", logits) == pytest.approx(expected)


def test_pgd_at_is_cross_entropy_on_adversarial_images(logits: Logits) -> None:
    expected = cross_entropy(logits.student_adversarial.numpy(), LABELS.numpy())
    assert value("pgd_at", logits) == pytest.approx(expected)


def test_trades_adds_beta_times_the_divergence_of_its_own_predictions(logits: Logits) -> None:
    clean, adversarial = logits.student_clean.numpy(), logits.student_adversarial.numpy()
    expected = cross_entropy(clean, LABELS.numpy()) + 3 * kl(clean, adversarial)
    assert value("trades", logits, beta=3.0) == pytest.approx(expected)


def test_trades_weighs_six_unless_told(logits: Logits) -> None:
    assert value("trades", logits) == value("trades", logits, beta=6.0)


def boosted_cross_entropy(adversarial: Array) -> float:
    p = softmax(adversarial)
    others = [max(np.delete(row, int(y))) for row, y in zip(p, LABELS.numpy(), strict=True)]
    return cross_entropy(adversarial, LABELS.numpy()) - float(np.mean(np.log(1 - np.array(others))))


@pytest.mark.parametrize(("options", "beta"), [({}, 5.0), ({"beta": 1.5}, 1.5)])
def test_mart_weighs_the_divergence_by_the_doubt_on_the_clean_image(
    options: dict[str, Any], beta: float, logits: Logits, z: Arrays
) -> None:
    weighted = np.mean(kl_each(z.sc, z.sa) * (1 - true_probability(z.sc)))
    expected = boosted_cross_entropy(z.sa) + beta * float(weighted)
    assert value("mart", logits, **options) == pytest.approx(expected)


def test_mart_stays_finite_where_another_class_is_certain() -> None:
    certain = torch.tensor([[0.0, 200.0, 0.0]], requires_grad=True)
    terms = METHODS["mart"].terms(Logits(certain, certain), torch.tensor([0]), LossOptions())
    (gradient,) = torch.autograd.grad(total(terms), certain)
    assert bool(torch.isfinite(total(terms)))
    assert bool(torch.isfinite(gradient).all())


@pytest.mark.parametrize(
    ("options", "alpha", "t"),
    [({}, 1.0, 30.0), ({"alpha": 0.3}, 0.3, 30.0), ({"alpha": 0.6, "temperature": 4.0}, 0.6, 4.0)],
)
def test_goldblum_ard_softens_the_teacher_on_clean_images(
    options: dict[str, Any], alpha: float, t: float, logits: Logits, z: Arrays
) -> None:
    soft = alpha * t**2 * kl(z.tc, z.sa, t)
    expected = soft + (1 - alpha) * cross_entropy(z.sc, LABELS.numpy())
    assert value("goldblum_ard", logits, **options) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("options", "beta", "t"),
    [({}, 0.1, 1.0), ({"beta": 2.0}, 2.0, 1.0), ({"temperature": 3.0}, 0.1, 3.0)],
)
def test_iad_heeds_itself_where_the_teacher_doubts_the_label(
    options: dict[str, Any], beta: float, t: float, logits: Logits, z: Arrays
) -> None:
    distrust = 1 - true_probability(z.ta) ** beta
    expected = t**2 * kl(z.tc, z.sa, t) + float(np.mean(distrust * kl_each(z.sc, z.sa)))
    assert value("iad", logits, **options) == pytest.approx(expected)


@pytest.mark.parametrize(("progress", "doubts"), [(0.0, False), (0.29, False), (0.3, True)])
def test_iad_trusts_its_teacher_alone_for_the_first_three_tenths(
    progress: float, doubts: bool, logits: Logits, z: Arrays
) -> None:
    trusting = value("iad", logits, progress) == pytest.approx(kl(z.tc, z.sa))
    assert trusting is not doubts


def test_rslad_weighs_adversarial_five_to_one(logits: Logits, z: Arrays) -> None:
    expected = 5 / 6 * kl(z.tc, z.sa) + 1 / 6 * kl(z.tc, z.sc)
    assert value("rslad", logits) == pytest.approx(expected)


@pytest.mark.parametrize(("options", "alpha"), [({}, 1.0), ({"alpha": 0.25}, 0.25)])
def test_adaad_asks_the_teacher_about_the_adversarial_image(
    options: dict[str, Any], alpha: float, logits: Logits, z: Arrays
) -> None:
    expected = alpha * kl(z.ta, z.sa) + (1 - alpha) * kl(z.tc, z.sc)
    assert value("adaad", logits, **options) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("options", "progress", "weight"),
    [({}, 1.0, 1.0), ({"alpha": 20.0}, 1.0, 20.0), ({"alpha": 20.0}, 0.25, 5.0), ({}, 0.0, 0.0)],
)
def test_igdm_adds_the_divergence_of_differences_across_the_ball(
    options: dict[str, Any], progress: float, weight: float, logits: Logits, z: Arrays
) -> None:
    expected = kl(z.ta, z.sa) + weight * kl(z.ta - z.tm, z.sa - z.sm)
    assert value("igdm", logits, progress, **options) == pytest.approx(expected)


def test_igdm_asks_nothing_of_a_student_that_is_its_teacher(logits: Logits) -> None:
    same = replace(
        logits,
        student_adversarial=logits.teacher_adversarial,
        student_mirrored=logits.teacher_mirrored,
    )
    assert value("igdm", same) == pytest.approx(0, abs=1e-12)


def test_mtard_asks_one_teacher_about_each_kind_of_image(logits: Logits, z: Arrays) -> None:
    terms = METHODS["mtard"].terms(logits, LABELS, LossOptions())
    found = {name: float(term) for name, term in terms.items()}
    expected = {"kl_adversarial": kl(z.ta, z.sa), "kl_clean": kl(z.second, z.sc)}
    assert found == pytest.approx(expected)


def mtard_terms(adversarial: float, clean: float) -> Terms:
    values = torch.tensor([adversarial, clean], dtype=torch.float64, requires_grad=True)
    return {"kl_adversarial": values[0], "kl_clean": values[1]}


def test_mtard_follows_the_relative_losses_from_a_half_each() -> None:
    steps = [(2.0, 4.0), (1.8, 2.0), (1.0, 1.5)]
    weight = 0.5
    memory = torch.empty(0)
    for adversarial, clean in steps:
        fall = adversarial / steps[0][0], clean / steps[0][1]
        weight = weight - 0.025 * (weight - fall[0] / sum(fall))
        found, memory = balance(memory, mtard_terms(adversarial, clean))
        assert found == pytest.approx({"kl_adversarial": weight, "kl_clean": 1 - weight})


def test_mtard_weighs_a_term_that_was_nothing_at_first() -> None:
    # A student that starts from its clean teacher's weights says what that does, up to rounding.
    for first in (0.0, -2e-9, 2e-9):
        found, memory = balance(torch.empty(0), mtard_terms(2.0, first))
        assert found == pytest.approx({"kl_adversarial": 0.5, "kl_clean": 0.5})
        found, memory = balance(memory, mtard_terms(1.0, 0.0))
        assert found["kl_clean"] > found["kl_adversarial"] > 0
        for _ in range(400):
            found, memory = balance(memory, mtard_terms(1.0, 0.3))
        assert found == pytest.approx({"kl_adversarial": 0.0, "kl_clean": 1.0}, abs=1e-3)


def test_mtard_moves_weight_to_the_term_that_falls_more_slowly() -> None:
    _, memory = balance(torch.empty(0), mtard_terms(2.0, 4.0))
    weights = [0.5]
    for _ in range(400):
        found, memory = balance(memory, mtard_terms(1.0, 1.0))
        weights.append(found["kl_adversarial"])
    assert weights == sorted(weights)
    # Halved against quartered: two thirds in the end.
    assert weights[-1] == pytest.approx(2 / 3, abs=1e-3)
    assert MTARD_RATE == 0.025


@pytest.mark.parametrize(
    ("options", "alpha", "beta", "gamma", "t"),
    [
        ({}, 1.0, 2.0, 2.0, 4.0),
        ({"alpha": 0.5, "beta": 3.0, "gamma": 0.7, "temperature": 2.0}, 0.5, 3.0, 0.7, 2.0),
    ],
)
def test_dist_correlates_probabilities_by_row_and_by_column(
    options: dict[str, Any],
    alpha: float,
    beta: float,
    gamma: float,
    t: float,
    logits: Logits,
    z: Arrays,
) -> None:
    student, teacher = softmax(z.sa / t), softmax(z.ta / t)
    expected = (
        alpha * cross_entropy(z.sa, LABELS.numpy())
        + beta * t**2 * (1 - pearson(student, teacher))
        + gamma * t**2 * (1 - pearson(student.T, teacher.T))
    )
    assert value("dist_adv", logits, **options) == pytest.approx(expected)


def test_dist_ignores_shift_and_scale_of_the_probabilities(logits: Logits) -> None:
    """Probabilities 0.4 p + 0.15 correlate with p by 1 in every row and every column."""
    probabilities = logits.teacher_adversarial.softmax(dim=1)
    moved = replace(logits, student_adversarial=(0.4 * probabilities + 0.15).log())
    terms = METHODS["dist_adv"].terms(moved, LABELS, LossOptions(temperature=1.0))
    assert float(terms["within"]) == pytest.approx(0, abs=1e-12)
    assert float(terms["between"]) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("t", [1.0, 3.0])
@pytest.mark.parametrize("anchor", ANCHORS)
def test_each_anchor_of_ard_is_the_objective_of_its_name(
    anchor: str, t: float, logits: Logits, z: Arrays
) -> None:
    expected = {
        "rslad": t**2 * (5 / 6 * kl(z.tc, z.sa, t) + 1 / 6 * kl(z.tc, z.sc, t)),
        "adaad": t**2 * kl(z.ta, z.sa, t),
        "igdm": t**2 * (kl(z.ta, z.sa, t) + kl(z.ta - z.tm, z.sa - z.sm, t)),
        "ce": cross_entropy(z.sa, LABELS.numpy()),
    }
    alpha = 1.0 if anchor == "igdm" else None
    found = value("ard", logits, anchor=anchor, alpha=alpha, temperature=t, ranking=NO_RANKING)
    assert found == pytest.approx(expected[anchor])


def test_ard_takes_the_anchor_of_igdm_weighed_8_at_temperature_one_unless_told(
    logits: Logits,
) -> None:
    expected = pytest.approx(value("igdm", logits, alpha=8.0))
    assert value("ard", logits, ranking=NO_RANKING) == expected
    assert value("igdm", logits) != expected


def test_ard_ranks_clean_images_by_the_teacher_on_clean_images(logits: Logits) -> None:
    ranking = replace(NO_RANKING, weight_class_clean=0.4, weight_sample_clean=1.7)
    terms = METHODS["ard"].terms(logits, LABELS, LossOptions(ranking=ranking))
    # The written-out levels rank what stands second and fourth.
    four = (
        logits.student_adversarial,
        logits.student_clean,
        logits.teacher_adversarial,
        logits.teacher_clean,
    )
    levels = reference_losses([each.tolist() for each in four], RankingOptions())
    assert set(terms) == {"anchor", "class_clean", "sample_clean"}
    assert float(terms["class_clean"]) == pytest.approx(0.4 * levels["class"])
    assert float(terms["sample_clean"]) == pytest.approx(1.7 * levels["sample"])


def test_ard_adds_each_level_by_its_weight_to_the_anchor(logits: Logits) -> None:
    ranking = RankingOptions(weight_class=0.3, weight_sample=2.0, weight_discrepancy=0.7)
    levels = ranking_losses(
        logits.student_clean,
        logits.student_adversarial,
        logits.teacher_clean,
        logits.teacher_adversarial,
        ranking,
    )
    expected = (
        cross_entropy(logits.student_adversarial.numpy(), LABELS.numpy())
        + 0.3 * float(levels["class"])
        + 2.0 * float(levels["sample"])
        + 0.7 * float(levels["discrepancy"])
    )
    assert value("ard", logits, anchor="ce", ranking=ranking) == pytest.approx(expected)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_reads_only_the_logits_that_it_says_it_needs(name: str, logits: Logits) -> None:
    for options in [LossOptions(anchor=anchor) for anchor in ANCHORS]:
        needs = logits_needed(name, options)
        nothing = torch.empty(0)
        given = Logits(
            *(
                getattr(logits, field) if field in needs else nothing
                for field in Logits.__dataclass_fields__
            )
        )
        assert np.isfinite(float(total(METHODS[name].terms(given, LABELS, options))))


@pytest.mark.parametrize("name", METHODS)
def test_every_student_logit_that_a_method_needs_is_taught(name: str, logits: Logits) -> None:
    method = METHODS[name]
    # Shares below 1, so that the terms on clean images count too.
    options = LossOptions(alpha=0.5) if name in ("goldblum_ard", "adaad") else LossOptions()
    students = {
        field: getattr(logits, field).clone().requires_grad_()
        for field in method.needs
        if field.startswith("student")
    }
    loss = total(method.terms(replace(logits, **students), LABELS, options))
    for gradient in torch.autograd.grad(loss, list(students.values())):
        assert bool((gradient != 0).any())


@pytest.mark.parametrize(
    ("name", "distils"), [("ard", False), ("trades", True), ("madry", False), ("", True)]
)
def test_a_method_of_the_other_command_is_refused(name: str, distils: bool) -> None:
    with pytest.raises(InputError, match="--method"):
        method_named(name, distils)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"anchor": "kl"}, "--anchor kl"),
        ({"alpha": -1.0}, "loss.alpha -1"),
        ({"beta": -0.5}, "--beta -0.5"),
        ({"gamma": float("inf")}, "loss.gamma inf"),
        ({"temperature": 0.0}, "loss.temperature 0"),
        ({"temperature": float("nan")}, "loss.temperature nan"),
        ({"teacher_temperature": 0.0}, "loss.teacher_temperature 0"),
    ],
)
def test_bad_options_are_named(changes: dict[str, object], named: str) -> None:
    with pytest.raises(InputError, match=named):
        LossOptions(**changes)  # type: ignore[arg-type]


OTHER: dict[str, Any] = {
    "alpha": 0.3,
    "beta": 0.7,
    "gamma": 0.4,
    "temperature": 2.5,
    "ranking": RankingOptions(weight_class=9),
}
"""No constant of any method has such a value where none is given."""


@pytest.mark.parametrize(
    ("method", "anchor"),
    [(name, "igdm") for name in METHODS if name != "ard"] + [("ard", each) for each in ANCHORS],
)
def test_the_constants_that_are_said_to_be_read_are_those_that_change_the_loss(
    method: str, anchor: str, logits: Logits
) -> None:
    usual = value(method, logits, anchor=anchor)
    reads = {
        name
        for name, other in OTHER.items()
        if value(method, logits, **{"anchor": anchor, name: other}) != usual
    }
    if value(method, logits, anchor="ce" if anchor != "ce" else "rslad") != usual:
        reads.add("anchor")
    if METHODS[method].distils:
        # Which divides the logits before any method sees them.
        reads.add("teacher_temperature")
    assert constants_read(method, anchor, None) == reads
