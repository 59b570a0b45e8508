"""Folders of pictures as people have them: which files are pictures, and of which class.

One rule for `--dataset imagefolder:` and `--images`. What operating systems and tools leave behind
is skipped and counted, and so are notes beside the pictures, by name; every other file below a
class is used or refused, and none is counted twice.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_bench.core.classes import ClassNames, composed, in_order, indices_of
from edge_bench.core.errors import InputError
from edge_bench.core.spec import ModelCard

FORMATS = ("JPEG", "PNG", "BMP", "PPM", "TIFF", "WEBP")
"""What Pillow may open. Of its other formats some start a program (EPS runs Ghostscript)."""
PICTURES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".tif", ".tiff", ".webp"),
)
UNREADABLE = (
    *(".heic", ".heif", ".avif", ".gif", ".jp2", ".jxl", ".tga", ".ico", ".svg", ".eps", ".psd"),
    *(".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2"),
)
"""Pictures, too, but none that ardx reads: to leave them out would change the data."""
NOTES = (
    *(".txt", ".md", ".rst", ".pdf", ".html", ".log", ".csv", ".tsv", ".xls", ".xlsx"),
    *(".json", ".jsonl", ".xml", ".yaml", ".yml", ".toml", ".ini", ".mat", ".npy", ".pkl", ".py"),
)
"""What lies beside pictures and is none by its name. Of any other name nobody can tell."""
# Beside everything whose name begins with a dot.
SYSTEM = {
    *("@eadir", "@tmp", "@recycle", "#recycle", "#snapshot"),  # Synology, QNAP
    *("__macosx", "icon\r", "thumbs.db", "ehthumbs.db", "desktop.ini"),
    *("$recycle.bin", "system volume information", "lost+found", "__pycache__"),
}


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """Files that were passed over.

    Attributes:
        hidden: hidden and system files and folders.
        others: files that are no pictures, such as notes and annotations.
        example: the first of these.
    """

    hidden: int = 0
    others: int = 0
    example: str = ""

    def __add__(self, more: Skipped) -> Skipped:
        return Skipped(
            hidden=self.hidden + more.hidden,
            others=self.others + more.others,
            example=self.example or more.example,
        )

    def __str__(self) -> str:
        """A line for people; empty where nothing was skipped."""
        parts = []
        if self.hidden:
            parts.append(f"{self.hidden} hidden and system files")
        if self.others:
            parts.append(f"{self.others} that are no pictures, such as {self.example}")
        return f"skipped: {', '.join(parts)}" if parts else ""


@dataclass(frozen=True, kw_only=True)
class PictureTree:
    """The pictures of a folder with one folder per class.

    Attributes:
        names: of the classes, in order; each a folder of `root`.
    """

    root: Path
    names: tuple[str, ...]
    skipped: Skipped

    def pictures(self, name: str) -> list[Path]:
        """The pictures of a class, and of the folders in it, in a fixed order."""
        return sorted_pictures(self.root / name)[0]

    @property
    def class_names(self) -> ClassNames:
        """The names as cards have them, on every system the same."""
        return tuple(map(composed, self.names))


def is_system(name: str) -> bool:
    """Is it hidden, or left behind by an operating system or a tool?"""
    return name.startswith(".") or name.lower() in SYSTEM


def open_tree(root: Path) -> PictureTree:
    """Find the classes of a folder, and see that every file below them is a picture.

    Raises:
        InputError: no classes, a class without pictures, a file that is no picture, or a link
            that would count pictures more than once.
    """
    if not root.is_dir():
        raise InputError(f"{root}: expected a folder with one folder of pictures per class")
    names, skipped = [], Skipped()
    for entry in sorted(root.iterdir()):
        if is_system(entry.name):
            skipped += Skipped(hidden=1)
        elif entry.is_dir():
            names.append(entry.name)
        elif entry.name.lower().endswith((*PICTURES, *UNREADABLE)):
            raise InputError(
                f"{entry}: a picture beside the classes' folders; move it into one, or name the "
                "folder that holds them"
            )
        else:
            skipped += Skipped(others=1, example=entry.name)
    if not names:
        raise InputError(f"{root}: expected pictures in class folders, and there is no folder")
    _check_names(root, names)
    seen: dict[str, Path] = {}
    for name in names:
        paths, passed = sorted_pictures(root / name, seen)
        skipped += passed
        if not paths:
            raise InputError(
                f"{root / name}: a class without pictures ({', '.join(PICTURES)}); fill it or take "
                "it out"
            )
    # As every system orders them, however it writes an accent.
    places = {composed(name): name for name in names}
    ordered = tuple(places[name] for name in in_order(list(places)))
    return PictureTree(root=root, names=ordered, skipped=skipped)


def labels_of(names: Sequence[str], card: ModelCard, where: str) -> list[int]:
    """The index among the model's classes of each folder name.

    Of a model without names on its card only the count can be compared. If it was trained on a
    folder of pictures, its classes are in the order of text, whatever they are called.

    Raises:
        InputError: a class that the model does not know, or another number of classes.
    """
    if card.class_names is not None:
        return indices_of(names, card.class_names, where)
    require_as_many(names, card.classes, where)
    if card.dataset.startswith("imagefolder:"):
        return [sorted(names).index(name) for name in names]
    return list(range(len(names)))


def require_as_many(names: Sequence[str], classes: int, where: str) -> None:
    """Refuse another number of folders than the model has classes."""
    if len(names) != classes:
        raise InputError(
            f"{where}: expected {classes} folders, one per class of the model, found "
            f"{len(names)}; name the folder that holds the classes' folders"
        )


def _check_names(root: Path, names: list[str]) -> None:
    """Refuse names of classes that no card can hold, or that look the same to everybody."""
    first: dict[str, str] = {}
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise InputError(
                f"{root}: the name of the folder {name!r} is no UTF-8; rename it"
            ) from None
        other = first.setdefault(composed(name), name)
        if other != name:
            raise InputError(
                f"{root}: two folders are called {name!r}, in other characters; rename one"
            )


def sorted_pictures(root: Path, seen: dict[str, Path] | None = None) -> tuple[list[Path], Skipped]:
    """(the pictures below a class's folder, what was skipped there).

    `seen` remembers the folders of all classes by their real paths, so that none counts twice.
    """
    paths: list[Path] = []
    skipped = Skipped()
    walked = _walk(root, root.parent.resolve(), {} if seen is None else seen)
    # By the folders' paths, as torchvision's ImageFolder has them.
    for folder, files, hidden in sorted(walked, key=lambda found: str(found[0])):
        skipped += Skipped(hidden=hidden)
        for file in files:
            name = file.name.lower()
            if name.endswith(NOTES):
                example = str((folder / file.name).relative_to(root.parent))
                skipped += Skipped(others=1, example=example)
            # A pipe or a device of a picture's name would be waited for.
            elif name.endswith(PICTURES) and file.is_file():
                paths.append(folder / file.name)
            elif name.endswith(PICTURES):
                raise InputError(
                    f"{file.path}: no file but a pipe, a socket or a device; take it out"
                )
            else:
                raise InputError(
                    f"{file.path}: no picture that ardx reads ({', '.join(PICTURES)}); convert it "
                    "or take it out"
                )
    return paths, skipped


def _walk(
    folder: Path, tree: Path, seen: dict[str, Path]
) -> Iterator[tuple[Path, list[os.DirEntry[str]], int]]:
    """Folders with their files in order of names; `tree` is the real path of all classes."""
    first = seen.setdefault(os.path.realpath(folder), folder)
    if first != folder:
        raise InputError(
            f"{folder}: by a link the same folder as {first}, whose pictures would count twice; "
            "take one out"
        )
    if folder.is_symlink():
        _check_link(folder, tree)
    with os.scandir(folder) as found:
        # Not Path.iterdir, which asks the disk for the kind of every file, once for each question.
        entries = sorted(found, key=lambda entry: entry.name)
    kept = [entry for entry in entries if not is_system(entry.name)]
    for entry in kept:
        if entry.is_symlink():
            _check_link(Path(entry.path), tree)
    yield folder, [entry for entry in kept if not entry.is_dir()], len(entries) - len(kept)
    for entry in kept:
        if entry.is_dir():
            yield from _walk(folder / entry.name, tree, seen)


def _check_link(link: Path, tree: Path) -> None:
    """Refuse a link to nothing, or to where the same pictures are found without it.

    What hidden folders hold is found by links alone: git-annex keeps files so.
    """
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):  # In a circle; of which type, the version of Python decides.
        raise InputError(f"{link}: a link to nothing; take it out") from None
    below = target.is_relative_to(tree) and not any(
        is_system(part) for part in target.relative_to(tree).parts
    )
    if below or tree.is_relative_to(target):
        raise InputError(
            f"{link}: a link back to {target}, whose pictures would count twice; take it out"
        )
