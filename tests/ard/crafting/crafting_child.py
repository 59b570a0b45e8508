"""Crafting in a process of its own: one that can be killed, or whose memory is to be measured.

python crafting_child.py stuck OUT BATCH     waits for ever when batch BATCH is read
python crafting_child.py large FOLDER N ...  crafts N tiny images, opens, replays, for every N
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ard.attacks.victims import Victim
from ard.crafting.craft import craft_set
from ard.data.sources import Source, SplitSource, open_images
from ard.data.splits import Split
from edge_bench.backends.base import ImageInput
from edge_bench.core.spec import AttackSpec, BackendInfo, ModelCard, SetManifest
from edge_bench.devices.process import peak_memory_bytes
from edge_bench.files.sets import open_set
from edge_bench.options.bench import BenchOptions
from edge_bench.robustness.replay import correct_mask

SAMPLES, BATCH, CLASSES = 70, 20, 4
LARGE_BATCH = 5000


def model(pixels: int = 48) -> nn.Module:
    """A linear classifier, always the same."""
    head = nn.Linear(pixels, CLASSES)
    weights = torch.randn((CLASSES, pixels), generator=torch.Generator().manual_seed(0))
    head.load_state_dict({"weight": weights, "bias": torch.zeros(CLASSES)})
    return nn.Sequential(nn.Flatten(), head).eval().requires_grad_(False)


def victim(shape: tuple[int, int, int]) -> Victim:
    card = ModelCard(architecture="linear", dataset="noise", classes=CLASSES, input_shape=shape)
    pixels = shape[0] * shape[1] * shape[2]
    return Victim(
        path=Path("weights"), sha256="0", card=card, module=model(pixels), threat="white-box"
    )


def split() -> Split:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (SAMPLES, 3, 4, 4), dtype=torch.uint8, generator=generator)
    return Split(images, torch.randint(0, CLASSES, (SAMPLES,), generator=generator))


@dataclass(frozen=True)
class Watched(SplitSource):
    """Remembers which batches were read, and calls `at` before each."""

    at: Callable[[int], None] = lambda begin: None
    begins: list[int] = field(default_factory=list)

    def read(self, begin: int, end: int) -> Split:
        self.at(begin)
        self.begins.append(begin)
        return super().read(begin, end)


def watched(at: Callable[[int], None] = lambda begin: None) -> Watched:
    return Watched(split(), "noise", CLASSES, at=at)


def craft(images: Source, out: Path, *, seed: int = 0) -> SetManifest:
    """PGD with a random start, whose draws would show a batch that was numbered otherwise."""
    spec = AttackSpec(name="pgd", epsilon=8 / 255, step_size=2 / 255, steps=3, seed=seed)
    return craft_set(victim((3, 4, 4)), images, spec, out, batch_size=BATCH)


def stuck(out: Path, batch: int) -> None:
    """Craft until batch `batch` is asked for, say so, and wait to be killed."""

    def wait(begin: int) -> None:
        if begin == batch * BATCH:
            print("stuck", flush=True)
            sys.stdin.read()

    craft(watched(wait), out)


class Runtime:
    """A runtime that keeps nothing, so that the memory measured is that of the replay."""

    info = BackendInfo(name="numpy", version=np.__version__, providers=(), threads=1)
    input = ImageInput(
        name="images",
        dtype="float32",
        channels_last=False,
        image_shape=(1, 4, 4),
        batch_size=None,
    )
    classes: int | None = CLASSES
    card: ModelCard | None = None
    engine_sha256: str | None = None

    def infer(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        return np.stack([batch[:, 0, 0, i] for i in range(CLASSES)], axis=1)

    def __enter__(self) -> Runtime:
        return self

    def __exit__(self, *error: object) -> None:
        pass


def large(folder: Path, samples: int) -> None:
    """Craft from two arrays on the disk, open and replay the set; print the peak memory so far."""
    folder = folder / str(samples)
    folder.mkdir()
    shape = (1, 4, 4)
    for name, dtype, tail in (("images", np.uint8, shape), ("labels", np.int64, ())):
        header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": (samples, *tail)}
        with (folder / f"{name}.npy").open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            # A file with a hole: zeros that take no memory to write.
            os.truncate(
                file.fileno(), 128 + samples * np.dtype(dtype).itemsize * int(np.prod(tail))
            )
    spec = AttackSpec(name="fgsm", epsilon=8 / 255, step_size=None, steps=None)
    craft_set(
        victim(shape),
        open_images(folder, victim(shape).card),
        spec,
        folder / "set",
        batch_size=LARGE_BATCH,
    )
    found = open_set(folder / "set")
    options = BenchOptions(batch_size=LARGE_BATCH)
    for images in (found.images, found.clean):
        correct_mask(Runtime(), images, found.labels, CLASSES, options, "the set")
    print(peak_memory_bytes(), flush=True)


if __name__ == "__main__":
    for number in sys.argv[3:]:
        {"stuck": stuck, "large": large}[sys.argv[1]](Path(sys.argv[2]), int(number))
