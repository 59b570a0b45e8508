"""The datasets by name. To add one: a loader in a file of this folder, and an entry below.

Nothing here imports torch, so that help and messages can name every dataset.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from edge_bench.core.pictures.preprocessing import CROP, Preprocessing

if TYPE_CHECKING:
    from ard.data.splits import Dataset


@dataclass(frozen=True, kw_only=True)
class NamedDataset:
    """A dataset that is known by name.

    Attributes:
        loader: where its function of (data_dir, download) is, `FILE:FUNCTION` in this folder; of
            (data_dir, download, preprocessing) where it is made of pictures.
        files: what of it lies in --data-dir, as it is published; empty where a package brings it.
        pictures: made of picture files, which --image-size may resize.
        preprocessing: how its pictures become images where nobody asks for another size.
    """

    loader: str
    files: str = ""
    pictures: bool = False
    preprocessing: Preprocessing | None = None

    def load(
        self, data_dir: Path, download: bool, preprocessing: Preprocessing | None = None
    ) -> Dataset:
        """Read it from `data_dir`, where `download` fetches it if that is possible."""
        how = (preprocessing,) if self.pictures else ()
        return _loaded(self.loader, data_dir, download, *how)


@dataclass(frozen=True, kw_only=True)
class OwnPictures:
    """A kind of datasets of the user's, `KIND:PATH`.

    Attributes:
        loader: where its function of (path, what was asked, preprocessing) is.
        what: the path, as help calls it.
    """

    loader: str
    what: str

    def load(self, path: Path, asked: str, preprocessing: Preprocessing | None) -> Dataset:
        """Read it."""
        return _loaded(self.loader, path, asked, preprocessing)


def _loaded(loader: str, *given: object) -> Dataset:
    file, function = loader.split(":")
    found: Dataset = getattr(import_module(f"ard.data.{file}"), function)(*given)
    return found


DATASETS: dict[str, NamedDataset] = {
    "digits": NamedDataset(loader="datasets:digits"),
    "fashion-mnist": NamedDataset(loader="datasets:fashion_mnist", files="FashionMNIST/raw"),
    "cifar10": NamedDataset(loader="datasets:cifar10", files="cifar-10-batches-py"),
    "cifar100": NamedDataset(loader="datasets:cifar100", files="cifar-100-python"),
    "svhn": NamedDataset(loader="published_arrays:svhn", files="train_32x32.mat"),
    "stl10": NamedDataset(loader="published_arrays:stl10", files="stl10_binary"),
    "gtsrb": NamedDataset(
        loader="published_pictures:gtsrb",
        files="gtsrb",
        pictures=True,
        preprocessing=Preprocessing(side=32),
    ),
    "tiny-imagenet": NamedDataset(
        loader="published_pictures:tiny_imagenet", files="tiny-imagenet-200", pictures=True
    ),
    "imagenet": NamedDataset(
        loader="published_pictures:imagenet",
        files="imagenet",
        pictures=True,
        preprocessing=Preprocessing(side=224, policy=CROP, crop_share=0.875),
    ),
}
LISTS: dict[str, OwnPictures] = {
    "imagefolder": OwnPictures(loader="folders:image_folder", what="PATH"),
    "csv": OwnPictures(loader="csv_list:csv_list", what="FILE"),
}
KNOWN = ", ".join([*DATASETS, *(f"{kind}:{each.what}" for kind, each in LISTS.items())])
"""The names as people type them."""
