"""The Square attack: random search for a wrong answer with a model's scores alone, in numpy.

Andriushchenko, Croce, Flammarion and Hein 2020 (arXiv 1912.00049): Algorithm 1 with the L-inf
sampling of Algorithm 2 and the margin loss. The first query is an image of vertical stripes, each
further one recolours a square of the best image so far, and is kept where it lowers the margin, or
(our one change) leaves it as it is: an INT8 model's logits are whole multiples of a step, most
squares move the margin by less than that, and a search that keeps only what is better stands still.
Every value of a tried image lies on a face of the ball (or of the box), so an attack on the 8-bit
grid needs no rounding: the images that were judged are those that a set would store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_bench.core.progress import ProgressCallback, no_progress
from edge_bench.files.journal import Answer, ask_anew
from edge_bench.files.sets import grid_radius
from edge_bench.statistics.metrics import pack_bits, unpack_bits

IntArray = NDArray[np.int64]
Scores = Callable[[NDArray[Any]], NDArray[Any]]
"""(B, C, H, W) uint8 levels, or float32 in [0, 1], to finite logits (B, classes)."""

# Section 5 and supplement B of the paper, on its scale of 10,000 queries whatever the budget, as
# in the standard AutoAttack: the fraction of recoloured pixels is halved after these iterations.
FIRST_FRACTION = 0.8
HALVED_AFTER = np.array([10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000])
# Squares that a sample draws at once. Changing it changes what a seed stands for.
DRAWN_AT_ONCE = 128


@dataclass(frozen=True, kw_only=True)
class Finished:
    """Samples whose attack is over, in no particular order.

    Attributes:
        indices: (B,) which samples of the set.
        images: (B, C, H, W) the best found, uint8 on the 8-bit grid, else float32 in [0, 1].
        success: (B,) the model's answer on `images` was wrong.
        queries: (B,) images that the model was asked about, the stripes included.
        margins: (B,) the label's logit minus the largest other one, on `images`; NaN where the
            attack sees no logits.
    """

    indices: IntArray
    images: NDArray[Any]
    success: NDArray[np.bool_]
    queries: IntArray
    margins: NDArray[np.float64]


@dataclass(kw_only=True)
class _Pool:
    """The samples under attack; entry i of every array belongs to one of them.

    `low` and `high` (P, C, H, W) are the faces of the ball inside the box, `best` is between.
    `places` (P, DRAWN_AT_ONCE, 2) in [0, 1) and `signs` (P, DRAWN_AT_ONCE, C) are the next squares.
    """

    indices: IntArray
    labels: IntArray
    low: NDArray[Any]
    high: NDArray[Any]
    best: NDArray[Any]
    margins: NDArray[np.float64]
    used: IntArray
    generators: NDArray[np.object_]
    places: NDArray[np.float64]
    signs: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.indices)


def square_attack(
    scores: Scores,
    clean: NDArray[np.uint8],
    labels: IntArray,
    *,
    epsilon: float,
    queries: int,
    seed: int,
    batch_size: int,
    indices: IntArray,
    first: int = 0,
    on_grid: bool = True,
    keep_equal: bool = True,
    report_progress: ProgressCallback = no_progress,
    answer: Answer = ask_anew,
) -> Iterator[Finished]:
    """Attack `clean[indices]`, (N, C, H, W), in L-inf, and yield samples as they are over.

    A sample is over when the model errs or after `queries` queries; the next in line takes its
    place, so that the model sees `batch_size` images a call until the line ends. No more of
    `clean` (it may be a memory map) is held than these. A sample's draws follow from `seed` and
    its index alone, so other samples, their order and the batch size change nothing; `first` is
    the index in the set of `clean[0]`, where that is only a part of it. Without `keep_equal` only
    a lower margin is kept, as published. `answer` is called for each call of the model and may
    know what came of it before (see `journal`): all else follows from the seed.
    """

    def load(part: IntArray) -> _Pool:
        return _load(clean[part], labels[part], part, epsilon, on_grid, (seed, first))

    begin, over_samples = min(batch_size, len(indices)), 0
    pool = load(indices[:begin])
    while len(pool):
        candidates = _propose(pool)
        ask = partial(_verdict, pool, scores, candidates, keep_equal)
        broken = _keep(pool, candidates, answer(ask))
        over = broken | (pool.used == queries)
        if over.any():
            yield Finished(
                indices=pool.indices[over],
                images=pool.best[over],
                success=broken[over],
                queries=pool.used[over],
                margins=pool.margins[over],
            )
            over_samples += int(over.sum())
            end = min(begin + int(over.sum()), len(indices))
            pool = _exchange(pool, over, load(indices[begin:end]))
            begin = end
        # A sample that is over counts whole: time left is that of the queries not yet made.
        done = over_samples * queries + int(pool.used.sum())
        report_progress(done, len(indices) * queries, "")


def square_side(iteration: IntArray, height: int, width: int) -> IntArray:
    """(B,) side in pixels of the square of each iteration, where 0 follows the stripes."""
    fraction = FIRST_FRACTION / 2.0 ** np.searchsorted(HALVED_AFTER, iteration)
    side: IntArray = np.rint(np.sqrt(fraction * (height * width))).astype(np.int64)
    return np.clip(side, 1, min(height, width))


def _load(
    clean: NDArray[np.uint8],
    labels: IntArray,
    indices: IntArray,
    epsilon: float,
    on_grid: bool,
    seed_and_first: tuple[int, int],
) -> _Pool:
    """Samples that were not asked about yet, with their stripes as the best so far."""
    low, high = _faces(clean, epsilon, on_grid)
    count, channels, _, width = clean.shape
    seed, first = seed_and_first
    generators = np.empty(count, dtype=np.object_)
    stripes = np.empty((count, channels, 1, width), dtype=np.bool_)
    for slot, index in enumerate(indices):
        generators[slot] = np.random.default_rng([seed, first + int(index)])
        stripes[slot, :, 0] = generators[slot].integers(0, 2, (channels, width), dtype=np.bool_)
    return _Pool(
        indices=indices.copy(),
        labels=np.array(labels),
        low=low,
        high=high,
        best=np.where(stripes, high, low),
        margins=np.full(count, np.inf),
        used=np.zeros(count, dtype=np.int64),
        generators=generators,
        places=np.zeros((count, DRAWN_AT_ONCE, 2)),
        signs=np.zeros((count, DRAWN_AT_ONCE, channels), dtype=np.bool_),
    )


def _faces(
    clean: NDArray[np.uint8], epsilon: float, on_grid: bool
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The lowest and highest image, (B, C, H, W), of the ball inside the box."""
    if on_grid:
        levels, radius = clean.astype(np.int16), grid_radius(epsilon)
        low, high = np.maximum(levels - radius, 0), np.minimum(levels + radius, 255)
        return low.astype(np.uint8), high.astype(np.uint8)
    images, reach = clean.astype(np.float32) / 255, np.float32(epsilon)
    return np.maximum(images - reach, 0), np.minimum(images + reach, 1)


def _propose(pool: _Pool) -> NDArray[Any]:
    """(P, C, H, W) the images to ask about next: a square of each best one recoloured."""
    count, _, height, width = pool.best.shape
    iteration = pool.used - 1
    _draw(pool, iteration)
    # The first query is the stripes themselves: a square without pixels.
    side = np.where(iteration < 0, 0, square_side(iteration, height, width))
    drawn = (np.arange(count), iteration % DRAWN_AT_ONCE)
    places, up = pool.places[drawn], pool.signs[drawn][:, :, None, None]
    # Algorithm 2 samples the corner from {0, ..., w - h}, both ends included.
    in_rows = _in_span((places[:, 0] * (height - side + 1)).astype(np.int64), side, height)
    in_columns = _in_span((places[:, 1] * (width - side + 1)).astype(np.int64), side, width)
    inside = in_rows[:, None, :, None] & in_columns[:, None, None, :]
    # A move of 2 epsilon and its projection end on the face, wherever they began.
    candidates = pool.best.copy()
    np.copyto(candidates, pool.high, where=inside & up)
    np.copyto(candidates, pool.low, where=inside & ~up)
    return candidates


def _in_span(begin: IntArray, length: IntArray, size: int) -> NDArray[np.bool_]:
    """(P, size) booleans: which positions lie in [begin, begin + length)."""
    positions = np.arange(size)
    inside: NDArray[np.bool_] = positions >= begin[:, None]
    return inside & (positions < (begin + length)[:, None])


def _draw(pool: _Pool, iteration: IntArray) -> None:
    """Fill `places` and `signs` of the samples that have used theirs up."""
    for slot in np.flatnonzero(iteration % DRAWN_AT_ONCE == 0):
        generator = pool.generators[slot]
        pool.places[slot] = generator.random(pool.places.shape[1:])
        pool.signs[slot] = generator.integers(0, 2, pool.signs.shape[1:], dtype=np.bool_)


def _verdict(pool: _Pool, scores: Scores, candidates: NDArray[Any], keep_equal: bool) -> bytes:
    """What the model says of the candidates: which broke it, which to keep, those ones' margins."""
    logits = scores(candidates)
    slots = np.arange(len(pool))
    others = logits.astype(np.float64)
    true = others[slots, pool.labels]
    others[slots, pool.labels] = -np.inf
    margins: NDArray[np.float64] = true - others.max(axis=1)
    # The very rule of the replay: of two equal logits the first is the answer.
    broken: NDArray[np.bool_] = logits.argmax(axis=1) != pool.labels
    as_good = (margins < pool.margins) | (keep_equal & (margins == pool.margins))
    better: NDArray[np.bool_] = broken | as_good
    return pack_bits(broken) + pack_bits(better) + margins[better].tobytes()


def _keep(pool: _Pool, candidates: NDArray[Any], verdict: bytes) -> NDArray[np.bool_]:
    """Count the query and keep what the verdict says; (P,) booleans: was the answer wrong?"""
    size = (len(pool) + 7) // 8
    broken = unpack_bits(verdict[:size], len(pool))
    better = unpack_bits(verdict[size : 2 * size], len(pool))
    pool.best[better] = candidates[better]
    pool.margins[better] = np.frombuffer(verdict[2 * size :], dtype=np.float64)
    pool.used += 1
    return broken


def _exchange(pool: _Pool, leaving: NDArray[np.bool_], fresh: _Pool) -> _Pool:
    """Put `fresh`, at most as many, in the place of those leaving; a shorter pool at the end."""
    slots = np.flatnonzero(leaving)
    for field in fields(_Pool):
        getattr(pool, field.name)[slots[: len(fresh)]] = getattr(fresh, field.name)
    if len(fresh) == len(slots):
        return pool
    staying = np.delete(np.arange(len(pool)), slots[len(fresh) :])
    return _Pool(**{field.name: getattr(pool, field.name)[staying] for field in fields(_Pool)})
