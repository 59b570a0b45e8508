"""Images on which an artefact and the weights that it was exported from disagree.

DIVA (Hao et al. 2022, "A Tale of Two Models: Constructing Evasive Attacks on Edge Models", MLSys
2022, arXiv 2204.10933) ascends the parent's probability of the label minus c times the artefact's:
images that the parent, by which a model is validated, gets right and the device gets wrong. The
other direction swaps the two. Gradients of the artefact's term are those of `Deployed` (BPDA): the
value from the runtime, the Jacobian from the parent.

A parent and its artefact are so alike that both probabilities fall together, and borrowed Jacobians
make both terms' gradients nearly parallel. The margin objective asks for what is counted instead:
the smaller of "how wrong is the one" and "how right is the other". It climbs whichever is missing,
so that it walks along the boundary, which is where two nearly equal networks differ.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ard.attacks.attempt import Attempt, margin
from ard.attacks.steps.adaptive import climb_adaptively
from ard.attacks.steps.climbing import climb
from ard.attacks.victims import Victim
from ard.models.deployed import Deployed
from edge_bench.core.errors import InputError

BALANCE = 1.0
"""c of the paper, its default."""


class Pair(nn.Module):
    """Images (B, C, H, W) in [0, 1] to logits (B, 2, classes): the parent's, then the artefact's.

    Args:
        parent: the weights, in eval mode.
        artefact: what was exported from them.
    """

    def __init__(self, parent: nn.Module, artefact: nn.Module) -> None:
        super().__init__()
        self.parent, self.artefact = parent, artefact

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits (B, 2, classes)."""
        theirs: Tensor = self.parent(images)
        if isinstance(self.artefact, Deployed):
            # The parent's Jacobian serves both terms: it is computed once.
            return torch.stack([theirs, self.artefact.passed_to(theirs, images)], dim=1)
        return torch.stack([theirs, self.artefact(images)], dim=1)


def pair_of(victim: Victim) -> Pair:
    """The victim beside the parent whose gradients it borrows.

    Raises:
        InputError: no artefact with a parent; its own graph is none.
    """
    module = victim.module
    if not isinstance(module, Deployed) or module.parent is None or victim.own_graph is not None:
        raise InputError(
            f"{victim.path}: a differential attack compares an artefact with the weights that it "
            "was exported from; give an artefact (.onnx) and its --parent"
        )
    return Pair(module.parent, module)


def in_direction(logits: Tensor, direction: str | None) -> tuple[Tensor, Tensor]:
    """Of logits (B, 2, classes): those (B, classes) of who is to err, and of who is to be right."""
    parent, artefact = logits.unbind(dim=1)
    return (parent, artefact) if direction == "parent" else (artefact, parent)


def apart_by(direction: str | None) -> Callable[[Tensor, Tensor], Tensor]:
    """A margin (B,) of logits (B, 2, classes) and labels: positive exactly where told apart so.

    The smaller of the margin by which the one errs and that by which the other is right.
    """

    def value(logits: Tensor, labels: Tensor) -> Tensor:
        errs, right = in_direction(logits, direction)
        return torch.minimum(margin(errs, labels), -margin(right, labels))

    return value


def diva(attempt: Attempt) -> Tensor:
    """Hao et al. 2022: projected steps on the difference of probabilities, from random starts."""
    direction = attempt.spec.direction
    return climb(attempt, _probabilities(direction), judge=apart_by(direction))


def apgd_diva(attempt: Attempt) -> Tensor:
    """DIVA's objective by the steps of Auto-PGD (Croce and Hein 2020)."""
    direction = attempt.spec.direction
    return climb_adaptively(attempt, _probabilities(direction), judge=apart_by(direction))


def apgd_apart(attempt: Attempt) -> Tensor:
    """The margin objective (see the module) by the steps of Auto-PGD (Croce and Hein 2020)."""
    apart = apart_by(attempt.spec.direction)

    def loss(logits: Tensor, classes: Tensor, are_targets: bool) -> Tensor:
        return apart(logits, classes)

    return climb_adaptively(attempt, loss, judge=apart)


def _probabilities(direction: str | None) -> Callable[..., Tensor]:
    def loss(logits: Tensor, classes: Tensor, are_targets: bool) -> Tensor:
        errs, right = (each.softmax(dim=1) for each in in_direction(logits, direction))
        at = classes.unsqueeze(1)
        return (right.gather(1, at) - BALANCE * errs.gather(1, at)).squeeze(1)

    return loss
