"""The datasets by name. To add one: a loader in a file of this folder, and an entry below.

Nothing here imports torch, so that help and messages can name every dataset.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ard.data.splits import Dataset


@dataclass(frozen=True, kw_only=True)
class NamedDataset:
    """A dataset that is known by name.

    Attributes:
        loader: where its function of (data_dir, download) is, `FILE:FUNCTION` in this folder.
        files: what of it lies in --data-dir, as it is published; empty where a package brings it.
    """

    loader: str
    files: str = ""

    def load(self, data_dir: Path, download: bool) -> Dataset:
        """Read it from `data_dir`, where `download` fetches it if that is possible."""
        file, function = self.loader.split(":")
        found: Dataset = getattr(import_module(f"ard.data.{file}"), function)(data_dir, download)
        return found


DATASETS: dict[str, NamedDataset] = {
    "digits": NamedDataset(loader="datasets:digits"),
    "fashion-mnist": NamedDataset(loader="datasets:fashion_mnist", files="FashionMNIST/raw"),
    "cifar10": NamedDataset(loader="datasets:cifar10", files="cifar-10-batches-py"),
    "cifar100": NamedDataset(loader="datasets:cifar100", files="cifar-100-python"),
    "tiny-imagenet": NamedDataset(loader="datasets:tiny_imagenet", files="tiny-imagenet-200"),
}
KNOWN = ", ".join([*DATASETS, "imagefolder:PATH"])
"""The names as people type them."""
