"""Does the exported artefact compute what the torch model computes, under attack too?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deploy.quantization.twin import open_as_target
from edge_bench import devices
from edge_bench.core.errors import InputError
from edge_bench.options.bench import BenchOptions
from edge_bench.robustness.inference import logits_of

BATCH_SIZE = 64
OPTIONS = BenchOptions()


@dataclass(frozen=True, kw_only=True)
class Parity:
    """Difference between an artefact and its torch model on one kind of images.

    Attributes:
        images: `clean` or `adversarial`.
        samples: number of images N.
        largest_difference: of any logit.
        agreement: fraction of images on which both choose the same class (see `compare`).
        torch_accuracy, artifact_accuracy: fractions of N.
    """

    images: str
    samples: int
    largest_difference: float
    agreement: float
    torch_accuracy: float
    artifact_accuracy: float


def levels_of(images: Tensor) -> Tensor:
    """Images in [0, 1] as levels of the 8-bit grid, uint8, which is what a device is given."""
    return (images * 255).round().to(torch.uint8)


def compare(
    model: nn.Module,
    artifact: Path,
    images: dict[str, Tensor],
    labels: Tensor,
    resolution: float = 0.0,
    root: Path = devices.ROOT,
) -> list[Parity]:
    """Run both over the same images on the 8-bit grid, in ONNX Runtime and in torch.

    Args:
        model: in eval mode, on the CPU.
        images: float images (N, C, H, W) in [0, 1] by kind; they are rounded to the grid.
        labels: (N,), shared by every kind.
        resolution: two classes are the same where torch's logits of them lie no farther apart
            than this fraction of the image's largest.
        root: of the file system, which tells whether this machine computes as the target does.

    Raises:
        InputError: the artefact gives NaN or infinite logits.
    """
    found: list[Parity] = []
    expected = labels.numpy()
    with open_as_target(artifact, root=root) as backend:
        for kind, some in images.items():
            parts = torch.split(levels_of(some), backend.input.batch_size or BATCH_SIZE)
            with torch.no_grad():
                theirs = np.concatenate([model(part.float() / 255).numpy() for part in parts])
            what, classes = f"{kind} images", theirs.shape[1]
            ours = np.concatenate(
                [logits_of(backend, part.numpy(), classes, OPTIONS, what) for part in parts]
            )
            found.append(
                Parity(
                    images=kind,
                    samples=len(some),
                    largest_difference=float(np.abs(ours - theirs).max()),
                    agreement=float(_same_class(ours, theirs, resolution).mean()),
                    torch_accuracy=float((theirs.argmax(1) == expected).mean()),
                    artifact_accuracy=float((ours.argmax(1) == expected).mean()),
                )
            )
    return found


def _same_class(
    ours: NDArray[np.float32], theirs: NDArray[np.float32], resolution: float
) -> NDArray[np.bool_]:
    chosen = np.take_along_axis(theirs, ours.argmax(axis=1)[:, None], axis=1)[:, 0]
    found: NDArray[np.bool_] = theirs.max(axis=1) - chosen <= resolution * np.abs(theirs).max(1)
    return found


def require_agreement(parities: list[Parity], least: float, what: str, remedy: str) -> None:
    """Refuse an artefact whose classes differ from torch's too often.

    Raises:
        InputError: agreement of `what` on some kind of images is below `least`.
    """
    for parity in parities:
        if parity.agreement < least:
            raise InputError(
                f"export: {what} agrees with the torch model on {parity.agreement:.2%} of "
                f"{parity.samples} {parity.images} images (largest logit difference "
                f"{parity.largest_difference:.3g}), expected {least:.2%} or more, so nothing was "
                f"written; {remedy}"
            )
