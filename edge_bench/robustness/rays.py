"""The RayS attack: search for a wrong answer with a model's classes alone, in numpy.

Chen and Gu 2020 (arXiv 2006.12792): the direction is a vector of signs, one for each value of the
image, and what is sought is the one along which the decision changes nearest. Signs are flipped in
blocks, first of the whole image, then of halves, quarters and so on (Algorithm 3); a flip is kept
where the answer is wrong at the nearest distance so far, which is then bisected (Algorithm 2).

Distances here are whole 8-bit levels, which is what a device can be given, so that of directions
that change the decision equally near there are many. Ours are therefore these: a direction that
is as near as the best is kept, the first query of a bisection is one level nearer, since most find
nothing there, and nothing nearer than the budget is looked for. No answer's score is used: logits
that are equal, or that a quantised model gives in few steps, mislead nothing here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_bench.core.progress import ProgressCallback, no_progress
from edge_bench.files.journal import Answer, ask_anew
from edge_bench.files.sets import grid_radius
from edge_bench.robustness.square import Finished, IntArray, Scores
from edge_bench.statistics.metrics import pack_bits, unpack_bits

FARTHEST = 255
CHECKED, ONE_NEARER, BISECTED = 0, 1, 2
"""What a sample asks next: another direction as near as the best, one level nearer, or between."""


@dataclass(kw_only=True)
class _Pool:
    """The samples under attack; entry i of every array belongs to one of them.

    `signs` (P, D) are the best direction, `radius` (P,) the levels at which it changes the
    decision, FARTHEST before any does. `near` (P,) is the most levels at which a bisection knows
    that it does not. `level` and `block` (P,) name the next block to flip.
    """

    indices: IntArray
    labels: IntArray
    clean: NDArray[np.int16]
    signs: NDArray[np.int16]
    radius: IntArray
    near: IntArray
    phase: IntArray
    level: IntArray
    block: IntArray
    used: IntArray

    def __len__(self) -> int:
        return len(self.indices)


def rays_attack(
    scores: Scores,
    clean: NDArray[np.uint8],
    labels: IntArray,
    *,
    epsilon: float,
    queries: int,
    seed: int,
    batch_size: int,
    indices: IntArray,
    report_progress: ProgressCallback = no_progress,
    answer: Answer = ask_anew,
) -> Iterator[Finished]:
    """Attack `clean[indices]`, (N, C, H, W), in L-inf, and yield samples as they are over.

    As `square.square_attack`, on the 8-bit grid. Of `scores` only the largest is looked at. There
    is nothing to draw, so `seed` changes nothing. The images of samples that were not broken are
    the clean ones, and there are no margins.
    """
    goal, begin, over_samples = grid_radius(epsilon), min(batch_size, len(indices)), 0
    pool = _load(clean, labels, indices[:begin], goal)
    while len(pool):
        directions, distances = _propose(pool)
        ask = partial(_verdict, pool, scores, directions, distances)
        _settle(pool, directions, distances, unpack_bits(answer(ask), len(pool)), goal)
        broken = pool.radius <= goal
        over = broken | (pool.used == queries)
        if over.any():
            yield _finished(pool, over, broken[over])
            over_samples += int(over.sum())
            end = min(begin + int(over.sum()), len(indices))
            pool = _exchange(pool, over, _load(clean, labels, indices[begin:end], goal))
            begin = end
        done = over_samples * queries + int(pool.used.sum())
        report_progress(done, len(indices) * queries, "")


def _load(clean: NDArray[np.uint8], labels: IntArray, indices: IntArray, goal: int) -> _Pool:
    """Samples that were not asked about yet."""
    levels = clean[indices].astype(np.int16)
    count = len(indices)
    none = np.zeros(count, dtype=np.int64)
    return _Pool(
        indices=indices.copy(),
        labels=np.array(labels[indices]),
        clean=levels,
        signs=np.ones((count, int(np.prod(levels.shape[1:]))), dtype=np.int16),
        radius=np.full(count, FARTHEST),
        near=none.copy(),
        phase=none.copy(),
        level=none.copy(),
        block=none.copy(),
        used=none.copy(),
    )


def block_span(level: IntArray, block: IntArray, values: int) -> tuple[IntArray, IntArray]:
    """(P,) first and (P,) last value, not included, of blocks: 2**level of them are an image."""
    size = -(-values // 2**level)
    begin: IntArray = block * size
    return begin, np.minimum(begin + size, values)


def _propose(pool: _Pool) -> tuple[NDArray[np.int16], IntArray]:
    """(P, D) the directions to ask about next, and (P,) how many levels along them."""
    begin, end = block_span(pool.level, pool.block, pool.signs.shape[1])
    at = np.arange(pool.signs.shape[1])
    inside = (at >= begin[:, None]) & (at < end[:, None])
    flipped = inside & (pool.phase == CHECKED)[:, None]
    directions = np.where(flipped, -pool.signs, pool.signs)
    between = (pool.near + pool.radius) // 2
    distances = np.choose(pool.phase, (pool.radius, pool.radius - 1, between))
    return directions, distances


def _images(
    clean: NDArray[np.int16], directions: NDArray[np.int16], distances: IntArray
) -> NDArray[np.uint8]:
    moved = clean + (directions * distances[:, None].astype(np.int16)).reshape(clean.shape)
    found: NDArray[np.uint8] = np.clip(moved, 0, 255).astype(np.uint8)
    return found


def _verdict(
    pool: _Pool, scores: Scores, directions: NDArray[np.int16], distances: IntArray
) -> bytes:
    """The bits of which images are answered wrongly."""
    asked = _images(pool.clean, directions, distances)
    return pack_bits(scores(asked).argmax(axis=1) != pool.labels)


def _settle(
    pool: _Pool,
    directions: NDArray[np.int16],
    distances: IntArray,
    wrong: NDArray[np.bool_],
    goal: int,
) -> None:
    """Count the query, keep what was nearer, and choose what each sample asks next."""
    pool.used += 1
    checked, bisected = pool.phase == CHECKED, pool.phase == BISECTED
    pool.signs[wrong] = directions[wrong]
    pool.radius[wrong] = distances[wrong]
    begun = ~checked & ~bisected & wrong
    pool.near[begun] = goal - 1
    pool.near[bisected & ~wrong] = distances[bisected & ~wrong]
    goes_on = (checked & wrong) | begun | bisected
    # Bisected to the end, or with nothing between.
    goes_on &= checked | (pool.radius - pool.near > 1)
    pool.phase = np.where(goes_on, np.where(checked, ONE_NEARER, BISECTED), CHECKED)
    _advance(pool, ~goes_on)


def _advance(pool: _Pool, done: NDArray[np.bool_]) -> None:
    """The next block of those `done` with theirs; after the last one of a level, smaller blocks."""
    values = pool.signs.shape[1]
    _, end = block_span(pool.level, pool.block, values)
    last = done & (end == values)
    pool.block[done] += 1
    pool.block[last] = 0
    # Blocks of one value are the smallest; their level comes again.
    pool.level[last & (2**pool.level < values)] += 1


def _finished(pool: _Pool, over: NDArray[np.bool_], broken: NDArray[np.bool_]) -> Finished:
    distances = np.where(broken, pool.radius[over], 0)
    return Finished(
        indices=pool.indices[over],
        images=_images(pool.clean[over], pool.signs[over], distances),
        success=broken,
        queries=pool.used[over],
        margins=np.full(len(broken), np.nan),
    )


def _exchange(pool: _Pool, leaving: NDArray[np.bool_], fresh: _Pool) -> _Pool:
    """`fresh` in the place of those leaving."""
    parts: dict[str, Any] = {}
    for name in (field.name for field in fields(_Pool)):
        parts[name] = np.concatenate([getattr(pool, name)[~leaving], getattr(fresh, name)])
    return _Pool(**parts)
