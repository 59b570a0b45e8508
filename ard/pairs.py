"""Sums over all pairs of scores in a row, in memory for the scores alone.

A comparison of two scores is tanh(k (a_i - a_j)). Written naively the ranking losses hold one value
per pair, O(B C^2 + C B^2). Here the pairs are visited by cyclic shift, (i, i + s mod n) for
s = 1 .. n // 2, a few shifts at a time in reused buffers, and the gradient is taken on the way
(Kendall) or by a second visit (Spearman): O(B C) memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

# At least this many shifts are taken at once, and more while the block stays small: a block
# holds at most max(8 n, 2^20 / rows) comparisons of a row.
MIN_SHIFTS = 8
BLOCK_COMPARISONS = 1 << 20


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


def _shift_blocks(rows: int, n: int, shifts: int) -> Iterator[tuple[int, int]]:
    """Cover the shifts 1 .. `shifts` by (first, count)."""
    size = _block_size(rows, n)
    for first in range(1, shifts + 1, size):
        yield first, min(size, shifts + 1 - first)


def _block_size(rows: int, n: int) -> int:
    return max(MIN_SHIFTS, BLOCK_COMPARISONS // max(rows * n, 1))


def _buffers(like: Tensor, shifts: int, count: int) -> list[Tensor]:
    """`count` reusable blocks (rows, shifts taken at once, n)."""
    rows, n = like.shape
    size = min(_block_size(rows, n), shifts)
    return [like.new_empty(rows, size, n) for _ in range(count)]


def _shifted(a: Tensor, first: int, count: int) -> Tensor:
    """(rows, count, n), a view: entry (s, i) is a_{i + first + s mod n}."""
    n = a.shape[1]
    # The doubled row turns a cyclic shift into a window.
    doubled = torch.cat((a, a), dim=1)
    return doubled[:, first : first + count + n - 1].unfold(1, n, 1)


def _compare(a: Tensor, k: float, first: int, count: int, hard: bool, out: Tensor) -> Tensor:
    """Write into `out` the comparison of a_i with a_{i + first + s mod n} at (s, i)."""
    torch.sub(a.unsqueeze(1), _shifted(a, first, count), out=out)
    return out.sign_() if hard else out.mul_(k).tanh_()


def _add_pair_gradient(total: Tensor, pairs: Tensor, first: int, scratch: Tensor) -> None:
    """Add d/da of sum(pairs * (a_i - a_{i + first + s})) to `total` (rows, n)."""
    rows, count, n = pairs.shape
    shifts = torch.arange(first, first + count, device=pairs.device).unsqueeze(1)
    origin = (torch.arange(n, device=pairs.device) - shifts) % n
    torch.gather(pairs, 2, origin.expand(rows, count, n), out=scratch)
    total.add_(pairs.sum(dim=1)).sub_(scratch.sum(dim=1))


def _weighed(pairs: Tensor, weights: Tensor | None) -> Tensor:
    return pairs if weights is None else pairs.mul_(weights)


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
        a, b = a.contiguous(), b.contiguous()
        rows, n = a.shape
        needs_a, needs_b = ctx.needs_input_grad[:2]  # type: ignore[attr-defined]
        ab, aa, bb = a.new_zeros(3, rows)
        # Gradients of (ab, aa) to a and of (ab, bb) to b.
        ab_a, aa_a, ab_b, bb_b = a.new_zeros(4, rows, n)
        buffers = _buffers(a, n // 2, 4)
        for first, count in _shift_blocks(rows, n, n // 2):
            t_a, t_b, pairs, scratch = (buffer[:, :count] for buffer in buffers)
            _compare(a, k, first, count, False, out=t_a)
            _compare(b, k, first, count, hard_b, out=t_b)
            if n % 2 == 0 and first + count - 1 == n // 2:
                # The shift by n / 2 meets each of its pairs twice: drop the second time.
                t_a[:, -1, n // 2 :] = 0
                t_b[:, -1, n // 2 :] = 0
            weights = None
            if priority is not None:
                weights = priority.unsqueeze(1) + _shifted(priority, first, count)
            ab += _weighed(torch.mul(t_a, t_b, out=pairs), weights).sum(dim=(1, 2))
            if squares:
                aa += _weighed(torch.mul(t_a, t_a, out=pairs), weights).sum(dim=(1, 2))
                bb += _weighed(torch.mul(t_b, t_b, out=pairs), weights).sum(dim=(1, 2))
            for needed, own, other, to_product, to_square in (
                (needs_a, t_a, t_b, ab_a, aa_a),
                (needs_b and not hard_b, t_b, t_a, ab_b, bb_b),
            ):
                if not needed:
                    continue
                # d tanh(k d)/dd = k (1 - tanh^2), times the other factor of each product.
                torch.mul(own, own, out=pairs).neg_().add_(1).mul_(k).mul_(other)
                _weighed(pairs, weights)
                _add_pair_gradient(to_product, pairs, first, scratch)
                if squares:
                    torch.mul(own, own, out=pairs).neg_().add_(1).mul_(2 * k).mul_(own)
                    _weighed(pairs, weights)
                    _add_pair_gradient(to_square, pairs, first, scratch)
        ctx.save_for_backward(ab_a, aa_a, ab_b, bb_b)
        return ab, aa, bb

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_ab: Tensor, d_aa: Tensor, d_bb: Tensor) -> tuple[Tensor | None, ...]:
        ab_a, aa_a, ab_b, bb_b = ctx.saved_tensors
        needs_a, needs_b = ctx.needs_input_grad[:2]
        d_a = d_ab.unsqueeze(1) * ab_a + d_aa.unsqueeze(1) * aa_a if needs_a else None
        d_b = d_ab.unsqueeze(1) * ab_b + d_bb.unsqueeze(1) * bb_b if needs_b else None
        return d_a, d_b, None, None, None, None


class _SoftRanks(torch.autograd.Function):
    """See `soft_ranks`."""

    @staticmethod
    def forward(ctx: FunctionCtx, a: Tensor, k: float, hard: bool) -> Tensor:
        a = a.contiguous()
        rows, n = a.shape
        ranks = torch.zeros_like(a)
        (buffer,) = _buffers(a, n - 1, 1)
        for first, count in _shift_blocks(rows, n, n - 1):
            ranks += _compare(a, k, first, count, hard, out=buffer[:, :count]).sum(dim=1)
        ctx.save_for_backward(a)
        ctx.k, ctx.hard = k, hard  # type: ignore[attr-defined]
        return ranks

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_ranks: Tensor) -> tuple[Tensor | None, ...]:
        (a,) = ctx.saved_tensors
        if ctx.hard:
            return torch.zeros_like(a), None, None
        rows, n = a.shape
        d_ranks = d_ranks.contiguous()
        d_a = torch.zeros_like(a)
        buffers = _buffers(a, n - 1, 2)
        for first, count in _shift_blocks(rows, n, n - 1):
            t, difference = (buffer[:, :count] for buffer in buffers)
            _compare(a, ctx.k, first, count, False, out=t)
            torch.sub(d_ranks.unsqueeze(1), _shifted(d_ranks, first, count), out=difference)
            d_a += t.mul_(t).neg_().add_(1).mul_(ctx.k).mul_(difference).sum(dim=1)
        return d_a, None, None
