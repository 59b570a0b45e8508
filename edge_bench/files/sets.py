"""Adversarial sets on disk: memory-mapped arrays beside a manifest that vouches for them.

A set is a folder: `manifest.json`, `images.npy` (N, C, H, W; uint8 on the 8-bit grid, else
float32 in [0, 1]), `clean.npy` (uint8), `labels.npy` (int64), `source_success.npy` (bool: the
attack fooled the model that it was crafted on), and where the manifest names a parent, `parent.npy`
(N, 2; int64: the class that the parent gives to the clean image and to the stored one).
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_bench.core.classes import require_same
from edge_bench.core.errors import InputError, first_line
from edge_bench.core.spec import SetManifest
from edge_bench.files.store import BROKEN_ARRAY, array_header, read_json, sha256_file

MANIFEST = "manifest.json"
# Few enough that the check stays far below the runtime in memory.
CHECKED_AT_ONCE = 128
LABELS_AT_ONCE = 65_536
# Linux maps 64 KiB around a page that is read, and never more than this.
MAPPED_AROUND = 2 << 20
# float32 images may miss epsilon by the rounding of one addition near 1.
ROUNDING = 1e-6
# Of epsilon, in L2: sums of 150,000 squares in float32, by which others hold to their budget.
L2_ROUNDING = 5e-5
ARRAYS = ("images.npy", "clean.npy", "labels.npy", "source_success.npy")
PARENT = "parent.npy"
FILES = (MANIFEST, *ARRAYS, PARENT)
"""What may lie in the folder of a set."""


def layout_of(manifest: SetManifest) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and type of every array of a set, by file name, in the order in which they travel."""
    n, image = manifest.samples, manifest.image_shape
    found: dict[str, tuple[tuple[int, ...], str]] = {
        "images.npy": ((n, *image), "|u1" if manifest.on_grid else "<f4"),
        "clean.npy": ((n, *image), "|u1"),
        "labels.npy": ((n,), "<i8"),
        "source_success.npy": ((n,), "|b1"),
    }
    return found | ({PARENT: ((n, 2), "<i8")} if manifest.parent_sha256 is not None else {})


def set_files(path: Path) -> list[Path]:
    """What is read of the set at `path`, or of the sets in the folder `path`, where it is there."""
    folders = [path, *(p for p in path.iterdir() if p.is_dir())] if path.is_dir() else []
    return [folder / name for folder in folders for name in FILES]


@dataclass(frozen=True, kw_only=True)
class AdversarialSet:
    """A set opened for replay; the arrays are memory maps, `parent` is None where there is none."""

    path: Path
    manifest: SetManifest
    images: NDArray[Any]
    clean: NDArray[np.uint8]
    labels: NDArray[np.int64]
    source_success: NDArray[np.bool_]
    parent: NDArray[np.int64] | None = None

    @property
    def name(self) -> str:
        """The folder's name, such as `pgd20`."""
        return self.path.absolute().name

    @property
    def images_sha256(self) -> str:
        """Identity of what a model is asked: the clean images and their labels."""
        hashes = self.manifest.arrays["clean.npy"] + self.manifest.arrays["labels.npy"]
        return hashlib.sha256(hashes.encode()).hexdigest()


def grid_radius(epsilon: float) -> int:
    """Whole 8-bit steps inside epsilon."""
    # 8/255 as a float times 255 may fall a hair under 8.
    return int(epsilon * 255 + 1e-6)


def is_set(folder: Path) -> bool:
    """Is this the folder of a set, with a manifest and nothing that is of no set?"""
    try:
        names = {path.name for path in folder.iterdir()}
    except OSError:
        return False
    return MANIFEST in names and names <= set(FILES)


def open_sets(path: Path) -> list[AdversarialSet]:
    """Open the set at `path`, or every set in the folder `path`, sorted by name.

    Example:
        sets = open_sets(Path("sets"))

    Raises:
        InputError: no set there, a damaged one, or sets over different clean images.
    """
    if (path / MANIFEST).is_file():
        folders = [path]
    elif path.is_dir():
        # Found by any of their files: a set that lost its manifest must not just drop out.
        folders = sorted(
            p
            for p in path.iterdir()
            if not p.name.startswith(".") and any((p / f).is_file() for f in FILES)
        )
    else:
        raise InputError(f"{path}: expected a folder of adversarial sets; craft one: ardx attack")
    if not folders:
        raise InputError(f"{path}: no adversarial set in this folder; craft one: ardx attack")
    sets = [open_set(folder) for folder in folders]
    for other in sets[1:]:
        if other.images_sha256 != sets[0].images_sha256:
            raise InputError(
                f"{other.path}: holds other clean images or labels than {sets[0].path}, so no "
                "worst case per sample exists; craft both with one --dataset, --limit and --seed"
            )
        names, others = sets[0].manifest.class_names, other.manifest.class_names
        require_same(names, others, str(other.path), str(sets[0].path))
    return sets


def open_set(folder: Path) -> AdversarialSet:
    """Open one set after checking every array's hash, shape and type, and the labels' range."""
    manifest = read_json(folder / MANIFEST, SetManifest, "the manifest of an adversarial set")
    layout = layout_of(manifest)
    arrays = {name: _open_array(folder / name, manifest) for name in layout}
    for name, (shape, descr) in layout.items():
        array, dtype = arrays[name], np.dtype(descr).name
        if (array.shape, array.dtype.name) != (shape, dtype):
            raise InputError(
                f"{folder / name}: expected {dtype} of shape {shape}, "
                f"came {array.dtype.name} of shape {array.shape}; craft the set again"
            )
    if manifest.samples == 0:
        raise InputError(f"{folder}: an adversarial set without samples; craft it again")
    for name in ("labels.npy", PARENT):
        if name in arrays:
            _check_classes(folder / name, arrays[name], manifest.classes)
    _check_budget(folder, manifest, arrays["images.npy"], arrays["clean.npy"])
    return AdversarialSet(
        path=folder,
        manifest=manifest,
        images=arrays["images.npy"],
        clean=arrays["clean.npy"],
        labels=arrays["labels.npy"],
        source_success=arrays["source_success.npy"],
        parent=arrays.get(PARENT),
    )


def _check_classes(path: Path, array: NDArray[np.int64], classes: int) -> None:
    """Refuse numbers that are no class."""
    bounds = [(int(part.min()), int(part.max())) for part in batches(array, LABELS_AT_ONCE)]
    least, most = min(low for low, _ in bounds), max(high for _, high in bounds)
    if least < 0 or most >= classes:
        what = "labels" if path.name == "labels.npy" else "the parent's classes"
        raise InputError(
            f"{path}: expected {what} from 0 to {classes - 1}, came "
            f"{least} to {most}; craft the set again"
        )


def _check_budget(
    folder: Path, manifest: SetManifest, images: NDArray[Any], clean: NDArray[Any]
) -> None:
    """Refuse images outside [0, 1] or farther from the clean ones than the manifest's epsilon."""
    pairs = zip(batches(images, CHECKED_AT_ONCE), batches(clean, CHECKED_AT_ONCE), strict=True)
    for stored, levels in pairs:
        adversarial = as_unit(stored)
        distance = distances(adversarial, as_unit(levels), manifest.attack.norm).max()
        # Written so that a NaN among the images is refused too.
        if not (adversarial.min() >= 0 and adversarial.max() <= 1):
            raise InputError(f"{folder / 'images.npy'}: expected images in [0, 1]; craft again")
        epsilon, norm = manifest.attack.epsilon, manifest.attack.norm
        if not distance <= epsilon + rounding_of_budget(epsilon, norm):
            raise InputError(
                f"{folder / 'images.npy'}: an image is "
                f"{told_apart(distance, epsilon, 'from its clean one, beyond')}, "
                "the manifest's epsilon; craft the set again"
            )


def as_unit(images: NDArray[Any]) -> NDArray[np.float32]:
    """Images in [0, 1] of uint8 levels, or of floats that are so already."""
    scale = 255 if images.dtype == np.uint8 else 1
    return images.astype(np.float32) / np.float32(scale)


def distances(
    images: NDArray[np.float32], clean: NDArray[np.float32], norm: str
) -> NDArray[np.float32]:
    """(B,) distances of images (B, C, H, W) in [0, 1] from their clean ones, in `norm`."""
    change = (images - clean).reshape(len(images), -1)
    found: NDArray[np.float32] = np.linalg.norm(change, ord=2 if norm == "l2" else np.inf, axis=1)
    return found


def rounding_of_budget(epsilon: float, norm: str) -> float:
    """How far beyond `epsilon` rounding in float32 takes an image that is meant to lie within."""
    return max(ROUNDING, L2_ROUNDING * epsilon) if norm == "l2" else ROUNDING


def told_apart(value: float, limit: float, words: str) -> str:
    """`value words limit`, with as many digits as it takes to see that they differ, 4 at least."""
    for digits in range(4, 17):
        told, bound = f"{value:.{digits}f}", f"{limit:.{digits}f}"
        if told != bound:
            break
    return f"{told} {words} {bound}"


def batches(array: NDArray[Any], size: int) -> Iterator[NDArray[Any]]:
    """Parts of `size` entries of a memory map, in order; what was read is not kept in memory."""
    for begin in range(0, len(array), size):
        part = array[begin : begin + size]
        yield part
        release(part)


def release(part: NDArray[Any]) -> None:
    """Take the pages of a part of a memory map, contiguous, out of this process's memory.

    The kernel could take them back under pressure, but until then they count as the process's,
    and would make its peak memory grow with the size of a set. Other arrays are left alone.
    """
    base: Any = part
    while isinstance(base, np.ndarray):
        base = base.base
    if not isinstance(base, mmap.mmap) or not hasattr(mmap, "MADV_DONTNEED") or not part.size:
        return
    offset = part.ctypes.data - np.frombuffer(base, dtype=np.uint8).ctypes.data
    # A read maps the pages around it too, those of the part before it among them.
    begin = max(0, offset - offset % mmap.PAGESIZE - MAPPED_AROUND)
    base.madvise(mmap.MADV_DONTNEED, begin, offset + part.nbytes - begin)


def _open_array(path: Path, manifest: SetManifest) -> NDArray[Any]:
    if path.name not in manifest.arrays:
        raise InputError(f"{path.parent / MANIFEST}: lists no hash of {path.name}; craft it again")
    if not path.is_file():
        raise InputError(f"{path}: an array of the set is missing; craft the set again")
    if sha256_file(path) != manifest.arrays[path.name]:
        raise InputError(f"{path}: its sha256 is not the manifest's (torn or changed); craft again")
    try:
        # Not np.load: this reads .npy alone, and has no pickle to be switched on.
        with (
            array_header(),
            np.errstate(over="raise"),
        ):  # of a shape; numpy would warn of it, and go on
            array: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except BROKEN_ARRAY as error:
        why = first_line(error)
        raise InputError(f"{path}: not a numpy array file ({why}); craft again") from None
    return array
