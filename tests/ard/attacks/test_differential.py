"""Attacks on a pair: what they climb, and what they find beside a search of the whole ball."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ard.attacks.attempt import Attempt
from ard.attacks.differential import Pair, apart_by
from ard.attacks.registry import parse_attack
from ard.attacks.run import run_attack
from ard.attacks.steps import adaptive
from ard.attacks.steps.adaptive import checkpoints
from ard.attacks.steps.ascent import gradient_and_logits

EPSILON, GRID = 0.1, 61
DIRECTIONS = ("artefact", "parent")


def linear(weights: list[list[float]], biases: list[float]) -> nn.Module:
    layer = nn.Linear(2, len(weights))
    layer.load_state_dict({"weight": torch.tensor(weights), "bias": torch.tensor(biases)})
    return nn.Sequential(nn.Flatten(), layer).eval()


@pytest.fixture
def pair() -> Pair:
    """Three classes in the plane, whose boundaries are a little off in the artefact."""
    parent = linear([[6.0, 0.0], [0.0, 6.0], [-4.0, -4.0]], [0.0, 0.0, 4.5])
    artefact = linear([[6.0, 0.3], [0.2, 5.8], [-4.0, -3.9]], [0.05, 0.0, 4.4])
    return Pair(parent, artefact)


@pytest.fixture
def points(pair: Pair) -> tuple[Tensor, Tensor]:
    """Images of two pixels, a third of them near a boundary, labelled as the parent sees most."""
    images = torch.rand(150, 1, 1, 2, generator=torch.Generator().manual_seed(3))
    labels: Tensor = pair.parent(images).argmax(dim=1)
    labels[::9] = (labels[::9] + 1) % 3
    return images, labels


def searched(pair: Pair, image: Tensor, label: Tensor, direction: str) -> float:
    """The share of a fine grid over the ball on which the pair is told apart: slow, and sure."""
    side = torch.linspace(-EPSILON, EPSILON, GRID)
    moves = torch.cartesian_prod(side, side).view(-1, 1, 1, 2)
    ball = (image + moves).clamp(0, 1)
    parent, artefact = (
        model(ball).argmax(dim=1) == label for model in (pair.parent, pair.artefact)
    )
    found = parent & ~artefact if direction == "artefact" else artefact & ~parent
    return float(found.float().mean())


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_margin_attack_finds_what_a_search_of_the_whole_ball_finds(
    pair: Pair, points: tuple[Tensor, Tensor], direction: str
) -> None:
    images, labels = points
    spec = parse_attack("apgd_apart60", epsilon=EPSILON, restarts=3, direction=direction)
    found = run_attack(pair, images, labels, spec, 0)
    assert float((found - images).abs().max()) <= EPSILON + 1e-6
    won = apart_by(direction)(pair(found), labels) > 0
    shares = [searched(pair, *one, direction) for one in zip(images, labels, strict=True)]
    there = torch.tensor([share > 0 for share in shares])
    wide = torch.tensor([share > 0.005 for share in shares])
    assert not (won & ~there).any()  # What it claims is so.
    assert 15 < int(wide.sum()) < 100
    assert won[wide].float().mean() >= 0.9


@pytest.mark.parametrize("name", ["diva30", "apgd_diva30"])
def test_the_published_objective_tells_apart_what_no_noise_does(
    pair: Pair, points: tuple[Tensor, Tensor], name: str
) -> None:
    images, labels = points
    apart = apart_by("artefact")
    spec = parse_attack(name, epsilon=EPSILON, restarts=2)
    won = apart(pair(run_attack(pair, images, labels, spec, 0)), labels) > 0
    assert (won & ~(apart(pair(images), labels) > 0)).sum() > 5


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_margin_is_positive_exactly_where_one_errs_and_the_other_does_not(
    pair: Pair, direction: str
) -> None:
    images = torch.rand(500, 1, 1, 2, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(500) % 3
    logits = pair(images)
    parent, artefact = (logits[:, i].argmax(dim=1) == labels for i in (0, 1))
    expected = parent & ~artefact if direction == "artefact" else artefact & ~parent
    assert expected.any()
    assert torch.equal(apart_by(direction)(logits, labels) > 0, expected)


def test_the_published_objective_is_the_difference_of_probabilities(pair: Pair) -> None:
    from ard.attacks.differential import _probabilities

    images = torch.rand(5, 1, 1, 2, generator=torch.Generator().manual_seed(2))
    labels = torch.tensor([0, 1, 2, 0, 1])
    parent = pair.parent(images).softmax(dim=1)[torch.arange(5), labels]
    artefact = pair.artefact(images).softmax(dim=1)[torch.arange(5), labels]
    for direction, expected in (("artefact", parent - artefact), ("parent", artefact - parent)):
        value = _probabilities(direction)(pair(images), labels, False)
        torch.testing.assert_close(value, expected)
    gradient, _ = gradient_and_logits(
        pair, images, lambda logits: _probabilities("artefact")(logits, labels, False)
    )
    assert float(gradient.abs().min()) > 0


class Scripted(nn.Module):
    """Two logits whose second is the next of some values at every question, whatever is asked."""

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.values = iter(values)

    def forward(self, images: Tensor) -> Tensor:
        value = images.sum(dim=(1, 2, 3)) * 0 + next(self.values)
        return torch.stack([-value, value], dim=1)


@pytest.mark.parametrize(("gains", "halved"), [(15, True), (16, True), (17, False), (22, False)])
def test_a_step_keeps_its_length_where_three_quarters_of_the_steps_gained(
    gains: int, halved: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Croce and Hein 2020, condition 1: of the 22 steps to the first look, 0.75 * 22 = 16.5."""
    steps = [1.0] * gains + [-0.01] * (22 - gains)
    values = [0.0]
    for step in steps + [0.0] * 100:
        values.append(values[-1] + step)
    lengths: list[float] = []

    def steepest(gradient: Tensor, norm: str) -> Tensor:
        return torch.ones_like(gradient)

    def projected(images: Tensor, epsilon: float, norm: str) -> Callable[[Tensor], Tensor]:
        def inside(moved: Tensor) -> Tensor:
            lengths.append(float((moved - images).max()))
            return images

        return inside

    monkeypatch.setattr(adaptive, "steepest", steepest)
    monkeypatch.setattr(adaptive, "projection", projected)
    attempt = Attempt(
        model=Scripted(values),
        images=torch.full((1, 1, 1, 2), 0.5),
        labels=torch.tensor([0]),
        spec=parse_attack("apgd_apart100", epsilon=EPSILON),
        generator=torch.Generator().manual_seed(0),
    )
    adaptive.climb_adaptively(
        attempt, lambda logits, classes, are_targets: logits[:, 1], judge=lambda z, y: z[:, 1]
    )
    # Twice a step: where it leads, and where that and momentum do.
    assert lengths[2 * 21] == pytest.approx(2 * EPSILON)
    assert lengths[2 * 22] == pytest.approx(EPSILON if halved else 2 * EPSILON)


def test_checkpoints_are_those_of_auto_pgd() -> None:
    # Croce and Hein 2020, section 3: 0.22, then 0.41, 0.57, ... of the steps.
    assert sorted(checkpoints(100))[:6] == [22, 41, 57, 70, 80, 87]
