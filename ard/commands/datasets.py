"""The dataset of a command on a model: --dataset, or what the model was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ard.commands import flags as o

if TYPE_CHECKING:
    from ard.data.splits import Dataset
    from ard.processes.world import World
    from edge_bench.core.spec import ModelCard


class Asked(Protocol):
    """The options that say which images, and how they are read."""

    @property
    def dataset(self) -> str | None:
        """--dataset."""

    @property
    def data_dir(self) -> Path:
        """--data-dir."""

    @property
    def download(self) -> bool:
        """--download."""

    @property
    def image_size(self) -> int | None:
        """--image-size."""

    @property
    def resize(self) -> str | None:
        """--resize."""


def load_named(asked: Asked, world: World, name: str) -> Dataset:
    """The dataset of a name; of several processes of a machine the first one reads it first."""
    from ard.data.datasets import load_dataset

    return world.first_here(
        lambda: load_dataset(
            name,
            asked.data_dir,
            download=asked.download,
            image_size=asked.image_size,
            resize=asked.resize,
        )
    )


def dataset_for(
    asked: Asked, model: Path, card: ModelCard, foreign: o.Foreign, world: World
) -> Dataset:
    """The images of a trained model, with its classes; what was passed over is told.

    Args:
        foreign: has them already where the model was an ONNX file without a card.
    """
    from ard.data.datasets import dataset_of, matched

    if foreign.data is not None:
        data = matched(model, card, foreign.data)
    else:
        data = world.first_here(
            lambda: dataset_of(
                model,
                card,
                asked.dataset,
                asked.data_dir,
                download=asked.download,
                image_size=asked.image_size,
                resize=asked.resize,
            )
        )
    o.tell_skipped(data.skipped)
    return data
