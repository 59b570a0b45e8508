"""What the inner maximisation of training climbs, and that it stays where it may."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ard.attacks.steps.ascent import Objective, gradient_and_logits
from ard.learning.config import TrainConfig
from ard.methods.parts.base import LossOptions
from ard.methods.parts.inner import (
    BesideLinearised,
    SideBySide,
    ascend,
    kl_to,
    moving_kl,
    ranking_disagreement,
)
from ard.ranking.levels import RankingOptions

from ..ranking.test_levels import EVERY_OPTION, labels_of, reference_disagreement, reference_softmax


def small_networks() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)

    def network() -> nn.Module:
        layers = nn.Flatten(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 5)
        return nn.Sequential(*layers).double().requires_grad_(False)

    return network(), network()


def test_the_objective_of_adaad_climbs_through_both_networks() -> None:
    """Against central differences of KL(T(x') || S(x')) in float64."""
    student, teacher = small_networks()
    images = torch.rand(3, 1, 3, 4, dtype=torch.float64)

    def divergence(x: Tensor) -> float:
        p, q = teacher(x).log_softmax(1), student(x).log_softmax(1)
        return float((p.exp() * (p - q)).sum())

    expected = torch.zeros_like(images)
    for i in range(images.numel()):
        shift = torch.zeros_like(images)
        shift.view(-1)[i] = 1e-5
        slope = (divergence(images + shift) - divergence(images - shift)) / 2e-5
        expected.view(-1)[i] = slope
    found, _ = gradient_and_logits(SideBySide(student, teacher), images, moving_kl)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    frozen, _ = gradient_and_logits(student, images, kl_to(teacher(images)))
    assert float((found - frozen).abs().max()) > 0.1 * float(found.abs().max())


@pytest.mark.parametrize("options", EVERY_OPTION, ids=str)
def test_the_objective_ranking_is_the_disagreement_of_each_sample(options: RankingOptions) -> None:
    generator = torch.Generator().manual_seed(3)
    student, teacher = (
        torch.randn(4, 6, dtype=torch.float64, generator=generator) for _ in range(2)
    )
    labels = labels_of(4, 6)
    found = ranking_disagreement(teacher, options, torch.tensor(labels))(student)
    assert found.shape == (4,)
    for value, row, target, label in zip(
        found, student.tolist(), teacher.tolist(), labels, strict=True
    ):
        logits = target
        weights = reference_softmax(target) if options.priority == "teacher" else None
        if options.space == "probabilities":
            row, target = reference_softmax(row), reference_softmax(target)
        expected = reference_disagreement(row, target, options, weights, ranked=logits, label=label)
        assert float(value) == pytest.approx(expected, abs=1e-12)


def test_a_linearised_teacher_moves_along_the_students_change_as_its_tangent_does() -> None:
    """Against central differences of the teacher in float64, and a direction written out."""
    student, teacher = small_networks()
    images = torch.rand(3, 1, 3, 4, dtype=torch.float64)
    first, second, third = (
        images + 0.1 * torch.randn(images.shape, dtype=torch.float64) for _ in range(3)
    )
    both = BesideLinearised(student, teacher, images)
    torch.testing.assert_close(both(first), torch.cat((student(first), teacher(images)), dim=1))
    change = student(second) - student(first)
    centred = change - change.mean(dim=1, keepdim=True)
    unit = centred / centred.square().sum(dim=1, keepdim=True).sqrt()
    for later in (second, third):
        step = 1e-5 * (later - images)
        slopes = (teacher(images + step) - teacher(images - step)) / 2e-5
        expected = teacher(images) + unit * (unit * slopes).sum(dim=1, keepdim=True)
        torch.testing.assert_close(
            both(later), torch.cat((student(later), expected), dim=1), atol=1e-8, rtol=1e-6
        )


def test_a_linearised_teacher_takes_two_passes_and_nears_what_adaad_finds() -> None:
    student, teacher = small_networks()
    images = torch.rand(64, 1, 3, 4, dtype=torch.float64)
    both, passes = SideBySide(student, teacher), []
    teacher.register_forward_pre_hook(lambda *_: passes.append("forward"))
    linear = BesideLinearised(student, teacher, images)
    near = climb(linear, images, moving_kl)
    assert passes == ["forward"]
    exact, still = climb(both, images, moving_kl), climb(student, images, kl_to(teacher(images)))
    reached, almost, without = (float(moving_kl(both(x)).mean()) for x in (exact, near, still))
    assert without < almost < reached
    assert almost - without > 0.3 * (reached - without)


@pytest.mark.parametrize("space", ["zscore", "logits", "probabilities"])
def test_ascending_the_ranking_raises_the_disagreement(space: str) -> None:
    student, teacher = small_networks()
    images = torch.rand(4, 1, 3, 4, dtype=torch.float64)
    objective = ranking_disagreement(teacher(images), RankingOptions(space=space))
    found = climb(student, images, objective)
    assert bool((objective(student(found)) > objective(student(images))).all())


def climb(model: nn.Module, images: Tensor, objective: Objective) -> Tensor:
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return ascend(model, images, objective, noise=noise, epsilon=0.1, step_size=0.04, steps=5)


def test_climbing_on_two_networks_at_once_stays_in_the_ball_and_the_box() -> None:
    student, teacher = small_networks()
    images = torch.rand(6, 1, 3, 4, dtype=torch.float64)
    images[0], images[1] = 0.0, 1.0
    found = climb(SideBySide(student, teacher), images, moving_kl)
    assert float((found - images).abs().max()) <= 0.1 + 1e-9
    assert float((found - images).abs().max()) > 0.09
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1
    both = SideBySide(student, teacher)
    assert bool((moving_kl(both(found)) > moving_kl(both(images))).all())


@pytest.mark.parametrize(
    ("anchor", "ascends"),
    [("rslad", "kl_clean"), ("adaad", "adaad"), ("igdm", "adaad"), ("ce", "ce")],
)
def test_ard_attacks_as_its_anchor_does_unless_told_otherwise(anchor: str, ascends: str) -> None:
    def config(inner: str | None) -> TrainConfig:
        return TrainConfig(
            dataset="digits",
            architecture="resnet8:8",
            method="ard",
            epsilon=0.1,
            step_size=0.05,
            inner=inner,
            loss=LossOptions(anchor=anchor),
        )

    assert config(None).objective == ascends
    assert config("ranking").objective == "ranking"
