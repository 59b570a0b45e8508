"""Sums over all pairs of scores in a row, in memory for the scores alone.

A comparison of two scores is tanh(k (a_i - a_j)). Written naively the ranking losses hold one value
per pair, O(B C^2 + C B^2). Here the pairs are visited block by block of the upper triangle of their
square, in reused buffers, and the gradient is taken on the way (Kendall) or by a second visit
(Spearman): O(B C) memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

# A block of all rows holds about this many comparisons, and is at least this wide.
BLOCK_COMPARISONS = 1 << 18
MIN_SIDE = 8


def pair_sums(
    a: Tensor, b: Tensor, k: float, hard_b: bool, squares: bool, priority: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over all pairs of t_a t_b, t_a^2 and t_b^2 for each row of scores, each (rows,).

    Args:
        a, b: scores, (rows, n).
        hard_b: compare b by sign, without a gradient to b.
        squares: whether the sums of squares are wanted; they are 0 otherwise.
        priority: w of (rows, n): every pair (i, j) counts w_i + w_j times; without a gradient.
    """
    sums: tuple[Tensor, Tensor, Tensor] = _PairSums.apply(a, b, k, hard_b, squares, priority)
    return sums


def soft_ranks(a: Tensor, k: float, *, hard: bool = False) -> Tensor:
    """r_i = sum_j tanh(k (a_i - a_j)), (rows, n) to (rows, n) in (1 - n, n - 1)."""
    ranks: Tensor = _SoftRanks.apply(a, k, hard)
    return ranks


@dataclass(frozen=True)
class _Block:
    """A rectangle of the upper triangle of all pairs (i, j), or a square on its diagonal."""

    i: slice
    j: slice

    @property
    def share(self) -> float:
        """How often a pair counts of what it is met here: a square meets it from both sides."""
        return 0.5 if self.i == self.j else 1.0

    def spread(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """What belongs to each i and to each j, of (rows, n): (rows, h, 1) and (rows, 1, w)."""
        return values[:, self.i].unsqueeze(2), values[:, self.j].unsqueeze(1)

    def collect(self, antisymmetric: Tensor, total: Tensor) -> None:
        """Add to each element i of `total` (rows, n) the sum over j of f_ij, where f_ji = -f_ij."""
        total[:, self.i] += antisymmetric.sum(dim=2)
        if self.i != self.j:
            total[:, self.j] -= antisymmetric.sum(dim=1)

    def of(self, buffer: Tensor) -> Tensor:
        """This block's part of a buffer (rows, side * side), as contiguous (rows, h, w)."""
        rows = buffer.shape[0]
        height, width = self.i.stop - self.i.start, self.j.stop - self.j.start
        return buffer.view(-1)[: rows * height * width].view(rows, height, width)


def _side(rows: int, n: int) -> int:
    """Width of a block: the blocks of a row share it evenly."""
    most = max(MIN_SIDE, math.isqrt(BLOCK_COMPARISONS // rows))
    return math.ceil(n / math.ceil(n / most))


def _blocks(like: Tensor) -> Iterator[_Block]:
    """Blocks that meet every pair of the scores (rows, n)."""
    rows, n = like.shape
    side = _side(rows, n)
    parts = [slice(start, min(start + side, n)) for start in range(0, n, side)]
    for at, i in enumerate(parts):
        for j in parts[at:]:
            yield _Block(i, j)


def _buffers(like: Tensor, count: int) -> list[Tensor]:
    rows, n = like.shape
    return [like.new_empty(rows, _side(rows, n) ** 2) for _ in range(count)]


class _Compared:
    """Scores (rows, n), prepared for their comparisons."""

    def __init__(self, a: Tensor, k: float, hard: bool) -> None:
        self.values, self.hard, self.as_ratio = a, hard, False
        if hard:
            return
        self.values = k * a
        low, high = self.values.aminmax(dim=1, keepdim=True)
        if float((high - low).max()) <= _widest(a.dtype):
            # tanh(x - y) = (u - v) / (u + v) with u = exp(2 x), v = exp(2 y): one exponential a
            # score instead of one tanh a pair, which takes a quarter of the time on a CPU.
            self.values, self.as_ratio = (2 * self.values - low - high).exp_(), True

    def compare(self, block: _Block, out: Tensor, scratch: Tensor) -> Tensor:
        """tanh(k (a_i - a_j)), or the sign, of every pair of the block, into `out`."""
        at_i, at_j = block.spread(self.values)
        torch.sub(at_i, at_j, out=out)
        if self.hard:
            return out.sign_()
        if self.as_ratio:
            return out.div_(torch.add(at_i, at_j, out=scratch))
        return out.tanh_()


def _widest(dtype: torch.dtype) -> float:
    """The largest range of scores whose exponentials stay clear of overflow and of denormals."""
    numbers = torch.finfo(dtype)
    return 0.9 * min(math.log(numbers.max), -math.log(numbers.tiny))


class _PairSums(torch.autograd.Function):
    """See `pair_sums`."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        a: Tensor,
        b: Tensor,
        k: float,
        hard_b: bool,
        squares: bool,
        priority: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        needs_a, needs_b = ctx.needs_input_grad[:2]  # type: ignore[attr-defined]
        ab, aa, bb = a.new_zeros(3, len(a))
        # Gradients of (ab, aa) to a and of (ab, bb) to b.
        ab_a, aa_a, ab_b, bb_b = a.new_zeros(4, *a.shape)
        scores_a, scores_b = _Compared(a, k, False), _Compared(b, k, hard_b)
        buffers = _buffers(a, 3)
        for block in _blocks(a):
            t_a, t_b, pairs = (block.of(buffer) for buffer in buffers)
            scores_a.compare(block, t_a, pairs)
            scores_b.compare(block, t_b, pairs)
            weights = None if priority is None else sum(block.spread(priority))
            for own, other, total in ((t_a, t_b, ab), (t_a, t_a, aa), (t_b, t_b, bb)):
                if squares or total is ab:
                    product = _weighed(torch.mul(own, other, out=pairs), weights)
                    total.add_(product.sum(dim=(1, 2)), alpha=block.share)
            for needed, own, other, to_product, to_square in (
                (needs_a, t_a, t_b, ab_a, aa_a),
                (needs_b and not hard_b, t_b, t_a, ab_b, bb_b),
            ):
                if needed:
                    block.collect(_weighed(_slope(own, other, pairs), weights), to_product)
                if needed and squares:
                    block.collect(_weighed(_slope(own, own, pairs), weights), to_square)
        ctx.save_for_backward(k * ab_a, 2 * k * aa_a, k * ab_b, 2 * k * bb_b)
        return ab, aa, bb

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_ab: Tensor, d_aa: Tensor, d_bb: Tensor) -> tuple[Tensor | None, ...]:
        ab_a, aa_a, ab_b, bb_b = ctx.saved_tensors
        needs_a, needs_b = ctx.needs_input_grad[:2]
        d_a = d_ab.unsqueeze(1) * ab_a + d_aa.unsqueeze(1) * aa_a if needs_a else None
        d_b = d_ab.unsqueeze(1) * ab_b + d_bb.unsqueeze(1) * bb_b if needs_b else None
        return d_a, d_b, None, None, None, None


def _slope(own: Tensor, factor: Tensor, out: Tensor) -> Tensor:
    """(1 - own^2) factor: by the difference d, tanh(k d) has the slope k (1 - tanh(k d)^2)."""
    return torch.addcmul(factor, torch.mul(own, own, out=out), factor, value=-1, out=out)


def _weighed(pairs: Tensor, weights: Tensor | int | None) -> Tensor:
    return pairs if weights is None else pairs.mul_(weights)


class _SoftRanks(torch.autograd.Function):
    """See `soft_ranks`."""

    @staticmethod
    def forward(ctx: FunctionCtx, a: Tensor, k: float, hard: bool) -> Tensor:
        ranks = torch.zeros_like(a)
        scores = _Compared(a, k, hard)
        buffers = _buffers(a, 2)
        for block in _blocks(a):
            t, scratch = (block.of(buffer) for buffer in buffers)
            block.collect(scores.compare(block, t, scratch), ranks)
        ctx.save_for_backward(a)
        ctx.k, ctx.hard = k, hard  # type: ignore[attr-defined]
        return ranks

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_ranks: Tensor) -> tuple[Tensor | None, ...]:
        (a,) = ctx.saved_tensors
        if ctx.hard:
            return torch.zeros_like(a), None, None
        d_a = torch.zeros_like(a)
        scores = _Compared(a, ctx.k, False)
        buffers = _buffers(a, 3)
        for block in _blocks(a):
            t, difference, scratch = (block.of(buffer) for buffer in buffers)
            scores.compare(block, t, scratch)
            at_i, at_j = block.spread(d_ranks)
            torch.sub(at_i, at_j, out=difference)
            block.collect(_slope(t, difference, scratch), d_a)
        return ctx.k * d_a, None, None
