"""What to ask of pictures in files: where they lie, and how the product makes images of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_bench.core.pictures.walked import CARD


@dataclass(frozen=True, kw_only=True)
class PictureOptions:
    """Pictures to walk from file to logits.

    Attributes:
        folder: with one folder per class.
        pipeline: key of `pictures.PIPELINES`, or `MODULE:FUNCTION`.
    """

    folder: Path
    pipeline: str = CARD
