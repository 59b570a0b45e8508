"""`imagefolder:PATH`: pictures in one folder per class, parted by their owner or here."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from ard.data.picture_files import pictures_of
from ard.data.splits import Dataset, Split
from edge_bench.core.classes import composed
from edge_bench.core.errors import InputError
from edge_bench.core.pictures.preprocessing import Preprocessing
from edge_bench.files.pictures.tree import PictureTree, Skipped, open_tree

TRAIN = ("train", "training")
TEST = ("test", "testing")
VALIDATION = ("val", "valid", "validation")
"""What people call the parts, in capitals or not."""
TEST_SHARE = 5
"""Of a folder without parts, every so manyth picture of a class is for the test."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The folders of a dataset's parts; a folder that is not parted is all of them."""

    train: Path
    test: Path
    validation: Path | None = None


def image_folder(root: Path, asked: str, preprocessing: Preprocessing | None) -> Dataset:
    """The pictures of a folder: `train/<class>/*` and `test/<class>/*`, or `<class>/*` to part.

    Args:
        asked: the value of --dataset, for sentences.

    Raises:
        InputError: no such folder or layout, parts of other classes, or unreadable pictures.
    """
    parts = find_parts(root, asked)
    name = f"imagefolder:{root.resolve().name}"
    if parts is None:
        return _parted_here(root, name, asked, preprocessing)
    trees = {"train": open_tree(parts.train), "test": open_tree(parts.test)}
    if parts.validation is not None:
        trees["validation"] = open_tree(parts.validation)
    names = trees["train"].class_names
    splits: dict[str, Split] = {}
    for part, tree in trees.items():
        _require_same_classes(names, tree, asked)
        splits[part] = _pictures(
            tree, {each: tree.pictures(each) for each in tree.names}, preprocessing
        )
        _require_same_size(splits["train"], splits[part], tree, asked)
    return Dataset(
        name=name,
        train=splits["train"],
        test=splits["test"],
        validation=splits.get("validation"),
        classes=len(names),
        class_names=names,
        flips=True,
        skipped=str(sum((tree.skipped for tree in trees.values()), Skipped())),
        preprocessing=preprocessing,
    )


def find_parts(root: Path, asked: str) -> Parts | None:
    """The parts' folders by their names; None where there are the classes' folders instead.

    Raises:
        InputError: no folder, or some parts without the others.
    """
    if not root.is_dir():
        raise InputError(
            f"--dataset {asked}: no folder {root}; check the path, or give the folder that holds "
            "it as --data-dir"
        )
    found = {
        kind: _folder_called(root, names, asked)
        for kind, names in (("train", TRAIN), ("test", TEST), ("validation", VALIDATION))
    }
    train, test, validation = found["train"], found["test"], found["validation"]
    if train is None and test is None and validation is None:
        return None
    if train is not None and test is not None:
        return Parts(train=train, test=test, validation=validation)
    if train is not None and validation is not None:
        return Parts(train=train, test=validation)
    remedy = f"; to have {train.name} parted, give imagefolder:{train}" if train is not None else ""
    raise InputError(
        f"--dataset {asked}: expected the folders train and test (or val) in {root}, each with one "
        f"folder per class, or one folder per class to be parted{remedy}"
    )


def _folder_called(root: Path, names: tuple[str, ...], asked: str) -> Path | None:
    found = [each for each in sorted(root.iterdir()) if each.name.lower() in names]
    folders = [each for each in found if each.is_dir()]
    if len(folders) > 1:
        raise InputError(
            f"--dataset {asked}: {folders[0].name} and {folders[1].name} in {root} are the same "
            "part by their names; rename one"
        )
    return folders[0] if folders else None


def _parted_here(root: Path, name: str, asked: str, preprocessing: Preprocessing | None) -> Dataset:
    """A fifth of each class is for the test, chosen by the pictures' names."""
    tree = open_tree(root)
    if len(tree.names) < 2:
        raise InputError(
            f"--dataset {asked}: expected train and test, or the folders of 2 classes or more, in "
            f"{root}, found {tree.names[0]!r} alone; name the folder that holds them"
        )
    test: dict[str, list[Path]] = {}
    train: dict[str, list[Path]] = {}
    for each in tree.names:
        paths = tree.pictures(each)
        if len(paths) < 2:
            raise InputError(
                f"{root / each}: one picture cannot be in the training and in the test; add more "
                "to this class, or take it out"
            )
        drawn = by_name(paths, root / each, max(1, round(len(paths) / TEST_SHARE)))
        test[each] = [path for path in paths if path in drawn]
        train[each] = [path for path in paths if path not in drawn]
    count, of = sum(map(len, test.values())), len(tree.names)
    told = (
        f"no train and test in {root}: {count:,} of its "
        f"{count + sum(map(len, train.values())):,} pictures, a fifth of each of {of} classes, are "
        "the test images; their names decide which"
    )
    split = _pictures(tree, train, preprocessing), _pictures(tree, test, preprocessing)
    _require_same_size(*split, tree, asked)
    return Dataset(
        name=name,
        train=split[0],
        test=split[1],
        classes=of,
        class_names=tree.class_names,
        flips=True,
        skipped="\n".join(filter(None, (told, str(tree.skipped)))),
        preprocessing=preprocessing,
    )


def by_name(paths: list[Path], root: Path, count: int) -> set[Path]:
    """`count` of the paths, by a digest of their names as seen from the folder `root`.

    A picture that is added or taken out later moves one other at most to the other side, so that
    a model has hardly ever been trained on what it is judged by.
    """

    def digest(path: Path) -> bytes:
        name = composed(Path(os.path.relpath(path, root)).as_posix())
        return hashlib.sha256(os.fsencode(name)).digest()

    return set(sorted(paths, key=digest)[:count])


def _pictures(
    tree: PictureTree, by_class: dict[str, list[Path]], preprocessing: Preprocessing | None
) -> Split:
    labels = [label for label, name in enumerate(tree.names) for _ in by_class[name]]
    paths = list(chain(*(by_class[name] for name in tree.names)))
    return pictures_of(paths, labels, tree.root, preprocessing)


def _require_same_classes(names: tuple[str, ...], tree: PictureTree, asked: str) -> None:
    if names != tree.class_names:
        odd = sorted(set(names) ^ set(tree.class_names))
        raise InputError(
            f"--dataset {asked}: expected the same classes in train and {tree.root.name}, but "
            f"{odd[0]!r} is in one of them only"
        )


def _require_same_size(train: Split, other: Split, tree: PictureTree, asked: str) -> None:
    if train.image_shape != other.image_shape:
        raise InputError(
            f"--dataset {asked}: pictures of {train.image_shape} in train but "
            f"{other.image_shape} in {tree.root.name}; give --image-size"
        )
