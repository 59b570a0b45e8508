"""What kind of file a path is, by its suffix in either case; what is inside is for readers to say.

Some systems write names in capitals, so `MODEL.ONNX` is an ONNX file.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path


class Kind(Enum):
    """Files that ardx reads or writes a model in, with their suffix."""

    ONNX = ".onnx"
    ENGINE = ".engine"
    BUNDLE = ".ardx"
    WEIGHTS = ".safetensors"


def kind_of(path: Path) -> Kind | None:
    """The kind of model file that the name of `path` promises; None for any other."""
    suffix = path.suffix.lower()
    return next((kind for kind in Kind if kind.value == suffix), None)
