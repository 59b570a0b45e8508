"""Folders of pictures as people have them: which files are pictures, and of which class.

One rule for `--dataset imagefolder:` and `--images`. What operating systems and tools leave behind
is skipped and counted, and so are notes beside the pictures, by name; every other file below a
class is used or refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_bench.core.classes import in_order
from edge_bench.core.errors import InputError

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
# Beside everything whose name begins with a dot.
SYSTEM = {"@eadir", "#recycle", "__macosx", "thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r"}


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


def is_system(name: str) -> bool:
    """Is it hidden, or left behind by an operating system or a tool?"""
    return name.startswith(".") or name.lower() in SYSTEM


def open_tree(root: Path) -> PictureTree:
    """Find the classes of a folder, and see that every file below them is a picture.

    Raises:
        InputError: no classes, a class without pictures, a file that is no picture, or a link
            that leads back.
    """
    if not root.is_dir():
        raise InputError(f"{root}: expected a folder with one folder of pictures per class")
    names, skipped = [], Skipped()
    for entry in sorted(root.iterdir()):
        if is_system(entry.name):
            skipped += Skipped(hidden=1)
        elif entry.is_dir():
            names.append(entry.name)
        elif not entry.name.lower().endswith((*PICTURES, *UNREADABLE)):
            skipped += Skipped(others=1, example=entry.name)
        else:
            raise InputError(
                f"{entry}: a picture beside the classes' folders; move it into one, or name the "
                "folder that holds them"
            )
    if not names:
        raise InputError(f"{root}: expected pictures in class folders, and there is no folder")
    for name in names:
        paths, passed = sorted_pictures(root / name)
        skipped += passed
        if not paths:
            raise InputError(
                f"{root / name}: a class without pictures ({', '.join(PICTURES)}); fill it or take "
                "it out"
            )
    return PictureTree(root=root, names=tuple(in_order(names)), skipped=skipped)


def sorted_pictures(root: Path) -> tuple[list[Path], Skipped]:
    """(the pictures below a class's folder, what was skipped there)."""
    paths: list[Path] = []
    skipped = Skipped()
    walked = _walk(root, (os.path.realpath(root),))
    # By the folders' paths, as torchvision's ImageFolder has them.
    for folder, files, hidden in sorted(walked, key=lambda found: str(found[0])):
        skipped += Skipped(hidden=hidden)
        for name in files:
            path = folder / name
            if not name.lower().endswith((*PICTURES, *UNREADABLE)):
                skipped += Skipped(others=1, example=str(path.relative_to(root.parent)))
            # A pipe or a device of that name would be waited for.
            elif name.lower().endswith(UNREADABLE) or not path.is_file():
                raise InputError(
                    f"{path}: no picture that ardx reads ({', '.join(PICTURES)}); convert it or "
                    "take it out"
                )
            else:
                paths.append(path)
    return paths, skipped


def _walk(folder: Path, above: Sequence[str]) -> Iterator[tuple[Path, list[str], int]]:
    """Folders with the names of their files, sorted; `above` are those that they lie in."""
    entries = sorted(folder.iterdir())
    kept = [entry for entry in entries if not is_system(entry.name)]
    folders = [entry for entry in kept if entry.is_dir()]
    files = [entry.name for entry in kept if not entry.is_dir()]
    yield folder, files, len(entries) - len(kept)
    for inner in folders:
        real = os.path.realpath(inner)
        if real in above:
            raise InputError(f"{inner}: a link back to {real}, which holds it; take it out")
        yield from _walk(inner, (*above, real))
