"""Steps whose length adapts to each sample: those of Auto-PGD, for any objective.

pyautoattack runs Auto-PGD on the losses of its own alone, so this is for objectives that it does
not know, such as a difference of two models.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from ard.attacks.attempt import Attempt, margin
from ard.attacks.steps.ascent import gradient_and_logits
from ard.attacks.steps.climbing import Best, Judge, Loss
from ard.attacks.steps.norms import projection, random_start, steepest

# Croce and Hein 2020 (arXiv 2003.01690), Algorithm 1 and section 3: the share of the last step that
# momentum keeps from the one before, the share of steps that must have gained for a step to keep
# its length, and the checkpoints as shares of all steps.
KEPT, GAINING = 0.75, 0.75
FIRST, SHRINKING, SHORTEST = 0.22, 0.03, 0.06


def climb_adaptively(attempt: Attempt, loss: Loss, *, judge: Judge = margin) -> Tensor:
    """Auto-PGD from each random start; per sample the image that `judge` gives most to."""
    best = Best(attempt, judge)
    spec = attempt.spec
    for number in range(spec.restarts):
        if attempt.starts is not None and number == 0:
            start = attempt.starts
        else:
            start = random_start(attempt.images, spec.epsilon, spec.norm, attempt.generator)
        _one_start(attempt, loss, start, best)
    return best.images


def checkpoints(steps: int) -> set[int]:
    """The iterations after which lengths are looked at."""
    found, share, length = set(), FIRST, FIRST
    while share < 1:
        found.add(max(int(share * steps + 0.999999), 1))
        length = max(length - SHRINKING, SHORTEST)
        share += length
    return found


def _one_start(attempt: Attempt, loss: Loss, start: Tensor, best: Best) -> None:
    spec, everybody = attempt.spec, torch.arange(len(start), device=start.device)
    assert spec.steps is not None
    inside = projection(attempt.images, spec.epsilon, spec.norm)
    climbed = partial(loss, classes=attempt.classes, are_targets=False)
    looks, begun = checkpoints(spec.steps), 0
    now = before = highest = start
    top = torch.full((len(start),), -torch.inf, device=start.device)
    length = torch.full_like(top, 2 * spec.epsilon)
    # The start is compared with nothing: what it has is no gain.
    gains, last = torch.zeros_like(top), torch.full_like(top, torch.inf)
    halved, top_then = torch.ones_like(top).bool(), top
    direction = torch.zeros_like(start)
    for step in range(spec.steps + 1):
        gradient, logits = gradient_and_logits(attempt.model, now, climbed)
        best.update(everybody, now, logits)
        value = climbed(logits)
        gains, last = gains + (value > last), value
        better = value > top
        highest = torch.where(_wide(better, now), now, highest)
        direction = torch.where(_wide(better, now), gradient, direction)
        top = torch.maximum(top, value)
        if step in looks:
            # Too few gains, or neither a shorter step nor a new height since the last look.
            halve = (gains < GAINING * (step - begun)) | (~halved & (top_then >= top))
            length = torch.where(halve, length / 2, length)
            now = torch.where(_wide(halve, now), highest, now)
            gradient = torch.where(_wide(halve, now), direction, gradient)
            before = torch.where(_wide(halve, now), highest, before)
            gains, halved, top_then, begun = torch.zeros_like(top), halve, top, step
        moved = inside(now + length.view(-1, 1, 1, 1) * steepest(gradient, spec.norm))
        share = 1.0 if step == 0 else KEPT
        now, before = (
            inside(now + share * (moved - now) + (1 - share) * (now - before)),
            now,
        )


def _wide(mask: Tensor, like: Tensor) -> Tensor:
    return mask.view(-1, *[1] * (like.dim() - 1))
