"""RayS: beside a plain one sample by sample, and beside the published algorithm's strength."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_bench.robustness.rays import block_span, rays_attack
from edge_bench.robustness.square import Finished

SAMPLES, SHAPE, CLASSES = 40, (2, 6, 6), 4
EPSILON, QUERIES = 12 / 255, 400
VALUES = int(np.prod(SHAPE))


class Network:
    """Two layers of fixed weights; counts what it was asked."""

    def __init__(self) -> None:
        rng = np.random.default_rng(5)
        self._first = rng.normal(size=(VALUES, 24)) / 3
        self._second = rng.normal(size=(24, CLASSES))
        self.asked = 0

    def __call__(self, images: NDArray[Any]) -> NDArray[np.float64]:
        self.asked += len(images)
        levels = images.reshape(len(images), -1).astype(np.float64)
        unit = levels / 255 if images.dtype == np.uint8 else levels
        logits: NDArray[np.float64] = np.tanh((unit - 0.5) @ self._first) @ self._second
        return logits


@pytest.fixture
def clean() -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (SAMPLES, *SHAPE), dtype=np.uint8)


@pytest.fixture
def labels(clean: NDArray[np.uint8]) -> NDArray[np.int64]:
    found: NDArray[np.int64] = Network()(clean).argmax(axis=1)
    return found


def attacked(
    clean: NDArray[np.uint8], labels: NDArray[np.int64], **how: Any
) -> dict[int, tuple[bool, int, bytes]]:
    """By sample: broken, queries, and the bytes of its image."""
    plain: dict[str, Any] = {"epsilon": EPSILON, "queries": QUERIES, "seed": 0, "batch_size": 16}
    plain |= {"scores": Network(), "indices": np.arange(len(clean))} | how
    found: dict[int, tuple[bool, int, bytes]] = {}
    over: Finished
    for over in rays_attack(plain.pop("scores"), clean, labels, **plain):
        for slot, index in enumerate(over.indices.tolist()):
            image = over.images[slot].tobytes()
            found[index] = (bool(over.success[slot]), int(over.queries[slot]), image)
    return found


def plainly(image: NDArray[np.uint8], label: int) -> tuple[bool, int, bytes]:
    """The same attack on one image, written as slowly and plainly as it can be."""
    network, goal = Network(), round(EPSILON * 255)
    flat = image.reshape(-1).astype(int)

    def errs(signs: list[int], distance: int) -> bool:
        moved = [min(max(v + s * distance, 0), 255) for v, s in zip(flat, signs, strict=True)]
        return bool(network(np.array([moved], dtype=np.uint8)).argmax() != label)

    class SpentError(Exception):
        pass

    def ask(signs: list[int], distance: int) -> bool:
        if network.asked == QUERIES:
            raise SpentError
        return errs(signs, distance)

    best, radius, level = [1] * VALUES, 255, 0
    try:
        while True:
            size = -(-VALUES // 2**level)
            for begin in range(0, VALUES, size):
                flipped = [-s if begin <= i < begin + size else s for i, s in enumerate(best)]
                if not ask(flipped, radius):
                    continue
                best, low = flipped, goal - 1
                if radius > goal and ask(best, radius - 1):
                    radius -= 1
                    while radius > goal and radius - low > 1:
                        middle = (low + radius) // 2
                        if ask(best, middle):
                            radius = middle
                        else:
                            low = middle
                if radius <= goal:
                    moved = np.clip(flat + np.array(best) * radius, 0, 255).astype(np.uint8)
                    return True, network.asked, moved.tobytes()
            level += size > 1
    except SpentError:
        return False, network.asked, image.tobytes()


def published(image: NDArray[np.uint8], label: int) -> bool:
    """Chen and Gu 2020, Algorithms 2 and 3, in floats, with their tolerance of 1e-3 in L2."""
    network, length = Network(), np.sqrt(VALUES)
    unit = image.reshape(1, -1) / 255

    def errs(signs: NDArray[np.float64], radius: float) -> bool:
        moved = np.clip(unit + signs * min(radius / length, 1.0), 0, 1)
        return bool(network(moved).argmax() != label)

    best, radius, level = np.ones(VALUES), np.inf, 0
    while network.asked < QUERIES:
        size = -(-VALUES // 2**level)
        for begin in range(0, VALUES, size):
            signs = best.copy()
            signs[begin : begin + size] *= -1
            if network.asked >= QUERIES or not errs(signs, radius):
                continue
            low, high = 0.0, min(radius, length)
            while high - low > 1e-3 and network.asked < QUERIES:
                middle = (low + high) / 2
                low, high = (low, middle) if errs(signs, middle) else (middle, high)
            if high < radius:
                best, radius = signs, high
            if radius / length <= EPSILON:
                return True
        level += size > 1
    return False


def test_it_is_the_plain_attack_sample_by_sample(
    clean: NDArray[np.uint8], labels: NDArray[np.int64]
) -> None:
    found = attacked(clean, labels)
    for index in range(SAMPLES):
        assert found[index] == plainly(clean[index], int(labels[index])), index
    broken = [is_broken for is_broken, _, _ in found.values()]
    assert 5 < sum(broken) < SAMPLES - 2


def test_it_breaks_as_much_as_the_published_algorithm(
    clean: NDArray[np.uint8], labels: NDArray[np.int64]
) -> None:
    ours = sum(is_broken for is_broken, _, _ in attacked(clean, labels).values())
    theirs = sum(published(clean[i], int(labels[i])) for i in range(SAMPLES))
    assert theirs > 5
    assert ours >= theirs - 1


def test_what_it_claims_is_in_the_ball_and_wrong(
    clean: NDArray[np.uint8], labels: NDArray[np.int64]
) -> None:
    for index, (is_broken, queries, content) in attacked(clean, labels).items():
        image = np.frombuffer(content, dtype=np.uint8).reshape(SHAPE)
        distance = np.abs(image.astype(int) - clean[index].astype(int)).max()
        answer = Network()(image[None]).argmax()
        assert (answer != labels[index]) == is_broken
        assert distance <= 12 * is_broken
        assert queries == QUERIES or is_broken


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_neither_batches_nor_other_samples_change_a_sample(
    clean: NDArray[np.uint8], labels: NDArray[np.int64], batch_size: int
) -> None:
    whole = attacked(clean, labels)
    some = np.array([3, 17, 4, 30])
    found = attacked(clean, labels, batch_size=batch_size, indices=some)
    assert found == {int(i): whole[int(i)] for i in some}


def test_scores_are_never_looked_at(clean: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
    network = Network()

    def classes_alone(images: NDArray[Any]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = np.eye(CLASSES)[network(images).argmax(axis=1)]
        return found

    assert attacked(clean, labels, scores=classes_alone) == attacked(clean, labels)


def test_answers_that_are_known_are_not_asked_again(
    clean: NDArray[np.uint8], labels: NDArray[np.int64]
) -> None:
    said: list[bytes] = []

    def record(ask: Any) -> bytes:
        said.append(ask())
        return said[-1]

    first = attacked(clean, labels, answer=record)
    known = iter(said)
    network = Network()
    assert attacked(clean, labels, scores=network, answer=lambda ask: next(known)) == first
    assert network.asked == 0


def test_blocks_of_a_level_cover_every_value_once() -> None:
    for level in range(8):
        spans = []
        for block in range(2**level):
            begin, end = block_span(np.array([level]), np.array([block]), 72)
            spans += list(range(int(begin[0]), int(end[0])))
        assert spans == list(range(72))
