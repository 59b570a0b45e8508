"""How attacks climb a loss by its gradient: projected steps from each start.

They return, per sample, the iterate with the largest margin. The last iterate is the usual
choice, but an earlier one may fool the model where the last does not, and a set that is replayed
on another model should be as far over the boundary as it can.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ard.attacks.attempt import Attempt, margin
from ard.attacks.steps.ascent import cross_entropy, gradient_and_logits
from ard.attacks.steps.norms import of_sum_one, projection, random_start, steepest

Judge = Callable[[Tensor, Tensor], Tensor]
"""(logits, labels (B,)) to a value per sample that is positive exactly where the attack won."""
Loss = Callable[..., Tensor]
"""(logits (B, C), classes (B,), are_targets) to a value per sample that the attack climbs."""

# A margin that no rounding error turns round: what is judged by another form of the same function
# (batch normalisation folded, another batch size) is wrong there too.
SURELY_FOOLED = 1e-3


def cross_entropy_of(logits: Tensor, classes: Tensor, are_targets: bool) -> Tensor:
    """Cross-entropy with labels, or minus that with targets, (B,)."""
    value = cross_entropy(logits, classes)
    return -value if are_targets else value


def margin_of(logits: Tensor, classes: Tensor, are_targets: bool) -> Tensor:
    """The margin over labels, or minus that over targets, (B,)."""
    value = margin(logits, classes)
    return -value if are_targets else value


def climb(
    attempt: Attempt, loss: Loss, *, momentum: float | None = None, judge: Judge = margin
) -> Tensor:
    """Projected ascent from each start; see the module for what it returns.

    With momentum the start is the clean image, as the authors' is.
    """
    spec = attempt.spec
    best = Best(attempt, judge)
    for number in range(spec.restarts):
        # Drawn for the whole batch, so that a sample's start does not depend on the others.
        start = attempt.images
        if attempt.starts is not None and number == 0:
            start = attempt.starts
        elif momentum is None:
            start = random_start(attempt.images, spec.epsilon, spec.norm, attempt.generator)
        _one_start(attempt, loss, start, best, momentum)
    return best.images


class Best:
    """Per sample, the iterate with the largest margin so far, and who is still in the race."""

    def __init__(self, attempt: Attempt, judge: Judge = margin) -> None:
        self._attempt, self._judge = attempt, judge
        self.images = attempt.images.clone()
        self._value = torch.full(attempt.labels.shape, -torch.inf, device=self.images.device)

    def update(self, index: Tensor, candidates: Tensor, logits: Tensor) -> None:
        """Offer `candidates` of the samples `index`, whose logits are given."""
        attempt = self._attempt
        if attempt.targets is None:
            value = self._judge(logits, attempt.labels[index])
        else:
            value = -self._judge(logits, attempt.targets[index])
        larger = value > self._value[index]
        chosen = index[larger]
        self.images[chosen] = candidates[larger]
        self._value[chosen] = value[larger]

    def worth_attacking(self, index: Tensor) -> Tensor:
        """Positions in `index` of the samples to go on with.

        All of them, or those that are not fooled yet and a few of the others, to make up an eighth
        of a batch: every new batch size costs the convolutions' library a preparation, and memory
        that it keeps.
        """
        everybody = torch.arange(len(index), device=index.device)
        if not self._attempt.stop_when_fooled:
            return everybody
        fooled = self._value[index] > SURELY_FOOLED
        unit = max(1, len(self._value) // 8)
        count = math.ceil(int((~fooled).sum()) / unit) * unit
        if count >= len(index):
            return everybody
        return fooled.int().argsort(stable=True)[:count].sort().values


def _one_start(
    attempt: Attempt, loss: Loss, start: Tensor, best: Best, momentum: float | None
) -> None:
    """Climb from one start, offering every iterate to `best`."""
    spec = attempt.spec
    assert spec.steps is not None
    assert spec.step_size is not None
    index = torch.arange(len(start), device=start.device)
    index = index[best.worth_attacking(index)]
    adversarial = start[index]
    inside = projection(attempt.images[index], spec.epsilon, spec.norm)
    direction = torch.zeros_like(adversarial)
    for _ in range(spec.steps):
        if len(index) == 0:
            return
        climbed = partial(
            loss, classes=attempt.classes[index], are_targets=attempt.targets is not None
        )
        gradient, logits = gradient_and_logits(attempt.model, adversarial, climbed)
        best.update(index, adversarial, logits)
        if momentum is not None:
            direction = momentum * direction + of_sum_one(gradient)
            gradient = direction
        kept = best.worth_attacking(index)
        if len(kept) < len(index):
            index, adversarial = index[kept], adversarial[kept]
            gradient, direction = gradient[kept], direction[kept]
            inside = projection(attempt.images[index], spec.epsilon, spec.norm)
        adversarial = inside(adversarial + spec.step_size * steepest(gradient, spec.norm))
    if len(index):
        with torch.no_grad():
            logits = attempt.model(adversarial).float()
        best.update(index, adversarial, logits)
