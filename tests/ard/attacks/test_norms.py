"""Balls: what a projection, a step and a random start must hold to, in both norms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ard.attacks.steps.grid import round_to_grid
from ard.attacks.steps.norms import of_sum_one, project, random_start, steepest

NORMS = ["linf", "l2"]


def length(change: Tensor, norm: str) -> Tensor:
    order = 2 if norm == "l2" else torch.inf
    lengths: Tensor = torch.linalg.vector_norm(change.double().flatten(1), ord=order, dim=1)
    return lengths


def images(count: int = 16) -> Tensor:
    return torch.rand(count, 3, 5, 5, generator=torch.Generator().manual_seed(0))


def test_project_clamps_to_ball_then_box() -> None:
    clean = torch.tensor([0.0, 0.5, 0.98])
    found = project(clean + torch.tensor([-0.5, 0.5, 0.5]), clean, 0.1)
    torch.testing.assert_close(found, torch.tensor([0.0, 0.6, 1.0]))


def test_the_l2_projection_shortens_and_keeps_the_direction() -> None:
    clean = torch.full((2, 1, 1, 2), 0.5)
    change = torch.tensor([[[[0.3, 0.4]]], [[[0.03, 0.04]]]])
    found = project(clean + change, clean, 0.25, "l2") - clean
    expected = torch.tensor([[[[0.15, 0.2]]], [[[0.03, 0.04]]]])
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("norm", NORMS)
def test_a_projected_image_is_inside_the_ball_and_the_box(norm: str) -> None:
    clean = images()
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    found = project(clean + noise, clean, 0.3, norm)
    assert float(length(found - clean, norm).max()) <= 0.3 + 1e-6
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    torch.testing.assert_close(project(found, clean, 0.3, norm), found)


def test_a_large_image_is_inside_the_l2_ball_up_to_the_rounding_of_its_values() -> None:
    """torch's own norm of as many float32 values is off by 2e-5."""
    clean = torch.full((1, 3, 224, 224), 0.5)
    noise = torch.rand(clean.shape, generator=torch.Generator().manual_seed(0)) - 0.5
    found = project(clean + noise.sign() * 0.02, clean, 5.0, "l2")
    assert float(length(found - clean, "l2")) == pytest.approx(5, rel=3e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_the_steepest_direction_has_length_one_and_the_dual_product(norm: str) -> None:
    gradient = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(2)).double()
    direction = steepest(gradient, norm)
    torch.testing.assert_close(length(direction, norm), torch.ones(4).double())
    # Its product with the gradient is the gradient's dual norm, the most that length one allows.
    dual = gradient.flatten(1).abs().sum(1) if norm == "linf" else length(gradient, "l2")
    torch.testing.assert_close((gradient * direction).flatten(1).sum(1), dual)


def test_a_vanished_gradient_gives_no_step() -> None:
    assert not steepest(torch.zeros(2, 1, 2, 2), "l2").any()


@pytest.mark.parametrize("norm", NORMS)
def test_random_starts_fill_the_ball_uniformly(norm: str) -> None:
    clean = torch.full((4000, 1, 2, 2), 0.5)
    start = random_start(clean, 0.2, norm, torch.Generator().manual_seed(0))
    radius = length(start - clean, norm) / 0.2
    assert float(radius.max()) <= 1 + 1e-6
    # The radius of a uniform point of a 4-dimensional ball is below r with probability r**4.
    for r in (0.5, 0.8, 0.95):
        assert float((radius < r).double().mean()) == pytest.approx(r**4, abs=0.03)
    assert float((start - clean).mean()) == pytest.approx(0, abs=0.005)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("epsilon", [2 / 255, 0.1, 0.5])
def test_rounding_to_the_grid_stays_inside_the_ball(norm: str, epsilon: float) -> None:
    generator = torch.Generator().manual_seed(3)
    levels = torch.randint(0, 256, (20, 3, 6, 6), dtype=torch.uint8, generator=generator)
    clean = levels.float() / 255
    noise = torch.randn(clean.shape, generator=generator)
    adversarial = project(clean + noise * epsilon, clean, epsilon, norm)
    rounded = round_to_grid(adversarial, levels, epsilon, norm)
    change = (rounded.double() - levels.double()) / 255
    assert float(length(change, norm).max()) <= epsilon + 1e-9
    # No pixel moves by a level or more, and of a budget of whole levels most is still there.
    assert float((rounded.double() / 255 - adversarial.double()).abs().max()) < 1 / 255
    if norm == "linf" or epsilon >= 0.1:
        before = float(length(adversarial - clean, norm).min())
        assert float(length(change, norm).min()) > 0.8 * before


def test_l2_rounding_goes_to_the_nearest_level_where_the_ball_allows_it() -> None:
    levels = torch.full((1, 1, 1, 4), 100, dtype=torch.uint8)
    wanted = torch.tensor([1.4, 2.6, -0.6, 0.2])
    adversarial = (levels.float() + wanted) / 255
    free = round_to_grid(adversarial, levels, 1.0, "l2").int() - 100
    assert free.flatten().tolist() == [1, 3, -1, 0]
    # Length of (1, 3, -1, 0) is 3.32; of (1, 3, 0, 0) 3.16, after the one that grew most shrinks.
    tight = round_to_grid(adversarial, levels, 3.2 / 255, "l2").int() - 100
    assert tight.flatten().tolist() in ([1, 2, -1, 0], [1, 3, 0, 0])
    assert float(tight.double().norm()) <= 3.2


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("size", [1.0, 1e-7, 1e-13, 1e-25, 1e-36])
def test_a_direction_has_length_one_however_small_the_gradient(norm: str, size: float) -> None:
    gradient = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(3))
    direction = steepest(size * gradient, norm)
    torch.testing.assert_close(direction, steepest(gradient, norm), rtol=1e-5, atol=1e-6)
    assert not steepest(torch.zeros(1, 3, 2, 2), norm).any()


@pytest.mark.parametrize("size", [1.0, 1e-7, 1e-13, 1e-25, 1e-35])
def test_a_gradient_of_any_size_has_the_sum_one(size: float) -> None:
    gradient = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(4))
    found = of_sum_one(size * gradient)
    torch.testing.assert_close(found.abs().sum(dim=(1, 2, 3)), torch.ones(4))
    torch.testing.assert_close(found, of_sum_one(gradient), rtol=1e-5, atol=1e-6)
    assert not of_sum_one(torch.zeros(1, 3, 2, 2)).any()
