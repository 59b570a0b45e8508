"""Loaders of datasets; their names are in `registry`. Nothing is downloaded unless asked for."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ard.data.picture_folder import taken_as_indices
from ard.data.registry import DATASETS, KNOWN, LISTS
from ard.data.splits import SPLIT_SEED, Dataset, Split, stratified_subset
from edge_bench.core.errors import CapabilityError, InputError, first_line
from edge_bench.core.pictures.preprocessing import Preprocessing, preprocessing_of
from edge_bench.core.spec import ModelCard
from edge_bench.files.pictures.tree import labels_of


def load_dataset(
    name: str,
    data_dir: Path,
    *,
    download: bool = False,
    image_size: int | None = None,
    resize: str | None = None,
) -> Dataset:
    """Load a dataset by name: a key of DATASETS, `imagefolder:PATH` or `csv:FILE`.

    Example:
        digits = load_dataset("digits", Path("data"))

    Args:
        data_dir: folder that holds the dataset's official files; unused by `digits`.
        download: fetch it there if torchvision can.
        image_size: side in pixels to which pictures are brought.
        resize: how, as of `preprocessing_of`.

    Raises:
        InputError: unknown name, missing, damaged or empty files.
    """
    how = _asked(name, image_size, resize)
    kind, colon, where = name.partition(":")
    if colon and kind in LISTS:
        # A model card names the file or folder alone, so that no private path travels in it.
        path = Path(where)
        if not path.exists() and (data_dir / path).exists():
            path = data_dir / path
        dataset = LISTS[kind].load(path, name, how)
    elif name in DATASETS:
        dataset = DATASETS[name].load(data_dir, download, how)
    else:
        raise InputError(f"--dataset {name}: expected one of {KNOWN}")
    return _checked(dataset, name, data_dir)


def dataset_of(
    model: Path,
    card: ModelCard,
    name: str | None,
    data_dir: Path,
    *,
    download: bool = False,
    image_size: int | None = None,
    resize: str | None = None,
) -> Dataset:
    """The dataset for a trained model: its own, or one that is named, as its card prepares it.

    Its labels are the model's (see `matched`). What is asked wins over the card, and is told.

    Raises:
        InputError: as `load_dataset` and `matched`.
    """
    name = name or card.dataset
    how, told = prepared_for(card, image_size, resize)
    if not holds_pictures(name) and image_size is None and resize is None:
        how = None
    dataset = load_dataset(
        name,
        data_dir,
        download=download,
        image_size=how.side if how else None,
        resize=how.resize if how else None,
    )
    dataset = replace(dataset, skipped="\n".join(filter(None, (dataset.skipped, told))))
    return matched(model, card, dataset)


def prepared_for(
    card: ModelCard, image_size: int | None, resize: str | None
) -> tuple[Preprocessing | None, str]:
    """How pictures become images of a trained model, and a line where that is not as its card says.

    Raises:
        InputError: a size that the model does not read.
    """
    known = card.preprocessing
    side = image_size or (known.side if known else None)
    if resize is not None and side is None:
        side = card.input_shape[1]
    if side is None:
        return None, ""
    if card.input_shape[1:] != (side, side):
        _, height, width = card.input_shape
        raise InputError(
            f"--image-size {side}: the model reads {width}x{height} pixels; give that size"
            + (", or leave it out" if known else "")
        )
    how = known if known and resize is None else preprocessing_of(side, resize)
    if known and how != known:
        return how, f"--resize {resize}: the model was trained on pictures of {known}"
    return how, ""


def holds_pictures(name: str) -> bool:
    """Whether a dataset's images are made of pictures, so that --image-size applies."""
    return name.partition(":")[0] in LISTS or (name in DATASETS and DATASETS[name].pictures)


def _asked(name: str, image_size: int | None, resize: str | None) -> Preprocessing | None:
    """What --image-size and --resize ask for, or what the dataset has where they do not."""
    own = DATASETS[name].preprocessing if name in DATASETS else None
    if image_size is None and resize is None:
        return own
    if not holds_pictures(name) and name in DATASETS:
        option = f"--resize {resize}" if image_size is None else f"--image-size {image_size}"
        raise InputError(
            f"{option}: applies to pictures, and the images of {name} have one size; leave it out"
        )
    side = image_size or (own.side if own else None)
    if side is None:
        raise InputError(f"--resize {resize}: to which size? Give --image-size, too")
    return preprocessing_of(side, resize or (own.resize if own else None))


def _checked(dataset: Dataset, name: str, data_dir: Path) -> Dataset:
    """Refuse what no classifier can be trained on."""
    if dataset.classes < 2:
        raise InputError(
            f"--dataset {name}: expected pictures of 2 classes or more, found {dataset.classes}; a "
            "classifier tells classes apart, so give each its folder"
        )
    for split, what in ((dataset.train, "training"), (dataset.test, "test")):
        if len(split) == 0:
            raise InputError(f"--dataset {name}: no {what} images in {data_dir}; check the files")
        if int(split.labels.max()) >= dataset.classes or int(split.labels.min()) < 0:
            raise InputError(
                f"--dataset {name}: expected {what} labels from 0 to {dataset.classes - 1}, came "
                f"{int(split.labels.min())} to {int(split.labels.max())}; check the files"
            )
    return dataset


def _split(images: NDArray[Any], labels: Any) -> Split:
    """Arrays (N, H, W) or (N, H, W, C) of uint8 to a Split."""
    if images.ndim == 3:
        images = images[..., None]
    tensor = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    return Split(tensor, torch.as_tensor(np.asarray(labels), dtype=torch.int64))


def digits(data_dir: Path, download: bool) -> Dataset:
    """scikit-learn's 1,797 digits of 8x8 pixels; a fixed fifth is the test set."""
    from sklearn.datasets import load_digits

    loaded = load_digits()
    # Their levels 0 .. 16 become the nearest levels of the 8-bit grid.
    levels = np.rint(loaded.images * (255 / 16)).astype(np.uint8)
    everything = _split(levels, loaded.target)
    test = stratified_subset(everything, 360, SPLIT_SEED, "the test split")
    rest = torch.ones(len(everything), dtype=torch.bool)
    rest[test] = False
    return Dataset(
        name="digits",
        train=everything.at(rest.nonzero().squeeze(1)),
        test=everything.at(test),
        classes=10,
        class_names=tuple("0123456789"),
        flips=False,
    )


def fashion_mnist(data_dir: Path, download: bool) -> Dataset:
    """Zalando's 70,000 grey pictures of clothes, 28x28 pixels."""
    return _torchvision_dataset("fashion-mnist", "FashionMNIST", data_dir, download)


def cifar10(data_dir: Path, download: bool) -> Dataset:
    """60,000 pictures of 32x32 pixels in 10 classes."""
    return _torchvision_dataset("cifar10", "CIFAR10", data_dir, download)


def cifar100(data_dir: Path, download: bool) -> Dataset:
    """60,000 pictures of 32x32 pixels in 100 classes."""
    return _torchvision_dataset("cifar100", "CIFAR100", data_dir, download)


def _torchvision_dataset(name: str, class_name: str, data_dir: Path, download: bool) -> Dataset:
    """One of torchvision's downloadable datasets under our name for it."""
    from torchvision import datasets

    def part(train: bool) -> Any:
        try:
            with warnings.catch_warnings():
                # torchvision reads CIFAR in a way that newer numpy calls outdated.
                warnings.simplefilter("ignore")
                return getattr(datasets, class_name)(str(data_dir), train=train, download=download)
        except (RuntimeError, OSError, EOFError) as error:
            if download:
                raise CapabilityError(
                    f"--dataset {name}: cannot download into {data_dir} "
                    f"({first_line(error)}); check the connection or fetch it by hand"
                ) from None
            raise InputError(
                f"--dataset {name}: missing or damaged in {data_dir}, expected "
                f"{DATASETS[name].files} with the official files; pass the folder that holds it as "
                "--data-dir, or --download to fetch it there"
            ) from None

    train, test = part(True), part(False)
    return Dataset(
        name=name,
        train=_split(np.asarray(train.data), train.targets),
        test=_split(np.asarray(test.data), test.targets),
        classes=len(train.classes),
        # A folder can have these names: Fashion-MNIST's first is 'T-shirt/top'.
        class_names=tuple(name.replace("/", "_") for name in train.classes),
        flips=True,
    )


def matched(model_path: Path, card: ModelCard, dataset: Dataset) -> Dataset:
    """The dataset with the labels that the model of `card` gives its classes, found by name.

    A dataset may hold some of the model's classes only. Where either side has no names, the
    numbers of classes must agree.

    Raises:
        InputError: classes that the model does not know, or images that it does not read.
    """
    by_name = card.class_names is not None and dataset.class_names is not None
    if card.input_shape != dataset.image_shape or not (by_name or card.classes == dataset.classes):
        raise InputError(
            f"{model_path}: reads images {card.input_shape} of {card.classes} classes, but "
            f"{dataset.name} has {dataset.image_shape} of {dataset.classes}; give the dataset it "
            f"was trained on ({card.dataset})"
        )
    if dataset.class_names is None or dataset.class_names == card.class_names:
        return dataset
    labels = labels_of(dataset.class_names, card, f"{model_path} on {dataset.name}")
    names = card.class_names
    if names is None and labels != list(range(card.classes)):
        names = tuple(dataset.class_names[labels.index(label)] for label in range(card.classes))
    position = torch.tensor(labels)
    return replace(
        dataset,
        train=Split(dataset.train.stored, position[dataset.train.labels]),
        test=Split(dataset.test.stored, position[dataset.test.labels]),
        validation=dataset.validation
        and Split(dataset.validation.stored, position[dataset.validation.labels]),
        classes=card.classes,
        class_names=names or dataset.class_names,
        skipped="\n".join(
            filter(None, (dataset.skipped, taken_as_indices(dataset.class_names, card)))
        ),
    )
