"""Pictures in files: in memory where they fit, else decoded a few batches ahead of the training."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ard.data.splits import Split
from edge_bench.core.errors import InputError
from edge_bench.core.pictures.preprocessing import Preprocessing
from edge_bench.files.pictures.decode import (
    DECODED,
    opened,
    read_picture,
    unreadable,
    upright_size,
)

# Above this a dataset's decoded pictures stay in their files: ImageNet at 224 pixels has 190 GB.
IN_MEMORY_BYTES = 1 << 30

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
            with opened(path) as picture:
                width, height = upright_size(picture)
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
                raise unreadable(path, error) from None
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
