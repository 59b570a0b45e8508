"""One step up: the gradient of an objective of logits to the input."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Objective = Callable[[Tensor], Tensor]
"""Logits (B, C) to one value per sample (B,), which the attack increases."""


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each sample, (B,)."""
    return F.cross_entropy(logits, labels, reduction="none")


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
