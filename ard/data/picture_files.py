"""Pictures in files: in memory where they fit, else decoded a few batches ahead of the training."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ard.data.picture_tree import FORMATS
from ard.data.splits import Split
from edge_bench.core.errors import InputError, first_line
from edge_bench.core.pictures.preprocessing import CROP, STRETCH, Preprocessing

if TYPE_CHECKING:
    from PIL.Image import Image

# Above this a dataset's decoded pictures stay in their files: ImageNet at 224 pixels has 190 GB.
IN_MEMORY_BYTES = 1 << 30

ORIENTATION, QUARTER_TURNS = 0x0112, (5, 6, 7, 8)
"""EXIF's tag, and those of its values that swap width and height."""
DECODED = "upright"
"""How pictures are decoded; another word where the same files would give other pixels."""

# Decoding gives up Python's lock, so a few threads keep ahead of any training step.
MOST_THREADS = 8


@dataclass(frozen=True, kw_only=True)
class PictureFiles:
    """Pictures of one size, in files; see `data.Stored`.

    Attributes:
        root: what the files are named relative to.
        preprocessing: how every picture becomes an image; None takes them as they are.
        size: (height, width) of the pictures once they are read.
        index: which of the paths, in order.
        mode: `RGB`, or `L` for grey ones.
    """

    paths: list[Path]
    root: Path
    preprocessing: Preprocessing | None
    size: tuple[int, int]
    index: Tensor
    mode: str = "RGB"

    @property
    def shape(self) -> torch.Size:
        """(N, C, H, W)."""
        return torch.Size((len(self.index), len(self.mode), *self.size))

    def at(self, index: Tensor) -> PictureFiles:
        """Some of them; nothing is read yet."""
        return replace(self, index=self.index[index])

    def read(self) -> Tensor:
        """Decode them all: (N, C, H, W) uint8.

        Raises:
            InputError: no readable picture, or one of another size.
        """
        images = torch.empty(self.shape, dtype=torch.uint8)
        for row, chosen in enumerate(self.index.tolist()):
            path = self.paths[chosen]
            picture = read_picture(path, self.mode, self.preprocessing)
            self._check_size(path, picture.shape[0], picture.shape[1])
            planes = picture.reshape(*picture.shape[:2], -1).transpose(2, 0, 1)
            images[row] = torch.from_numpy(planes.copy())
        return images

    def check_sizes(self) -> None:
        """Read every file's head, so that a picture of another size does not end a long run."""
        if self.preprocessing is not None:
            return
        for chosen in self.index.tolist():
            path = self.paths[chosen]
            with _opened(path) as picture:
                width, height = _upright_size(picture)
            self._check_size(path, height, width)

    def digest(self) -> str:
        """Hex digest of the files' names and sizes and of the size they are brought to.

        Not of their pixels: decoding a dataset that does not fit into memory takes hours.
        """
        digest = hashlib.sha256(f"{DECODED}\0{token(self.preprocessing)}\0{self.size}".encode())
        for chosen in self.index.tolist():
            path = self.paths[chosen]
            try:
                size = path.stat().st_size
            except OSError as error:
                raise _unreadable(path, error) from None
            # As bytes: a name need not be text.
            name = os.fsencode(path.relative_to(self.root).as_posix())
            digest.update(name + f"\0{size}\0".encode())
        return digest.hexdigest()

    def _check_size(self, path: Path, height: int, width: int) -> None:
        if (height, width) != self.size:
            raise InputError(
                f"{path}: {width}x{height} pixels, but the first picture has "
                f"{self.size[1]}x{self.size[0]}; give --image-size to resize them all"
            )


def pictures_of(
    paths: list[Path],
    labels: Iterable[int],
    root: Path,
    preprocessing: Preprocessing | None,
    mode: str = "RGB",
) -> Split:
    """Pictures with labels: in memory up to `IN_MEMORY_BYTES`, else left in their files."""
    if not paths:
        raise InputError("an empty list of pictures; check the dataset's files")
    height, width = read_picture(paths[0], mode, preprocessing).shape[:2]
    files = PictureFiles(
        paths=paths,
        root=root,
        preprocessing=preprocessing,
        size=(height, width),
        index=torch.arange(len(paths)),
        mode=mode,
    )
    split = Split(files, torch.as_tensor(np.asarray(labels), dtype=torch.int64))
    if files.shape.numel() <= IN_MEMORY_BYTES:
        return split.loaded()
    files.check_sizes()
    return split


def loaded_ahead(split: Split, indices: Iterable[Tensor]) -> Generator[Split]:
    """The batches at `indices`, in memory; pictures are decoded while earlier ones are used."""
    if not split.streams:
        yield from (split.at(index) for index in indices)
        return
    threads = min(MOST_THREADS, os.cpu_count() or 1)
    waiting: deque[Future[Split]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decoding")
    try:
        for index in indices:
            waiting.append(pool.submit(split.at(index).loaded))
            # One batch a thread beside the one that is asked for, and no more in memory.
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def token(preprocessing: Preprocessing | None) -> str:
    """What tells pictures that become images in another way, in their digests."""
    return "None" if preprocessing is None else preprocessing.token


def read_picture(path: Path, mode: str, preprocessing: Preprocessing | None) -> NDArray[np.uint8]:
    """One picture, upright, as uint8: (H, W, 3) of mode `RGB`, (H, W) of mode `L`.

    Transparency is dropped: what shows is the colour below it. Of several frames the first counts.

    Raises:
        InputError: no readable picture, or one of more than 8 bits a channel.
    """
    with _opened(path) as picture:
        picture.load()
        # Of a palette's transparency Pillow warns, and then drops it, too.
        picture.info.pop("transparency", None)
        image = _upright(picture).convert(mode)
    return np.asarray(image if preprocessing is None else _resized(image, preprocessing))


def _resized(image: Image, how: Preprocessing) -> Image:
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
def _opened(path: Path) -> Generator[Image]:
    """The picture, whose pixels are not read yet."""
    from PIL import Image

    try:
        if not path.is_file():
            raise OSError("not a regular file" if path.exists() else "no such file")
        with Image.open(path, formats=FORMATS) as picture:
            if _is_deep(picture):
                raise InputError(
                    f"{path}: more than 8 bits a channel, which would not survive; convert it"
                )
            yield picture
    # A damaged file ends as any of these, depending on its format.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from None


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


def _upright_size(picture: Image) -> tuple[int, int]:
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


def _unreadable(path: Path, error: BaseException) -> InputError:
    return InputError(f"{path}: not a readable picture ({first_line(error)})")
