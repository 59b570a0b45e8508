"""The inner maximisation of adversarial training: what it ascends, and how.

To add an objective: a function `climb_NAME` here, and an entry in `registry.INNER`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ard.attacks.ascent import Objective, cross_entropy, gradient_and_logits
from ard.attacks.norms import projection
from ard.methods.base import kl_divergence_each
from ard.ranking.emphasis import class_emphasis
from ard.ranking.levels import RankingOptions, disagreement

# The start of the inner maximisation: x + 0.001 N(0, 1), as in TRADES and RSLAD.
INNER_NOISE = 0.001

LINEAR_CLASSES = 2
"""How many classes of a linearised teacher move; see `LinearisedTeacher`."""


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


class LinearisedTeacher(nn.Module):
    """A frozen network to first order around some images: T(x') ~ T(x) + J (x' - x).

    Only the `classes` likeliest classes of each sample move; the others, to whose logits a KL
    hardly listens, stay. Their rows of J take one forward and `classes` backward passes, once a
    batch and whatever the number of attack steps; after that a step costs no pass at all.

    Args:
        model: the network, of images (B, C, H, W).
        images: x.
        classes: how many rows of J each sample gets; O(B classes C H W) memory.
    """

    def __init__(self, model: nn.Module, images: Tensor, classes: int) -> None:
        super().__init__()
        self.images = images.detach()
        inputs = self.images.clone().requires_grad_()
        with torch.enable_grad():
            logits = model(inputs).to(inputs.dtype)
            likeliest = logits.topk(min(classes, logits.shape[1]), dim=1)
            count = likeliest.values.shape[1]
            rows = [
                torch.autograd.grad(
                    likeliest.values[:, which].sum(), inputs, retain_graph=which + 1 < count
                )[0]
                for which in range(count)
            ]
        self.logits, self.classes = logits.detach(), likeliest.indices
        self.rows = torch.stack(rows, dim=1).flatten(2)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) near x to logits, in the precision of x."""
        with torch.autocast(images.device.type, enabled=False):
            moved = (images - self.images).flatten(1).unsqueeze(2)
            shifts = torch.bmm(self.rows, moved).squeeze(2)
            logits: Tensor = self.logits.scatter_add(1, self.classes, shifts)
            return logits


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
    """The same, the teacher being linear around the clean image."""
    assert attacked.teacher is not None
    teacher = LinearisedTeacher(attacked.teacher, attacked.images, LINEAR_CLASSES)
    return SideBySide(attacked.student, teacher), moving_kl


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
