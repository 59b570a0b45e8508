"""The inner maximisation of adversarial training: what it ascends, and how.

To add an objective: a function here, an entry in INNER_OBJECTIVES, and its case in `step`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ard.attacks.ascent import Objective, gradient_and_logits
from ard.attacks.norms import projection
from ard.methods.losses import kl_divergence_each
from ard.methods.ranking import RankingOptions, class_priority, disagreement

# The start of the inner maximisation: x + 0.001 N(0, 1), as in TRADES and RSLAD.
INNER_NOISE = 0.001


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


def ranking_disagreement(target: Tensor, options: RankingOptions) -> Objective:
    """Objective of our own: 1 - agreement with the class ranking of target logits (B, C)."""
    priority = class_priority(target, options)
    if options.space == "probabilities":
        target = target.softmax(dim=1)

    def objective(logits: Tensor) -> Tensor:
        scores = logits.softmax(dim=1) if options.space == "probabilities" else logits
        return disagreement(scores, target, options, priority)

    return objective


INNER_OBJECTIVES: dict[str, str] = {
    "ce": "cross-entropy with the labels",
    "kl_clean": "KL to the teacher's prediction on the clean image (RSLAD)",
    "kl_self": "KL to the model's own prediction on the clean image (TRADES)",
    "adaad": "KL to the teacher's prediction on the same adversarial image (AdaAD)",
    "ranking": "disagreement with the teacher's class ranking of the clean image",
}
INNER_WITH_TEACHER_CLEAN = ("kl_clean", "ranking")
INNER_WITH_TEACHER = (*INNER_WITH_TEACHER_CLEAN, "adaad")


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
