"""Square finds what random search can find, by scores alone, and stays where it may."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_bench.robustness.square import Finished, square_attack, square_side

SHAPE = (3, 8, 8)
SAMPLES = 24
CLASSES = 4
EPSILON = 8 / 255

Model = Callable[[NDArray[Any]], NDArray[Any]]


def as_unit(images: NDArray[Any]) -> NDArray[np.float64]:
    """Images in [0, 1] as the model sees them."""
    scale = 255 if images.dtype == np.uint8 else 1
    unit: NDArray[np.float64] = images.astype(np.float64) / scale
    return unit


def answers(images: NDArray[Any]) -> NDArray[np.float64]:
    """Logits (B, CLASSES) of a two-layer net, sums over each image apart from all others."""
    rng = np.random.default_rng(5)
    first = rng.normal(size=(16, *SHAPE))
    last = rng.normal(size=(CLASSES, 16))
    unit = as_unit(images) - 0.5
    hidden = np.tanh(np.stack([(unit * weight).sum(axis=(1, 2, 3)) for weight in first], axis=1))
    logits: NDArray[np.float64] = np.stack([(hidden * w).sum(axis=1) for w in last], axis=1)
    return logits


@pytest.fixture(scope="module")
def clean() -> NDArray[np.uint8]:
    """Images that reach both ends of the box."""
    return np.random.default_rng(6).integers(0, 256, (SAMPLES, *SHAPE), dtype=np.uint8)


@pytest.fixture(scope="module")
def labels(clean: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The net's own answers."""
    found: NDArray[np.int64] = answers(clean).argmax(axis=1)
    return found


def attack(
    clean: NDArray[np.uint8], labels: NDArray[np.int64], model: Model = answers, **how: Any
) -> Finished:
    """All samples' results, by index."""
    settings: dict[str, Any] = {
        "epsilon": EPSILON,
        "queries": 60,
        "seed": 0,
        "batch_size": 7,
        "indices": np.arange(len(labels)),
    }
    parts = list(square_attack(model, clean, labels, **(settings | how)))
    order = np.argsort(np.concatenate([part.indices for part in parts]))
    joined = {
        name: np.concatenate([getattr(part, name) for part in parts])[order]
        for name in ("indices", "images", "success", "queries", "margins")
    }
    return Finished(**joined)


def assert_equal(found: Finished, expected: Finished, among: Sequence[int] | None = None) -> None:
    kept = np.arange(len(expected.indices)) if among is None else np.asarray(among)
    for name in ("indices", "images", "success", "queries", "margins"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name)[kept])


# --- what an outcome depends on ---------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 2, 23, 24, 100])
def test_the_batch_size_changes_nothing(
    clean: NDArray[np.uint8], labels: NDArray[np.int64], batch_size: int
) -> None:
    assert_equal(attack(clean, labels, batch_size=batch_size), attack(clean, labels))


def test_the_order_of_the_samples_changes_nothing(
    clean: NDArray[np.uint8], labels: NDArray[np.int64]
) -> None:
    shuffled = np.random.default_rng(0).permutation(SAMPLES)
    assert_equal(attack(clean, labels, indices=shuffled), attack(clean, labels))


def test_leaving_samples_out_changes_nothing_for_the_others(
    clean: NDArray[np.uint8], labels: NDArray[np.int64]
) -> None:
    kept = [2, 3, 11, 23]
    found = attack(clean, labels, indices=np.array(kept))
    assert_equal(found, attack(clean, labels), among=kept)


def test_an_attack_that_goes_on_with_the_rest_ends_where_a_whole_one_does(
    clean: NDArray[np.uint8], labels: NDArray[np.int64]
) -> None:
    whole = attack(clean, labels)
    stopped = next(
        square_attack(
            answers,
            clean,
            labels,
            epsilon=EPSILON,
            queries=60,
            seed=0,
            batch_size=7,
            indices=np.arange(SAMPLES),
        )
    )
    rest = np.setdiff1d(np.arange(SAMPLES), stopped.indices)
    assert 0 < len(rest) < SAMPLES
    assert_equal(attack(clean, labels, indices=rest), whole, among=rest.tolist())


def test_another_seed_searches_elsewhere(
    clean: NDArray[np.uint8], labels: NDArray[np.int64]
) -> None:
    one, other = attack(clean, labels), attack(clean, labels, seed=1)
    assert (one.images != other.images).any(axis=(1, 2, 3)).all()


def test_samples_draw_independently_of_one_another(labels: NDArray[np.int64]) -> None:
    grey = np.full((SAMPLES, *SHAPE), 128, dtype=np.uint8)
    found = attack(grey, labels, lambda images: np.eye(CLASSES)[labels[:1]].repeat(len(images), 0))
    assert len(np.unique(found.images.reshape(SAMPLES, -1), axis=0)) == SAMPLES


# --- where the images lie ---------------------------------------------------------------------


@pytest.mark.parametrize("epsilon", [1 / 255, 8 / 255, 8.9 / 255, 0.3])
def test_images_stay_in_the_ball_and_reach_its_faces(
    clean: NDArray[np.uint8], labels: NDArray[np.int64], epsilon: float
) -> None:
    found = attack(clean, labels, epsilon=epsilon)
    radius = int(epsilon * 255 + 1e-6)
    assert found.images.dtype == np.uint8
    # uint8 has no room to leave the box, so a change of each pixel is a face of ball or box.
    change = np.abs(found.images.astype(int) - clean)
    room = np.minimum(radius, np.where(found.images > clean, 255 - clean.astype(int), clean))
    assert change.max() == radius
    np.testing.assert_array_equal(change, np.where(found.images == clean, 0, room))


def test_images_off_the_grid_stay_in_the_ball_and_the_box(
    clean: NDArray[np.uint8], labels: NDArray[np.int64]
) -> None:
    found = attack(clean, labels, epsilon=0.0137, on_grid=False)
    assert found.images.dtype == np.float32
    assert found.images.min() >= 0
    assert found.images.max() <= 1
    distance = np.abs(found.images.astype(np.float64) - clean / 255).max()
    assert distance == pytest.approx(0.0137, abs=1e-6)


def test_every_image_that_was_asked_about_is_in_the_ball(
    clean: NDArray[np.uint8], labels: NDArray[np.int64]
) -> None:
    sample = 4
    asked: list[NDArray[Any]] = []

    def listening(images: NDArray[Any]) -> NDArray[np.float64]:
        asked.append(images.copy())
        return answers(images)

    attack(clean, labels, listening, indices=np.array([sample]), queries=40)
    change = np.concatenate(asked).astype(int) - clean[sample]
    assert np.abs(change).max() == 8
    # A pixel that stands still would have to lie on the box's edge.
    assert set(clean[sample][(change == 0).any(axis=0)].tolist()) <= {0, 255}


def test_the_first_query_is_of_vertical_stripes(labels: NDArray[np.int64]) -> None:
    grey = np.full((SAMPLES, *SHAPE), 128, dtype=np.uint8)
    stripes = attack(grey, labels, queries=1).images.astype(int) - 128
    assert set(np.unique(stripes)) == {-8, 8}
    assert (stripes == stripes[:, :, :1]).all()
    assert 0.4 < (stripes[:, :, 0] > 0).mean() < 0.6


def test_each_further_query_recolours_one_square(labels: NDArray[np.int64]) -> None:
    grey = np.full((1, 3, 32, 32), 128, dtype=np.uint8)
    asked: list[NDArray[Any]] = []

    def stubborn(images: NDArray[Any]) -> NDArray[np.float64]:
        asked.append(images[0].astype(int))
        return np.array([[float(-len(asked)), -1e9]])  # Every query is better than the last.

    attack(grey, np.zeros(1, dtype=np.int64), stubborn, queries=300)
    sides = square_side(np.arange(299), 32, 32)
    corners = set()
    for (before, after), side in zip(pairwise(asked), sides.tolist(), strict=True):
        changed = (before != after).any(axis=0)
        rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        if not len(rows):
            continue  # It had that colour.
        assert np.ptp(rows) < side
        assert np.ptp(columns) < side
        # One colour per channel.
        assert np.ptp(after[:, changed], axis=1).max() == 0
        corners |= {rows[0], rows[-1], columns[0], columns[-1]}
    # The edges of the image are reached like its inside.
    assert {0, 31} <= corners


# --- the schedule -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("iteration", "halvings"),
    [
        (0, 0), (10, 0), (11, 1), (50, 1), (51, 2), (200, 2), (201, 3), (500, 3), (501, 4),
        (1000, 4), (1001, 5), (2000, 5), (2001, 6), (4000, 6), (4001, 7), (6000, 7), (6001, 8),
        (8000, 8), (8001, 9), (10**6, 9),
    ],
)  # fmt: skip
def test_the_share_of_recoloured_pixels_is_halved_on_schedule(
    iteration: int, halvings: int
) -> None:
    (side,) = square_side(np.array([iteration]), 224, 224)
    assert side == round((0.8 / 2**halvings * 224 * 224) ** 0.5)


@pytest.mark.parametrize(
    ("size", "iteration", "side"),
    [((32, 32), 0, 29), ((32, 32), 5000, 3), ((28, 28), 9000, 1), ((4, 30), 0, 4), ((1, 1), 0, 1)],
)
def test_a_square_has_a_pixel_and_fits_the_image(
    size: tuple[int, int], iteration: int, side: int
) -> None:
    assert square_side(np.array([iteration]), *size).tolist() == [side]


def test_every_sample_counts_its_own_iterations(labels: NDArray[np.int64]) -> None:
    """Behind 30 queries of another sample, a fresh one begins with stripes and large squares."""
    grey = np.full((2, 3, 32, 32), 128, dtype=np.uint8)
    asked: list[NDArray[Any]] = []

    def stubborn(images: NDArray[Any]) -> NDArray[np.float64]:
        asked.append(images[0].copy())
        return np.array([[float(-len(asked)), -1e9]])

    attack(grey, np.zeros(2, dtype=np.int64), stubborn, queries=30, batch_size=1)
    assert len(asked) == 60
    assert (asked[30] == asked[30][:, :1]).all()
    assert (asked[31] != asked[30]).any(axis=0).sum() > 17 * 17


# --- the search -------------------------------------------------------------------------------


def one_by_one(image: NDArray[np.uint8], label: int, index: int) -> tuple[NDArray[Any], int]:
    """Algorithm 1 and 2 as the paper writes them, for one sample: the image and its queries."""
    rng = np.random.default_rng([0, index])
    clean = image.astype(int)
    channels, height, width = image.shape

    def project(moved: NDArray[Any]) -> NDArray[Any]:
        in_ball = np.minimum(np.maximum(moved, clean - 8), clean + 8)
        in_box: NDArray[Any] = np.minimum(np.maximum(in_ball, 0), 255)
        return in_box

    def ask(tried: NDArray[Any]) -> tuple[bool, float]:
        (logits,) = answers(tried.astype(np.uint8)[None])
        return logits.argmax() != label, logits[label] - np.delete(logits, label).max()

    best = project(clean + 16 * rng.integers(0, 2, (channels, 1, width), dtype=np.bool_) - 8)
    wrong, least = ask(best)
    for iteration in range(299):
        if wrong:
            return best, iteration + 1
        if iteration % 128 == 0:
            places = rng.random((128, 2))
            signs = 2 * rng.integers(0, 2, (128, channels), dtype=np.bool_).astype(int) - 1
        side = int(square_side(np.array([iteration]), height, width)[0])
        row, column = np.floor(places[iteration % 128] * (height - side + 1)).astype(int)
        move = np.zeros_like(clean)
        square = slice(row, row + side), slice(column, column + side)
        move[:, square[0], square[1]] = 16 * signs[iteration % 128][:, None, None]
        tried = project(best + move)
        wrong, margin = ask(tried)
        if wrong or margin < least:
            best, least = tried, margin
    return best, 300


def test_the_pool_finds_what_one_sample_at_a_time_finds(
    clean: NDArray[np.uint8], labels: NDArray[np.int64]
) -> None:
    found = attack(clean, labels, queries=300)
    assert 0 < found.success.sum() < SAMPLES
    for index in range(SAMPLES):
        image, queries = one_by_one(clean[index], int(labels[index]), index)
        np.testing.assert_array_equal(found.images[index], image)
        assert found.queries[index] == queries


# --- what is found ----------------------------------------------------------------------------


def test_success_is_what_the_model_says_of_the_images(
    clean: NDArray[np.uint8], labels: NDArray[np.int64]
) -> None:
    found = attack(clean, labels)
    np.testing.assert_array_equal(found.success, answers(found.images).argmax(axis=1) != labels)
    assert 0 < found.success.sum() < SAMPLES


def test_margins_are_those_of_the_images(
    clean: NDArray[np.uint8], labels: NDArray[np.int64]
) -> None:
    found = attack(clean, labels)
    logits = answers(found.images)
    true = logits[np.arange(SAMPLES), labels]
    others = np.where(np.eye(CLASSES, dtype=bool)[labels], -np.inf, logits).max(axis=1)
    np.testing.assert_array_equal(found.margins, true - others)


def test_more_queries_undo_nothing(clean: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
    # Across the 128 squares that are drawn at once.
    found = [attack(clean, labels, queries=q) for q in (1, 2, 5, 20, 100, 150)]
    for fewer, more in pairwise(found):
        assert (more.success >= fewer.success).all()
        assert (more.margins <= fewer.margins).all()
        np.testing.assert_array_equal(more.queries[fewer.success], fewer.queries[fewer.success])
        np.testing.assert_array_equal(more.images[fewer.success], fewer.images[fewer.success])
    assert found[-1].success.sum() > found[0].success.sum()
    assert found[-1].margins.sum() < found[0].margins.sum()


def test_scores_of_coarse_steps_do_not_hold_the_search_up(clean: NDArray[np.uint8]) -> None:
    """An INT8 model's logits are whole multiples of a step; most squares move them by less."""

    def coarse(images: NDArray[Any]) -> NDArray[np.float64]:
        steps: NDArray[np.float64] = np.rint(answers(images) / 2)
        return steps

    labels = coarse(clean).argmax(axis=1)
    found = attack(clean, labels, coarse, queries=300)
    published = attack(clean, labels, coarse, queries=300, keep_equal=False)
    assert found.success.sum() >= published.success.sum() + 4
    assert found.margins.sum() < published.margins.sum()


def test_where_no_two_margins_are_equal_the_search_is_the_published_one(
    clean: NDArray[np.uint8], labels: NDArray[np.int64]
) -> None:
    assert_equal(attack(clean, labels), attack(clean, labels, keep_equal=False))


def test_a_linear_model_is_brought_close_to_its_known_optimum() -> None:
    """One pixel a channel decides: the best image is the face that its weight's sign names."""
    shape = (2, 4, 4)
    weight = np.random.default_rng(8).normal(size=shape)
    grey = np.full((3, *shape), 128, dtype=np.uint8)

    def linear(images: NDArray[Any]) -> NDArray[np.float64]:
        score = 100 + (as_unit(images) * weight).sum(axis=(1, 2, 3))
        return np.stack([score, np.zeros(len(images))], axis=1)

    found = attack(grey, np.zeros(3, dtype=np.int64), linear, queries=3000)
    np.testing.assert_array_equal(
        found.images, np.broadcast_to(np.where(weight > 0, 120, 136), (3, *shape))
    )
    assert not found.success.any()


def test_of_two_equal_logits_the_first_is_the_answer_as_in_the_replay() -> None:
    grey = np.full((2, 1, 2, 2), 128, dtype=np.uint8)
    found = attack(grey, np.array([0, 1]), lambda images: np.zeros((len(images), 2)), queries=9)
    assert found.success.tolist() == [False, True]
    assert found.queries.tolist() == [9, 1]


# --- queries ----------------------------------------------------------------------------------


def test_a_broken_sample_is_not_asked_about_again_and_none_more_than_its_budget(
    clean: NDArray[np.uint8], labels: NDArray[np.int64]
) -> None:
    asked = []

    def counting(images: NDArray[Any]) -> NDArray[np.float64]:
        asked.append(len(images))
        return answers(images)

    found = attack(clean, labels, counting)
    assert sum(asked) == found.queries.sum()
    assert (found.queries[~found.success] == 60).all()
    assert (found.queries[found.success] <= 60).all()
    assert found.queries[found.success].min() < 20


def test_the_model_sees_full_batches_until_the_line_ends(
    clean: NDArray[np.uint8], labels: NDArray[np.int64]
) -> None:
    sizes = []

    def counting(images: NDArray[Any]) -> NDArray[np.float64]:
        sizes.append(len(images))
        return answers(images)

    attack(clean, labels, counting)
    assert max(sizes) == sizes[0] == 7
    assert sizes == sorted(sizes, reverse=True)
    # No more calls than a packed pool needs, and the last samples' way to their end.
    assert sum(size < 7 for size in sizes) <= 60


def test_a_sample_that_the_stripes_break_takes_one_query(
    clean: NDArray[np.uint8], labels: NDArray[np.int64]
) -> None:
    found = attack(clean, (labels + 1) % CLASSES, queries=1)
    assert found.success.any()
    assert (found.queries == 1).all()


def test_no_sample_to_attack_asks_nothing(
    clean: NDArray[np.uint8], labels: NDArray[np.int64]
) -> None:
    settings: dict[str, Any] = {"epsilon": 0.1, "queries": 9, "seed": 0, "batch_size": 4}
    nobody = np.array([], dtype=np.int64)
    assert list(square_attack(answers, clean, labels, indices=nobody, **settings)) == []


def test_progress_counts_queries_and_ends_at_the_total(
    clean: NDArray[np.uint8], labels: NDArray[np.int64]
) -> None:
    steps: list[tuple[int, int]] = []
    attack(clean, labels, report_progress=lambda done, total, _: steps.append((done, total)))
    done = [step for step, _ in steps]
    assert done == sorted(done)
    assert {total for _, total in steps} == {SAMPLES * 60}
    assert done[-1] == SAMPLES * 60


def test_memory_is_that_of_the_pool_not_of_the_set() -> None:
    """A million images of 3 KB behind one broadcast row: copying them would take 3 GB."""
    image = np.full((1, 3, 32, 32), 128, dtype=np.uint8)
    million = np.broadcast_to(image, (1_000_000, 3, 32, 32))
    labels = np.broadcast_to(np.zeros(1, dtype=np.int64), (1_000_000,))

    def at_once(images: NDArray[Any]) -> NDArray[np.float64]:
        return np.broadcast_to(np.array([0.0, 1.0]), (len(images), 2))

    tracemalloc.start()
    try:
        found = square_attack(
            at_once,
            million,
            labels,
            epsilon=EPSILON,
            queries=5,
            seed=0,
            batch_size=16,
            indices=np.arange(1_000_000),
        )
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        broken = sum(len(next(found).indices) for _ in range(20))
        grown = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert broken == 20 * 16
    assert grown < 3_000_000
