"""The card's size and crop as OpenCV makes them: another decoder, and a resize of four pixels.

INTER_LINEAR looks at the four nearest pixels however small the image becomes, where Pillow weighs
all that an output pixel covers.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_bench.core.pictures.preprocessing import CROP, STRETCH, Preprocessing
from edge_bench.files.pictures.decode import content_of, unreadable
from edge_bench.pictures.pipelines import Step, Wish

Levels = NDArray[np.uint8]


def versions() -> dict[str, str]:
    """Of OpenCV."""
    import cv2

    return {"opencv": cv2.__version__}


def steps(wish: Wish) -> Iterator[tuple[str, Step]]:
    """Read, decode (OpenCV turns a picture upright itself), resize."""
    import cv2

    how, grey = wish.preprocessing, wish.channels == 1

    def decode(content: bytes, path: Path) -> Levels:
        kind = cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR
        try:
            found = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), kind)
        except cv2.error as error:
            raise unreadable(path, error) from None
        if found is None:
            raise unreadable(path, ValueError("OpenCV cannot decode it"))
        levels: Levels = found if grey else cv2.cvtColor(found, cv2.COLOR_BGR2RGB)
        return levels

    def resize(levels: Levels, _: Path) -> Levels:
        return levels if how is None else _resized(levels, how)

    yield "read", lambda _, path: content_of(path)
    yield "decode", decode
    yield "resize", resize


def _resized(levels: Levels, how: Preprocessing) -> Levels:
    import cv2

    height, width = levels.shape[:2]
    if how.policy == STRETCH:
        return _linear(levels, how.side, how.side)
    if how.policy == CROP:
        # Slices have whole pixels, where Pillow's box has parts of some.
        side = max(1, round(how.crop_share * min(width, height)))
        top, left = (height - side) // 2, (width - side) // 2
        return _linear(levels[top : top + side, left : left + side], how.side, how.side)
    scale = how.side / max(width, height)
    inner = _linear(levels, max(1, round(width * scale)), max(1, round(height * scale)))
    top, left = ((how.side - size) // 2 for size in inner.shape[:2])
    below, beside = how.side - top - inner.shape[0], how.side - left - inner.shape[1]
    padded: Levels = cv2.copyMakeBorder(inner, top, below, left, beside, cv2.BORDER_CONSTANT)
    return padded


def _linear(levels: Levels, width: int, height: int) -> Levels:
    import cv2

    found: Levels = cv2.resize(levels, (width, height), interpolation=cv2.INTER_LINEAR)
    return found
