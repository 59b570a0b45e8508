"""Does the exported artefact compute what the torch model computes, under attack too?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_bench.backends import open_backend
from edge_bench.errors import InputError

BATCH_SIZE = 64


@dataclass(frozen=True, kw_only=True)
class Parity:
    """Difference between an artefact and its torch model on one kind of images.

    Attributes:
        images: `clean` or `adversarial`.
        samples: number of images N.
        largest_difference: of any logit.
        agreement: fraction of images on which both choose the same class.
        torch_accuracy, artifact_accuracy: fractions of N.
    """

    images: str
    samples: int
    largest_difference: float
    agreement: float
    torch_accuracy: float
    artifact_accuracy: float


def compare(
    model: nn.Module, artifact: Path, images: dict[str, Tensor], labels: Tensor
) -> list[Parity]:
    """Run both over the same images, in ONNX Runtime and in torch.

    Args:
        model: in eval mode, on the CPU.
        images: float images (N, C, H, W) in [0, 1] by kind.
        labels: (N,), shared by every kind.
    """
    found: list[Parity] = []
    expected = labels.numpy()
    with open_backend("ort", artifact, None) as backend:
        for kind, batch in images.items():
            ours = _in_batches(lambda x: backend.infer(x.numpy()), batch)
            theirs = _in_batches(lambda x: model(x).numpy(), batch)
            if not np.isfinite(ours).all():
                raise InputError(f"{artifact.name}: the exported graph gives NaN on {kind} images")
            found.append(
                Parity(
                    images=kind,
                    samples=len(batch),
                    largest_difference=float(np.abs(ours - theirs).max()),
                    agreement=float((ours.argmax(1) == theirs.argmax(1)).mean()),
                    torch_accuracy=float((theirs.argmax(1) == expected).mean()),
                    artifact_accuracy=float((ours.argmax(1) == expected).mean()),
                )
            )
    return found


def require_agreement(parities: list[Parity], least: float) -> None:
    """Refuse an artefact whose classes differ from torch's too often.

    Raises:
        InputError: agreement on some kind of images is below `least`.
    """
    for parity in parities:
        if parity.agreement < least:
            raise InputError(
                f"export: the artefact agrees with the torch model on {parity.agreement:.2%} of "
                f"{parity.samples} {parity.images} images (largest logit difference "
                f"{parity.largest_difference:.3g}), expected {least:.2%} or more, so nothing was "
                "written; try another --target or more --calibration-images, or lower "
                "--min-agreement"
            )


def _in_batches(function: Any, images: Tensor) -> NDArray[np.float32]:
    with torch.no_grad():
        parts = [function(part) for part in torch.split(images, BATCH_SIZE)]
    return np.concatenate(parts)
