"""One picture of a file as pixels, by Pillow: what training saw, and what a product has to show."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_bench.core.errors import InputError, first_line
from edge_bench.core.pictures.preprocessing import CROP, STRETCH, Preprocessing
from edge_bench.files.pictures.tree import FORMATS

if TYPE_CHECKING:
    from PIL.Image import Image

ORIENTATION, QUARTER_TURNS = 0x0112, (5, 6, 7, 8)
"""EXIF's tag, and those of its values that swap width and height."""
DECODED = "upright"
"""How pictures are decoded; another word where the same files would give other pixels."""
MODES = {1: "L", 3: "RGB"}
"""Pillow's mode of pictures by the channels of a model."""


def read_picture(path: Path, mode: str, preprocessing: Preprocessing | None) -> NDArray[np.uint8]:
    """One picture, upright, as uint8: (H, W, 3) of mode `RGB`, (H, W) of mode `L`.

    Transparency is dropped: what shows is the colour below it. Of several frames the first counts.

    Raises:
        InputError: no readable picture, or one of more than 8 bits a channel.
    """
    image = decoded(path, mode)
    return np.asarray(image if preprocessing is None else resized(image, preprocessing))


def decoded(path: Path, mode: str, content: bytes | None = None) -> Image:
    """The picture of a file, or of `content` that was read from it, as `read_picture` has it."""
    with opened(path, content) as picture:
        picture.load()
        # Of a palette's transparency Pillow warns, and then drops it, too.
        picture.info.pop("transparency", None)
        return _upright(picture).convert(mode)


def content_of(path: Path) -> bytes:
    """All of a picture's file.

    Raises:
        InputError: no regular file: a pipe or a device is not waited for.
    """
    try:
        _require_regular(path)
        return path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from None


def _require_regular(path: Path) -> None:
    if not path.is_file():
        raise OSError("not a regular file" if path.exists() else "no such file")


def resized(image: Image, how: Preprocessing) -> Image:
    """The square image of a picture, upright and in its mode."""
    from PIL import Image
    from PIL.Image import Resampling

    square = (how.side, how.side)
    width, height = image.size
    if how.policy == STRETCH:
        return image.resize(square, Resampling.BILINEAR)
    if how.policy == CROP:
        side = how.crop_share * min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
        return image.resize(square, Resampling.BILINEAR, box=box)
    scale = how.side / max(width, height)
    inner = max(1, round(width * scale)), max(1, round(height * scale))
    padded = Image.new(image.mode, square)
    corner = (how.side - inner[0]) // 2, (how.side - inner[1]) // 2
    padded.paste(image.resize(inner, Resampling.BILINEAR), corner)
    return padded


@contextmanager
def opened(path: Path, content: bytes | None = None) -> Generator[Image]:
    """The picture of a file, or of its `content`, whose pixels are not read yet."""
    from PIL import Image, UnidentifiedImageError

    try:
        if content is None:
            _require_regular(path)
        with Image.open(path if content is None else BytesIO(content), formats=FORMATS) as picture:
            if _is_deep(picture):
                raise InputError(
                    f"{path}: more than 8 bits a channel, which would not survive; convert it"
                )
            yield picture
    except UnidentifiedImageError:
        # Pillow's sentence names the object that it read from.
        raise unreadable(path, ValueError(f"it begins as none of {', '.join(FORMATS)}")) from None
    # A damaged file ends as any of these, depending on its format.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise unreadable(path, error) from None


def _is_deep(picture: Image) -> bool:
    """Has it more than 8 bits a channel? Pillow cuts colours of 16 bits to 8 without a word.

    How the pixels lie in the file its tiles tell: a raw mode such as `RGB;16B`, and of a PPM the
    largest value where that is not 255.
    """
    if picture.mode[0] in "IF":
        return True
    for tile in getattr(picture, "tile", ()):
        raw, *more = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        if picture.format == "PPM":
            if more and more[0] > 255:
                return True
        # In a BMP ;16 means 16 bits for all channels together.
        elif picture.format != "BMP" and ";16" in str(raw):
            return True
    return False


def upright_size(picture: Image) -> tuple[int, int]:
    """(width, height) once the orientation in its EXIF data is applied."""
    width, height = picture.size
    # Of a TIFF Pillow gives the upright size, and when it loads it, the upright pixels.
    turned = picture.format != "TIFF" and _orientation(picture) in QUARTER_TURNS
    return (height, width) if turned else (width, height)


def _upright(picture: Image) -> Image:
    """The picture, loaded, as its orientation wants it shown."""
    from PIL.Image import Transpose

    # Not ImageOps.exif_transpose, which writes the other tags anew and fails where one is damaged.
    turn = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }.get(_orientation(picture))
    return picture if turn is None else picture.transpose(turn)


def _orientation(picture: Image) -> int:
    """1 to 8; 1 where none is stated, or none that can be read."""
    from PIL import Image

    try:
        # Not the method of PNG, which decodes the whole file in search of a block at its end.
        found = Image.Image.getexif(picture).get(ORIENTATION)
    except Exception:
        # A damaged block raises almost anything; viewers show such a picture as it lies.
        return 1
    return found if isinstance(found, int) else 1


def unreadable(path: Path, error: BaseException) -> InputError:
    """What to raise of a file that gives no picture."""
    return InputError(f"{path}: not a readable picture ({first_line(error)})")
