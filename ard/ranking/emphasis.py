"""Which pairs of a ranking count, and how much: by priority, by the label, by trust."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from ard.ranking.levels import RankingOptions

LEAST_TRUST = 1e-6
"""Mean trust of a batch, below which it is what rounding leaves."""


@dataclass(frozen=True, kw_only=True)
class Emphasis:
    """How much each pair of each row (rows, n) counts; constants to the gradient.

    Attributes:
        elements: weights w (rows, n), 0 or more with a positive sum: pair (i, j) counts w_i + w_j
            times; None counts every pair once.
        chosen: (rows, m): only pairs among these elements count; None takes all.
        hub: (rows,): only pairs with this element count, and pair (hub, j) does `spokes`_j times.
        spokes: weights (rows, n) that sum to 1 in each row and are 0 at the hub.
    """

    elements: Tensor | None = None
    chosen: Tensor | None = None
    hub: Tensor | None = None
    spokes: Tensor | None = None


EVERY_PAIR = Emphasis()


def class_emphasis(teacher: Tensor, labels: Tensor | None, options: RankingOptions) -> Emphasis:
    """What counts among the classes of each sample.

    Args:
        teacher: logits (B, C) of the images that the teacher ranks.
        labels: (B,); only `priority = "label"` asks for them.
    """
    teacher = teacher.detach()
    chosen = None
    if 0 < options.top < teacher.shape[1]:
        chosen = teacher.topk(options.top, dim=1).indices
    if options.priority == "label":
        assert labels is not None
        return Emphasis(hub=labels, spokes=closeness(teacher, labels, chosen))
    elements = teacher.softmax(dim=1) if options.priority == "teacher" else None
    if chosen is not None and elements is not None:
        elements = elements.gather(1, chosen)
    return Emphasis(elements=elements, chosen=chosen)


def closeness(teacher: Tensor, labels: Tensor, chosen: Tensor | None = None) -> Tensor:
    """Softmax over the other classes j of -|T_y - T_j|, (B, C): the runner-up weighs most.

    Args:
        teacher: logits (B, C).
        labels: y, (B,); it weighs 0 itself.
        chosen: (B, m) with m of 2 or more: only these classes weigh anything; None takes all.
    """
    at_label = labels.unsqueeze(1)
    near = -(teacher - teacher.gather(1, at_label)).abs()
    if chosen is not None:
        near = torch.full_like(near, -math.inf).scatter(1, chosen, near.gather(1, chosen))
    return near.scatter(1, at_label, -math.inf).softmax(dim=1)


def hub_sums(
    a: Tensor, b: Tensor, k: float, hard_b: bool, emphasis: Emphasis
) -> tuple[Tensor, Tensor, Tensor]:
    """`pairs.pair_sums` over the pairs with the hub alone, in O(rows n)."""
    assert emphasis.hub is not None
    assert emphasis.spokes is not None
    hub = emphasis.hub.unsqueeze(1)
    differences_a, differences_b = a.gather(1, hub) - a, b.gather(1, hub) - b
    t_a = (k * differences_a).tanh()
    t_b = differences_b.sign() if hard_b else (k * differences_b).tanh()
    ab, aa, bb = (
        (emphasis.spokes * product).sum(dim=1)
        for product in (t_a * t_b, t_a.square(), t_b.square())
    )
    return ab, aa, bb


def reliability(teacher: Tensor, labels: Tensor | None, kind: str) -> Tensor | None:
    """How much the teacher's ranking of each sample is trusted, (B,) with mean 1.

    Args:
        teacher: logits (B, C) of the images that it ranks.
        labels: (B,); only `label` asks for them.
        kind: `label`, its probability of the label; `entropy`, 1 - H / log C of its prediction;
            `none` trusts all alike, which is None.

    A batch in which it trusts none is trusted alike.
    """
    if kind == "none":
        return None
    logs = teacher.detach().log_softmax(dim=1)
    if kind == "label":
        assert labels is not None
        trust = -F.nll_loss(logs.exp(), labels, reduction="none")
    else:
        trust = 1 + (logs.exp() * logs).sum(dim=1) / math.log(logs.shape[1])
    # A prediction of nothing leaves no entropy but that of rounding, which is no trust in anything.
    trust = trust.clamp_min(0.0)
    mean = trust.mean()
    return torch.where(mean > LEAST_TRUST, trust / mean.clamp_min(LEAST_TRUST), 1.0)
