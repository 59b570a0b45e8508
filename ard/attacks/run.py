"""Run an attack on a batch, by its specification."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ard.attacks.attempt import Attempt
from ard.attacks.registry import ATTACKS
from ard.processes.memory import keep_freed_memory
from edge_bench.core.errors import InputError
from edge_bench.core.spec import AttackSpec


def targets_of(
    model: nn.Module, images: Tensor, labels: Tensor, spec: AttackSpec, generator: torch.Generator
) -> Tensor | None:
    """The classes (B,) that a targeted attack aims at; None for an untargeted one.

    A sample whose label is the chosen class itself is aimed at the next class, so that reaching
    the target is always an error.
    """
    if spec.target is None:
        return None
    with torch.no_grad():
        logits: Tensor = model(images)
    classes = logits.shape[1]
    if spec.target == "least_likely":
        return logits.scatter(1, labels.unsqueeze(1), torch.inf).argmin(dim=1)
    if spec.target == "random":
        offset = torch.randint(1, classes, labels.shape, generator=generator).to(labels.device)
        return (labels + offset) % classes
    wanted = int(spec.target)
    if wanted >= classes:
        raise InputError(
            f"--target-class {wanted}: expected a class from 0 to {classes - 1}, least_likely or "
            "random"
        )
    target = torch.full_like(labels, wanted)
    return torch.where(target == labels, (target + 1) % classes, target)


def run_attack(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    spec: AttackSpec,
    batch_index: int,
    *,
    stop_when_fooled: bool = False,
    starts: Tensor | None = None,
) -> Tensor:
    """Attack one batch (model in eval mode); the draws depend on the seed and batch alone.

    Args:
        images: (B, C, H, W) in [0, 1].
        labels: (B,).
        stop_when_fooled: leave a sample at the first image that the model gets wrong, which is all
            that an evaluation asks for; otherwise the attack goes on to the largest margin it
            finds, which transfers better.
        starts: images in the ball to begin with (see `Attempt`).

    Returns:
        adversarial images inside the ball and the box.
    """
    keep_freed_memory()
    generator = torch.Generator().manual_seed(spec.seed * 1_000_003 + batch_index)
    attempt = Attempt(
        model=model,
        images=images,
        labels=labels,
        spec=spec,
        generator=generator,
        targets=targets_of(model, images, labels, spec, generator),
        stop_when_fooled=stop_when_fooled,
        starts=starts,
    )
    return ATTACKS[spec.name].function(attempt)
