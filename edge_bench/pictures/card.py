"""What the card says, by Pillow: the way of the pictures that the model was trained on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_bench.files.pictures.decode import MODES, content_of, decoded, resized
from edge_bench.pictures.pipelines import Step, Wish

if TYPE_CHECKING:
    from PIL.Image import Image


def versions() -> dict[str, str]:
    """Of Pillow."""
    import PIL

    return {"pillow": PIL.__version__}


def steps(wish: Wish) -> Iterator[tuple[str, Step]]:
    """Read, decode upright, resize."""
    mode, how = MODES[wish.channels], wish.preprocessing

    def decode(content: bytes, path: Path) -> Image:
        return decoded(path, mode, content)

    def resize(image: Image, _: Path) -> NDArray[np.uint8]:
        return np.asarray(image if how is None else resized(image, how))

    yield "read", lambda _, path: content_of(path)
    yield "decode", decode
    yield "resize", resize
