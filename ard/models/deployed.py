"""A deployed artefact as a torch module: its own logits, and its parent's gradients.

Rounding has no useful derivative, so an attack that only sees an INT8 artefact's gradients sees
nothing, and one that only sees its FP32 parent's logits attacks another model. Backward-pass
differentiable approximation (Athalye et al. 2018, BPDA) takes the value from the runtime and the
Jacobian from the parent at the same image: the adaptive white-box attack on the artefact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ard.models.folding import for_attack
from edge_bench.backends.base import Backend
from edge_bench.options.bench import BenchOptions
from edge_bench.robustness.inference import logits_of

OPTIONS = BenchOptions()
WHAT = "one of the images that are attacked"


class Deployed(nn.Module):
    """The logits that a runtime computes, differentiable through the artefact's FP32 parent.

    Args:
        backend: the artefact, opened in its runtime.
        parent: the model whose Jacobian stands in; None where nothing asks for gradients.
        classes: C, for the check of the runtime's output.
        options: the normalisation, where it is outside of the graph.

    Images that the graph reads as uint8 are rounded to the 8-bit grid on the way in, which is
    what the device would be given.
    """

    def __init__(
        self,
        backend: Backend,
        parent: nn.Module | None,
        classes: int,
        options: BenchOptions = OPTIONS,
    ) -> None:
        super().__init__()
        self._backend, self._classes, self._options = backend, classes, options
        self.parent = None if parent is None else for_attack(parent)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to logits (B, C)."""
        logits = self._from_runtime(images.detach())
        if not (torch.is_grad_enabled() and images.requires_grad):
            return logits
        assert self.parent is not None, "gradients were asked of an artefact without a parent"
        passed: Tensor = _StraightThrough.apply(self.parent(images), logits)
        return passed

    def passed_to(self, parent_logits: Tensor, images: Tensor) -> Tensor:
        """The same where the parent's logits (B, C) of the images are at hand, with their graph."""
        passed: Tensor = _StraightThrough.apply(parent_logits, self._from_runtime(images.detach()))
        return passed

    def without_gradients(self) -> Deployed:
        """The same without a parent, for attacks by scores."""
        return Deployed(self._backend, None, self._classes, self._options)

    def normalised(self, mean: tuple[float, ...], std: tuple[float, ...]) -> Deployed:
        """The same, by scores, with another normalisation outside of the graph."""
        return Deployed(self._backend, None, self._classes, BenchOptions(mean=mean, std=std))

    @property
    def reads_levels(self) -> bool:
        """Does the graph take uint8, and normalise itself?"""
        return self._backend.input.dtype == "uint8"

    def _from_runtime(self, images: Tensor) -> Tensor:
        array = images.float().cpu().numpy()
        if self.reads_levels:
            array = (images.float() * 255).round().to(torch.uint8).cpu().numpy()
        bound = self._backend.input.batch_size or max(len(array), 1)
        parts = [
            logits_of(
                self._backend, array[begin : begin + bound], self._classes, self._options, WHAT
            )
            for begin in range(0, len(array), bound)
        ]
        return torch.from_numpy(np.concatenate(parts)).to(images.device)


class _StraightThrough(torch.autograd.Function):
    """The runtime's logits forwards; backwards the gradient goes to the parent's, unchanged."""

    @staticmethod
    def forward(ctx: Any, parent_logits: Tensor, logits: Tensor) -> Tensor:
        return logits.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def reads_levels(model: nn.Module) -> bool:
    """Is it an artefact that is given 8-bit levels alone?"""
    return isinstance(model, Deployed) and model.reads_levels
