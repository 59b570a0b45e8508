"""The inner maximisation of adversarial training: what it ascends, and how.

To add an objective: a function here, an entry in INNER_OBJECTIVES, and its case in `step`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ard.emphasis import class_emphasis
from ard.losses import kl_divergence_each
from ard.norms import projection
from ard.ranking import RankingOptions, disagreement

Objective = Callable[[Tensor], Tensor]
"""Logits (B, C) to one value per sample (B,), which the attack increases."""

# The start of the inner maximisation: x + 0.001 N(0, 1), as in TRADES and RSLAD.
INNER_NOISE = 0.001


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each sample, (B,)."""
    return F.cross_entropy(logits, labels, reduction="none")


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


INNER_OBJECTIVES: dict[str, str] = {
    "ce": "cross-entropy with the labels",
    "kl_clean": "KL to the teacher's prediction on the clean image (RSLAD)",
    "kl_self": "KL to the model's own prediction on the clean image (TRADES)",
    "adaad": "KL to the teacher's prediction on the same adversarial image (AdaAD)",
    "adaad_linear": "nearly the same, the teacher being linear around the clean image",
    "ranking": "disagreement with the teacher's class ranking of the clean image",
}
INNER_WITH_TEACHER_CLEAN = ("kl_clean", "ranking")
INNER_WITH_TEACHER = (*INNER_WITH_TEACHER_CLEAN, "adaad", "adaad_linear")


def gradient_and_logits(
    model: nn.Module, inputs: Tensor, objective: Objective
) -> tuple[Tensor, Tensor]:
    """Gradient of the summed objective to the input alone, and the logits it was taken at.

    Summed, not averaged: the direction of a sample must not depend on the batch, and a mean over
    it underflows sooner in low precision.
    """
    inputs = inputs.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(inputs).float()
        (gradient,) = torch.autograd.grad(objective(logits).sum(), inputs)
    return gradient, logits.detach()


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
