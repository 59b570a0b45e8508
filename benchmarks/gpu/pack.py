"""A dataset in parts that are each small enough to travel, without a loss.

    python -m benchmarks.gpu.pack --data-dir DATA --out packed

Images of small datasets compress badly as they are, and by a third better as the difference of each
pixel from its left neighbour. A part is an npz of some images; `parts.json` holds their sha256.
"""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from ard.data.datasets import load_dataset
from ard.data.splits import Dataset, Split
from benchmarks import command
from edge_bench.core.errors import InputError
from edge_bench.files.store import atomic_directory, sha256_file

INDEX = "parts.json"
LARGEST = 60 << 20
IMAGES = 15_000
"""Images a part: of CIFAR-10 they pack into less than LARGEST even where nothing compresses."""


def packed(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N, C, H, W) levels as differences along each row, modulo 256."""
    shifted = np.zeros_like(images)
    shifted[..., 1:] = images[..., :-1]
    return images - shifted


def unpacked(differences: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The inverse of `packed`."""
    return np.cumsum(differences, axis=-1, dtype=np.uint8)


def write(dataset: Dataset, out: Path, force: bool = False) -> list[Path]:
    """Write the parts of a dataset.

    Raises:
        InputError: a part is larger than LARGEST.
    """
    with atomic_directory(out, force, INDEX) as folder:
        index: dict[str, Any] = {
            "name": dataset.name,
            "classes": dataset.classes,
            "flips": dataset.flips,
            "class_names": dataset.class_names,
            "sha256": {"train": dataset.train.sha256, "test": dataset.test.sha256},
            "parts": [],
        }
        for kind, split in (("train", dataset.train), ("test", dataset.test)):
            for begin in range(0, len(split), IMAGES):
                part = split.part(begin, begin + IMAGES)
                name = f"{kind}-{begin // IMAGES}.npz"
                images, labels = part.images.numpy(), part.labels.numpy().astype(np.int32)
                np.savez_compressed(folder / name, images=packed(images), labels=labels)
                if (size := (folder / name).stat().st_size) > LARGEST:
                    raise InputError(f"{name}: expected at most {LARGEST} bytes, came {size}")
                index["parts"].append({"file": name, "sha256": sha256_file(folder / name)})
        (folder / INDEX).write_text(json.dumps(index, indent=2), encoding="utf-8")
    return sorted(out.iterdir())


def read(folder: Path) -> Dataset:
    """The dataset of a folder of parts.

    Raises:
        InputError: a part is missing or damaged, or all of them are not what was packed.
    """
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(
            f"{folder}: expected {INDEX} and its parts; make them: python -m benchmarks.gpu.pack"
        ) from None
    splits: dict[str, list[tuple[NDArray[np.uint8], NDArray[np.int32]]]] = {"train": [], "test": []}
    for part in index["parts"]:
        path = folder / part["file"]
        content = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(content).hexdigest() != part["sha256"]:
            raise InputError(f"{path}: missing, or not the part that {INDEX} names; pack it again")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            kind = part["file"].partition("-")[0]
            splits[kind].append((unpacked(arrays["images"]), arrays["labels"]))
    joined = {kind: _joined(parts) for kind, parts in splits.items()}
    if {kind: split.sha256 for kind, split in joined.items()} != index["sha256"]:
        raise InputError(f"{folder}: the parts together are not what was packed; pack them again")
    names = index["class_names"]
    return Dataset(
        name=index["name"],
        classes=index["classes"],
        flips=index["flips"],
        class_names=None if names is None else tuple(names),
        train=joined["train"],
        test=joined["test"],
    )


def _joined(parts: list[tuple[NDArray[np.uint8], NDArray[np.int32]]]) -> Split:
    images = np.concatenate([images for images, _ in parts])
    labels = np.concatenate([labels for _, labels in parts]).astype(np.int64)
    return Split(torch.from_numpy(images), torch.from_numpy(labels))


def main(
    data_dir: Annotated[Path, typer.Option(help="Folder with the official files.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    dataset: Annotated[str, typer.Option(help="Dataset.")] = "cifar10",
    force: Annotated[bool, typer.Option(help="Replace an older folder.")] = False,
) -> None:
    """Pack a dataset, and read it again to see that nothing was lost."""
    for path in write(load_dataset(dataset, data_dir), out, force):
        print(f"{path}: {path.stat().st_size} bytes")
    read(out)


if __name__ == "__main__":
    command.run(main)
