"""The classes that a network chooses."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge_bench.core.errors import InputError


class NotFiniteError(InputError):
    """A network whose logits are no numbers."""


def predict(model: nn.Module, images: Tensor) -> Tensor:
    """Classes (B,) of images (B, C, H, W) in [0, 1].

    Raises:
        NotFiniteError: the model gives NaN or infinite logits.
    """
    with torch.no_grad():
        logits: Tensor = model(images)
    if not bool(torch.isfinite(logits).all()):
        raise NotFiniteError(
            "the model gives NaN or infinite logits, so its accuracy would be meaningless; train "
            "it again or check the file"
        )
    return logits.argmax(dim=1)
