"""One attack on one batch: what it is given, and the margin that tells whether it succeeded."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edge_bench.core.spec import AttackSpec


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attack on one batch.

    Attributes:
        model: in eval mode; images in [0, 1] to logits (B, C).
        images: clean ones, (B, C, H, W) in [0, 1].
        labels: (B,).
        spec: what to run with which budget.
        generator: of the CPU; every draw comes from it.
        targets: classes (B,) to aim at; None aims at any error.
        stop_when_fooled: samples that are wrong already are not attacked further.
        starts: images (B, C, H, W) in the ball that the first of several starts begins with; None
            begins with whatever the attack does by itself.
    """

    model: nn.Module
    images: Tensor
    labels: Tensor
    spec: AttackSpec
    generator: torch.Generator
    targets: Tensor | None = None
    stop_when_fooled: bool = False
    starts: Tensor | None = None

    @property
    def classes(self) -> Tensor:
        """The classes (B,) that the loss is of: those aimed at, else the labels."""
        return self.labels if self.targets is None else self.targets


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Largest other logit minus the label's, (B,): positive exactly where misclassified.

    The L-infinity form of Carlini and Wagner 2017, f_6 without its floor.
    """
    true = logits.gather(1, labels.unsqueeze(1)).squeeze(1)
    others = logits.scatter(1, labels.unsqueeze(1), -torch.inf)
    return others.amax(dim=1) - true
