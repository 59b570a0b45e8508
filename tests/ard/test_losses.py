"""Each method against its paper's formula, written out in float64 numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from ard.losses import LOSSES, Logits, LossOptions, method_named, total
from ard.ranking import RankingOptions, ranking_losses
from edge_bench.errors import InputError

Array = NDArray[np.float64]


def softmax(z: Array) -> Array:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def cross_entropy(z: Array, y: Array) -> float:
    return float(np.mean([-np.log(softmax(z)[i, int(c)]) for i, c in enumerate(y)]))


def kl(p_logits: Array, q_logits: Array) -> float:
    """KL(p || q), mean over the batch, sum over the classes."""
    p, q = softmax(p_logits), softmax(q_logits)
    return float(np.mean(np.sum(p * np.log(p / q), axis=1)))


@pytest.fixture
def logits() -> Logits:
    generator = torch.Generator().manual_seed(7)

    def draw() -> Tensor:
        return 2 * torch.randn(5, 4, dtype=torch.float64, generator=generator)

    return Logits(draw(), draw(), draw(), draw())


LABELS = torch.tensor([0, 3, 1, 2, 2])


def value(method: str, logits: Logits, **options: object) -> float:
    settings = LossOptions(**options)  # type: ignore[arg-type]
    return float(total(LOSSES[method].terms(logits, LABELS, settings)))


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


def test_the_rslad_anchor_weighs_adversarial_five_to_one(logits: Logits) -> None:
    teacher = logits.teacher_clean.numpy()
    expected = 5 / 6 * kl(teacher, logits.student_adversarial.numpy()) + 1 / 6 * kl(
        teacher, logits.student_clean.numpy()
    )
    nothing = RankingOptions(weight_class=0, weight_sample=0, weight_discrepancy=0)
    assert value("rslad", logits) == pytest.approx(expected)
    assert value("ard", logits, ranking=nothing) == pytest.approx(expected)


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


@pytest.mark.parametrize("name", LOSSES)
def test_a_method_reads_only_the_logits_that_it_says_it_needs(name: str, logits: Logits) -> None:
    method = LOSSES[name]
    nothing = torch.empty(0)
    given = Logits(
        *(
            getattr(logits, field) if field in method.needs else nothing
            for field in Logits.__dataclass_fields__
        )
    )
    assert np.isfinite(float(total(method.terms(given, LABELS, LossOptions()))))


@pytest.mark.parametrize(
    ("name", "distils"), [("ard", False), ("trades", True), ("madry", False), ("", True)]
)
def test_a_method_of_the_other_command_is_refused(name: str, distils: bool) -> None:
    with pytest.raises(InputError, match="--method"):
        method_named(name, distils)


@pytest.mark.parametrize(
    ("changes", "named"), [({"anchor": "kl"}, "--anchor kl"), ({"beta": 0.0}, "--beta 0")]
)
def test_bad_options_are_named(changes: dict[str, object], named: str) -> None:
    with pytest.raises(InputError, match=named):
        LossOptions(**changes)  # type: ignore[arg-type]


def test_every_method_names_its_source() -> None:
    assert all(method.source for method in LOSSES.values())
