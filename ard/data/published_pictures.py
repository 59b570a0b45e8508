"""Datasets that are published as pictures in files; see `datasets` for those in arrays."""

from __future__ import annotations

from pathlib import Path

from ard.data.picture_files import pictures_of
from ard.data.splits import Dataset
from edge_bench.core.errors import CapabilityError, InputError, first_line
from edge_bench.core.pictures.preprocessing import Preprocessing
from edge_bench.files.pictures.tree import is_system, sorted_pictures

SIGNS = (
    *("speed limit 20", "speed limit 30", "speed limit 50", "speed limit 60", "speed limit 70"),
    *("speed limit 80", "end of speed limit 80", "speed limit 100", "speed limit 120"),
    *("no overtaking", "no overtaking by trucks", "right of way at the next crossing"),
    *("priority road", "give way", "stop", "no vehicles", "no trucks", "no entry", "danger"),
    *("bend to the left", "bend to the right", "double bend", "uneven road", "slippery road"),
    *("road narrows on the right", "road works", "traffic signals", "pedestrians", "children"),
    *("bicycles", "snow or ice", "wild animals", "end of all limits", "turn right ahead"),
    *("turn left ahead", "ahead only", "ahead or right", "ahead or left", "keep right"),
    *("keep left", "roundabout", "end of no overtaking", "end of no overtaking by trucks"),
)
"""What the 43 signs of GTSRB mean, in the order of its numbers."""


def tiny_imagenet(data_dir: Path, download: bool, how: Preprocessing | None) -> Dataset:
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
    try:
        lines = annotations.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise InputError(
            f"{annotations}: expected text in UTF-8, so it is damaged; unpack the dataset again"
        ) from None
    for line in lines:
        fields = line.split("\t")
        if len(fields) < 2 or fields[1] not in wanted:
            raise InputError(
                f"{annotations}: line {line[:80]!r} names no class of {root / 'train'}; unpack the "
                "dataset again"
            )
        paths.append(root / "val" / "images" / fields[0])
        labels.append(wanted[fields[1]])
    return Dataset(
        name="tiny-imagenet",
        train=pictures_of(train, of_train, root / "train", how),
        test=pictures_of(paths, labels, root / "val", how),
        classes=len(names),
        class_names=tuple(names),
        flips=True,
        preprocessing=how,
    )


def gtsrb(data_dir: Path, download: bool, how: Preprocessing | None) -> Dataset:
    """Stallkamp et al. 2012: 26,640 and 12,630 German traffic signs, of 15 to 250 pixels."""
    from torchvision.datasets import GTSRB

    parts = []
    for split in ("train", "test"):
        try:
            parts.append(GTSRB(str(data_dir), split=split, download=download))
        except (RuntimeError, OSError, KeyError, ValueError) as error:
            if download:
                raise CapabilityError(
                    f"--dataset gtsrb: cannot download into {data_dir} ({first_line(error)}); "
                    "check the connection or fetch it by hand"
                ) from None
            raise InputError(
                f"--dataset gtsrb: expected gtsrb/GTSRB/Training, gtsrb/GTSRB/Final_Test/Images "
                f"and gtsrb/GT-final_test.csv in {data_dir} ({first_line(error)}); unpack the "
                "official archives there, pass the folder that holds gtsrb as --data-dir, or "
                "--download to fetch it there"
            ) from None
    train, test = (
        pictures_of(
            [Path(path) for path, _ in part._samples],
            [label for _, label in part._samples],
            data_dir,
            how,
        )
        for part in parts
    )
    return Dataset(
        name="gtsrb",
        train=train,
        test=test,
        classes=len(SIGNS),
        class_names=SIGNS,
        # A mirrored arrow points elsewhere.
        flips=False,
        preprocessing=how,
    )


def imagenet(data_dir: Path, download: bool, how: Preprocessing | None) -> Dataset:
    """ILSVRC 2012, or a part of its classes: its validation pictures are the test images."""
    from torchvision.datasets import ImageNet

    root = data_dir / "imagenet"
    if download:
        raise InputError(
            "--dataset imagenet: --download cannot fetch it; get its archives from image-net.org, "
            f"and unpack them to {root}"
        )
    # torchvision would unpack 150 GB of archives if it found them.
    missing = [part for part in ("train", "val") if not (root / part).is_dir()]
    try:
        if missing:
            raise RuntimeError(f"no folder {missing[0]}")
        parts = [ImageNet(str(root), split=split) for split in ("train", "val")]
    except (RuntimeError, OSError, KeyError, ValueError) as error:
        raise InputError(
            f"--dataset imagenet: expected {root} with train/ and val/, each with one folder per "
            "class (n01440764, ...), and ILSVRC2012_devkit_t12.tar.gz or torchvision's meta.bin "
            f"({first_line(error)}); pass the folder that holds imagenet as --data-dir"
        ) from None
    if parts[0].wnids != parts[1].wnids:
        odd = sorted(set(parts[0].wnids) ^ set(parts[1].wnids))
        raise InputError(
            f"--dataset imagenet: expected the same classes in train and val of {root}, but "
            f"{odd[0]} is in one of them only"
        )
    train, test = (
        pictures_of([Path(path) for path, _ in part.samples], part.targets, root, how)
        for part in parts
    )
    return Dataset(
        name="imagenet",
        train=train,
        test=test,
        classes=len(parts[0].wnids),
        class_names=_told_apart([names[0] for names in parts[0].classes], parts[0].wnids),
        flips=True,
        preprocessing=how,
    )


def _told_apart(names: list[str], wnids: list[str]) -> tuple[str, ...]:
    """The classes' first names; two of ImageNet's are called crane, and two maillot."""
    plain = [name.replace("/", "_") for name in names]
    return tuple(
        name if plain.count(name) == 1 else f"{name} ({wnid})"
        for name, wnid in zip(plain, wnids, strict=True)
    )
