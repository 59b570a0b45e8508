"""The device's Square is as strong as pyautoattack's, query for query."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from edge_bench.robustness.square import square_attack, square_side

SAMPLES = 400
SHAPE = (3, 16, 16)
EPSILON = 24 / 255
QUERIES = 150


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """A small convolutional network with random weights."""
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 49, 5)
    )
    for parameter in network.parameters():
        fan_in = max(1, parameter[0].numel())
        nn.init.normal_(parameter, std=fan_in**-0.5, generator=generator)
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def clean() -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (SAMPLES, *SHAPE), dtype=np.uint8)


def in_torch(images: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(images.astype(np.float32) / 255)


def published_square(model: nn.Module, queries: int) -> Any:
    """pyautoattack's Square as the standard AutoAttack sets it up."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pyautoattack.square import SquareAttack
    attack = SquareAttack(
        model, norm="Linf", eps=EPSILON, n_queries=queries, resc_schedule=False, device="cpu"
    )
    attack.init_hyperparam(torch.zeros(1, *SHAPE))
    return attack


def published(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> NDArray[np.int64]:
    """Queries of pyautoattack's Square for each sample; above QUERIES where it found nothing."""
    # It does not count the stripes; its position of the square is one for the whole batch, so it
    # runs in small ones, as independent as ours.
    found = []
    for begin in range(0, SAMPLES, 20):
        attack = published_square(model, QUERIES - 1)
        torch.manual_seed(begin)
        part = slice(begin, begin + 20)
        queries, best = attack.attack_single_run(images[part], labels[part])
        fooled = model(best).argmax(dim=1) != labels[part]
        found.append(torch.where(fooled, queries, QUERIES + 1))
    return torch.cat(found).numpy().astype(np.int64)


def ours(model: nn.Module, clean: NDArray[np.uint8], labels: torch.Tensor) -> NDArray[np.int64]:
    """Queries of this Square for each sample; above QUERIES where it found nothing."""
    queries = np.zeros(SAMPLES, dtype=np.int64)
    for finished in square_attack(
        lambda images: model(in_torch(images)).numpy(),
        clean,
        labels.numpy(),
        epsilon=EPSILON,
        queries=QUERIES,
        seed=0,
        batch_size=200,
        indices=np.arange(SAMPLES),
    ):
        found = np.where(finished.success, finished.queries, QUERIES + 1)
        queries[finished.indices] = found
    return queries


def test_square_is_as_strong_as_the_published_one(
    model: nn.Module, clean: NDArray[np.uint8]
) -> None:
    images = in_torch(clean)
    labels = model(images).argmax(dim=1)
    theirs, found = published(model, images, labels), ours(model, clean, labels)

    robust = np.array([(theirs > QUERIES).mean(), (found > QUERIES).mean()])
    assert 0.15 < robust[0] < 0.85
    # The samples are the same, so this error of two independent draws of them is an upper bound.
    error = np.sqrt(2 * robust[0] * (1 - robust[0]) / SAMPLES)
    assert abs(robust[1] - robust[0]) < 2 * error

    # Mean queries with the budget for those that stand, over all: no sample is left out.
    spread = np.sqrt((theirs.var() + found.var()) / SAMPLES)
    assert abs(found.mean() - theirs.mean()) < 2 * spread
    both = (theirs <= QUERIES) & (found <= QUERIES)
    assert found[both].mean() == pytest.approx(theirs[both].mean(), rel=0.25)


def test_the_schedule_is_the_published_one() -> None:
    attack = published_square(nn.Identity(), 5000)
    iterations = np.arange(10_000)
    for height, width in ((28, 28), (32, 32), (64, 64), (224, 224)):
        expected = [
            min(max(round((attack.p_selection(int(i)) * height * width) ** 0.5), 1), height)
            for i in iterations
        ]
        np.testing.assert_array_equal(square_side(iterations, height, width), expected)
