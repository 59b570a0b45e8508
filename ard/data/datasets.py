"""Loaders of datasets; their names are in `registry`. Nothing is downloaded unless asked for."""

from __future__ import annotations

import warnings
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ard.data.picture_files import pictures_of
from ard.data.picture_folder import labels_of, taken_as_indices
from ard.data.picture_tree import PictureTree, is_system, open_tree, sorted_pictures
from ard.data.registry import DATASETS, KNOWN
from ard.data.splits import SPLIT_SEED, Dataset, Split, stratified_subset
from edge_bench.core.errors import CapabilityError, InputError, first_line
from edge_bench.core.spec import ModelCard


def load_dataset(
    name: str, data_dir: Path, *, download: bool = False, image_size: int | None = None
) -> Dataset:
    """Load a dataset by name: a key of DATASETS, or `imagefolder:PATH`.

    Example:
        digits = load_dataset("digits", Path("data"))

    Args:
        data_dir: folder that holds the dataset's official files; unused by `digits`.
        download: fetch it there if torchvision can.
        image_size: side in pixels to which the pictures of an image folder are resized.

    Raises:
        InputError: unknown name, missing, damaged or empty files.
    """
    if name.startswith("imagefolder:"):
        folder = Path(name.removeprefix("imagefolder:"))
        # A model card names the folder alone, so that no private path travels in it.
        if not folder.exists() and (data_dir / folder).exists():
            folder = data_dir / folder
        dataset = _image_folder(folder, name, image_size)
    elif name in DATASETS:
        dataset = DATASETS[name].load(data_dir, download)
    else:
        raise InputError(f"--dataset {name}: expected one of {KNOWN}")
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


def tiny_imagenet(data_dir: Path, download: bool) -> Dataset:
    """The official layout: train/<wnid>/images/, and val/ with val_annotations.txt."""
    root = data_dir / "tiny-imagenet-200"
    annotations = root / "val" / "val_annotations.txt"
    if download:
        raise InputError(
            "--dataset tiny-imagenet: --download cannot fetch it; unpack tiny-imagenet-200.zip "
            "from its course page into --data-dir"
        )
    if not annotations.is_file() or not (root / "train").is_dir():
        raise InputError(
            f"--dataset tiny-imagenet: expected {root} with train/ and val/val_annotations.txt; "
            "pass the folder that holds tiny-imagenet-200 as --data-dir"
        )
    names = sorted(path.name for path in (root / "train").iterdir() if not is_system(path.name))
    wanted = {name: index for index, name in enumerate(names)}
    train: list[Path] = []
    of_train: list[int] = []
    for name in names:
        # Beside images/ lies a file of boxes.
        folder = root / "train" / name / "images"
        found, _ = sorted_pictures(folder) if folder.is_dir() else ([], None)
        if not found:
            raise InputError(f"{folder}: no pictures of this class; unpack the dataset again")
        train += found
        of_train += [wanted[name]] * len(found)
    paths: list[Path] = []
    labels: list[int] = []
    for line in annotations.read_text(encoding="utf-8").splitlines():
        fields = line.split("\t")
        if len(fields) < 2 or fields[1] not in wanted:
            raise InputError(f"{annotations}: line {line!r} names no class of {root / 'train'}")
        paths.append(root / "val" / "images" / fields[0])
        labels.append(wanted[fields[1]])
    return Dataset(
        name="tiny-imagenet",
        train=pictures_of(train, of_train, root / "train", None),
        test=pictures_of(paths, labels, root / "val", None),
        classes=len(names),
        class_names=tuple(names),
        flips=True,
    )


def _image_folder(root: Path, name: str, image_size: int | None) -> Dataset:
    """`train/<class>/*` and `test/<class>/*` (or `val`) under one folder."""
    test_root = root / "test" if (root / "test").is_dir() else root / "val"
    if not (root / "train").is_dir() or not test_root.is_dir():
        raise InputError(
            f"--dataset {name}: expected the folders train and test (or val) in {root}, each with "
            "one folder per class"
        )
    trees = open_tree(root / "train"), open_tree(test_root)
    names = trees[0].class_names
    if names != trees[1].class_names:
        odd = sorted(set(names) ^ set(trees[1].class_names))
        raise InputError(
            f"--dataset {name}: expected the same classes in train and {test_root.name}, but "
            f"{odd[0]!r} is in one of them only"
        )
    train, test = (_pictures(tree, image_size) for tree in trees)
    if train.image_shape != test.image_shape:
        raise InputError(
            f"--dataset {name}: pictures of {train.image_shape} in train but "
            f"{test.image_shape} in {test_root.name}; give --image-size"
        )
    return Dataset(
        name=f"imagefolder:{root.resolve().name}",
        train=train,
        test=test,
        classes=len(names),
        class_names=trees[0].class_names,
        flips=True,
        skipped=str(trees[0].skipped + trees[1].skipped),
    )


def _pictures(tree: PictureTree, image_size: int | None) -> Split:
    by_class = [tree.pictures(name) for name in tree.names]
    labels = [label for label, paths in enumerate(by_class) for _ in paths]
    return pictures_of(list(chain(*by_class)), labels, tree.root, image_size)


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
        classes=card.classes,
        class_names=names or dataset.class_names,
        skipped="\n".join(
            filter(None, (dataset.skipped, taken_as_indices(dataset.class_names, card)))
        ),
    )
