"""The inner maximisation of adversarial training: what it ascends, and how.

To add an objective: a function `climb_NAME` here, and an entry in `registry.INNER`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ard.attacks.steps.ascent import Objective, cross_entropy, gradient_and_logits
from ard.attacks.steps.norms import projection
from ard.methods.parts.base import kl_divergence_each
from ard.ranking.emphasis import class_emphasis
from ard.ranking.levels import RankingOptions, disagreement

# The start of the inner maximisation: x + 0.001 N(0, 1), as in TRADES and RSLAD.
INNER_NOISE = 0.001


@dataclass(frozen=True, kw_only=True)
class Attacked:
    """What an inner maximisation is given.

    Attributes:
        student: in eval mode, as it is now.
        images: clean ones, (B, C, H, W) in [0, 1].
        labels: (B,).
        teacher: None where the method has none.
        teacher_clean: the teacher's logits (B, C) of `images`, where `registry.INNER` asks for
            them.
        ranking: the ranking terms of the method.
    """

    student: nn.Module
    images: Tensor
    labels: Tensor
    teacher: nn.Module | None
    teacher_clean: Tensor
    ranking: RankingOptions


Climbed = tuple[nn.Module, Objective]
"""The model that is asked, and what is ascended of its logits."""


def kl_to(target: Tensor) -> Objective:
    """Objective KL(softmax(target) || softmax(logits)) of each sample; target logits (B, C)."""
    return lambda logits: kl_divergence_each(logits, target)


def moving_kl(both: Tensor) -> Tensor:
    """Objective of AdaAD: KL(softmax(T(x')) || softmax(S(x'))) where the teacher moves too.

    Args:
        both: logits (B, 2 C), the student's and then the teacher's; see `SideBySide`.
    """
    student, teacher = both.chunk(2, dim=1)
    return kl_divergence_each(student, teacher)


class SideBySide(nn.Module):
    """The logits of two models on the same images, (B, 2 C): an attack on both at once."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to both models' logits, the first model's first."""
        return torch.cat((self.first(images), self.second(images)), dim=1)


class BesideLinearised(nn.Module):
    """`SideBySide` with a teacher that is linear around x, for one attack on one batch.

    T(x') ~ T(x) + u u^T J (x' - x), where the unit vector u (C,) of each sample is the direction in
    which the student's logits go at the first step of the attack: there the teacher's own movement
    tells most. At the first step the teacher stands still. One forward and one backward pass of the
    teacher a batch, whatever the number of steps, where AdaAD takes both at each of them.

    Args:
        student: what is attacked.
        teacher: a frozen network.
        images: x, (B, C, H, W).
    """

    def __init__(self, student: nn.Module, teacher: nn.Module, images: Tensor) -> None:
        super().__init__()
        self.student = student
        self.images = images.detach().requires_grad_()
        with torch.enable_grad():
            self.teacher_logits: Tensor = teacher(self.images).to(images.dtype)
        self.start: Tensor | None = None
        self.direction: Tensor | None = None
        self.slope = torch.empty(0)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W), x' of the next step, to both models' logits, (B, 2 C)."""
        student: Tensor = self.student(images).to(self.images.dtype)
        teacher = self.teacher_logits.detach()
        if self.start is None:
            self.start = student.detach()
            return torch.cat((student, teacher), dim=1)
        if self.direction is None:
            self.direction = _direction(student.detach() - self.start)
            along = (self.direction * self.teacher_logits).sum()
            (slope,) = torch.autograd.grad(along, self.images)
            # The graph of the teacher is done with; its logits are not.
            self.teacher_logits, self.slope = teacher, slope.flatten(1)
        moved = (images - self.images.detach()).flatten(1)
        shift = (self.slope * moved).sum(dim=1, keepdim=True)
        return torch.cat((student, teacher + shift * self.direction), dim=1)


def _direction(change: Tensor) -> Tensor:
    """Unit vectors (B, C) of changes of logits, of which softmax does not see the mean."""
    centred = change - change.mean(dim=1, keepdim=True)
    return F.normalize(centred, dim=1)


def ranking_disagreement(
    target: Tensor, options: RankingOptions, labels: Tensor | None = None
) -> Objective:
    """Objective of our own: disagreement with the class ranking of target logits (B, C).

    The labels (B,) are asked for by a priority of the label alone.
    """
    emphasis = class_emphasis(target, labels, options)
    if options.space == "probabilities":
        target = target.softmax(dim=1)

    def objective(logits: Tensor) -> Tensor:
        scores = logits.softmax(dim=1) if options.space == "probabilities" else logits
        return disagreement(scores, target, options, emphasis)

    return objective


def climb_ce(attacked: Attacked) -> Climbed:
    """Cross-entropy with the labels."""
    return attacked.student, lambda logits: cross_entropy(logits, attacked.labels)


def climb_kl_clean(attacked: Attacked) -> Climbed:
    """KL to the teacher's prediction on the clean image (RSLAD)."""
    return attacked.student, kl_to(attacked.teacher_clean)


def climb_kl_self(attacked: Attacked) -> Climbed:
    """KL to the model's own prediction on the clean image (TRADES)."""
    with torch.no_grad():
        own: Tensor = attacked.student(attacked.images).float()
    return attacked.student, kl_to(own)


def climb_adaad(attacked: Attacked) -> Climbed:
    """KL to the teacher's prediction on the same adversarial image (AdaAD)."""
    assert attacked.teacher is not None
    return SideBySide(attacked.student, attacked.teacher), moving_kl


def climb_adaad_linear(attacked: Attacked) -> Climbed:
    """Nearly the same, the teacher being linear around the clean image."""
    assert attacked.teacher is not None
    return BesideLinearised(attacked.student, attacked.teacher, attacked.images), moving_kl


def climb_ranking(attacked: Attacked) -> Climbed:
    """Disagreement with the teacher's class ranking of the clean image."""
    ranking = attacked.ranking
    objective = ranking_disagreement(attacked.teacher_clean, ranking, attacked.labels)
    return attacked.student, objective


def ascend(
    model: nn.Module,
    images: Tensor,
    objective: Objective,
    *,
    noise: Tensor,
    epsilon: float,
    step_size: float,
    steps: int,
) -> Tensor:
    """The inner maximisation of training: signed steps from a small Gaussian start.

    Args:
        images: (B, C, H, W) in [0, 1].
        noise: standard normal, of the images' shape; drawn on the CPU, so that a run is the same
            on every device.

    Returns:
        the last iterate, inside the ball and the box.
    """
    inside = projection(images, epsilon)
    adversarial = inside(images + INNER_NOISE * noise.to(images.device))
    for _ in range(steps):
        gradient, _ = gradient_and_logits(model, adversarial, objective)
        adversarial = inside(adversarial + step_size * gradient.sign())
    return adversarial
