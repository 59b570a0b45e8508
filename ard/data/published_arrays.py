"""More datasets that are published as arrays, through torchvision's readers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ard.data.splits import Dataset, Split
from edge_bench.core.errors import CapabilityError, InputError, first_line


def svhn(data_dir: Path, download: bool) -> Dataset:
    """Netzer et al. 2011: 73,257 and 26,032 digits on houses, 32x32 pixels."""
    from torchvision.datasets import SVHN

    files = "train_32x32.mat and test_32x32.mat"
    train, test = _parts("svhn", SVHN, files, data_dir, download)
    return Dataset(
        name="svhn",
        train=train,
        test=test,
        classes=10,
        class_names=tuple("0123456789"),
        # A mirrored digit is another one.
        flips=False,
    )


def stl10(data_dir: Path, download: bool) -> Dataset:
    """Coates et al. 2011: 5,000 and 8,000 pictures of 96x96 pixels in 10 classes."""
    from torchvision.datasets import STL10

    files = "stl10_binary with train_X.bin, train_y.bin, test_X.bin and test_y.bin"
    train, test = _parts("stl10", STL10, files, data_dir, download)
    return Dataset(
        name="stl10",
        train=train,
        test=test,
        classes=10,
        class_names=(
            *("airplane", "bird", "car", "cat", "deer"),
            *("dog", "horse", "monkey", "ship", "truck"),
        ),
        flips=True,
    )


def _parts(
    name: str, reader: Callable[..., Any], files: str, data_dir: Path, download: bool
) -> tuple[Split, Split]:
    """Training and test part, as torchvision reads and checks them."""

    def part(split: str) -> Split:
        try:
            found = reader(str(data_dir), split=split, download=download)
        # A damaged file of either format ends as any of these.
        except (RuntimeError, OSError, EOFError, ValueError, TypeError) as error:
            if download:
                raise CapabilityError(
                    f"--dataset {name}: cannot download into {data_dir} ({first_line(error)}); "
                    "check the connection or fetch it by hand"
                ) from None
            raise InputError(
                f"--dataset {name}: missing or damaged in {data_dir}, expected {files} as they are "
                "published; pass the folder that holds them as --data-dir, or --download to fetch "
                "them there"
            ) from None
        images = torch.from_numpy(np.ascontiguousarray(found.data))
        return Split(images, torch.as_tensor(np.asarray(found.labels), dtype=torch.int64))

    return part("train"), part("test")
