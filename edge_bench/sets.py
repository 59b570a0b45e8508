"""Adversarial sets on disk: memory-mapped arrays beside a manifest that vouches for them.

A set is a folder: `manifest.json`, `images.npy` (N, C, H, W; uint8 on the 8-bit grid, else
float32 in [0, 1]), `clean.npy` (uint8), `labels.npy` (int64), `source_success.npy` (bool: the
attack fooled the model that it was crafted on).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_bench.errors import InputError
from edge_bench.spec import SetManifest
from edge_bench.store import read_json, sha256_file

MANIFEST = "manifest.json"
# Few enough that the check stays far below the runtime in memory.
CHECKED_AT_ONCE = 128
# float32 images may miss epsilon by the rounding of one addition near 1.
ROUNDING = 1e-6
ARRAYS = ("images.npy", "clean.npy", "labels.npy", "source_success.npy")


@dataclass(frozen=True, kw_only=True)
class AdversarialSet:
    """A set opened for replay; the arrays are memory maps."""

    path: Path
    manifest: SetManifest
    images: NDArray[Any]
    clean: NDArray[np.uint8]
    labels: NDArray[np.int64]
    source_success: NDArray[np.bool_]

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


def open_sets(path: Path) -> list[AdversarialSet]:
    """Open the set at `path`, or every set in the folder `path`, sorted by name.

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
            if not p.name.startswith(".") and any((p / f).is_file() for f in (MANIFEST, *ARRAYS))
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
    return sets


def open_set(folder: Path) -> AdversarialSet:
    """Open one set after checking every array's hash, shape and type, and the labels' range."""
    manifest = read_json(folder / MANIFEST, SetManifest, "the manifest of an adversarial set")
    arrays = {name: _open_array(folder / name, manifest) for name in ARRAYS}
    n, shape = manifest.samples, manifest.image_shape
    image_dtype = "uint8" if manifest.on_grid else "float32"
    expected = {
        "images.npy": ((n, *shape), image_dtype),
        "clean.npy": ((n, *shape), "uint8"),
        "labels.npy": ((n,), "int64"),
        "source_success.npy": ((n,), "bool"),
    }
    for name, array in arrays.items():
        if (array.shape, array.dtype.name) != expected[name]:
            raise InputError(
                f"{folder / name}: expected {expected[name][1]} of shape {expected[name][0]}, "
                f"came {array.dtype.name} of shape {array.shape}; craft the set again"
            )
    if n == 0:
        raise InputError(f"{folder}: an adversarial set without samples; craft it again")
    labels = arrays["labels.npy"]
    if labels.min() < 0 or labels.max() >= manifest.classes:
        raise InputError(
            f"{folder / 'labels.npy'}: expected labels from 0 to {manifest.classes - 1}, came "
            f"{labels.min()} to {labels.max()}; craft the set again"
        )
    _check_budget(folder, manifest, arrays["images.npy"], arrays["clean.npy"])
    return AdversarialSet(
        path=folder,
        manifest=manifest,
        images=arrays["images.npy"],
        clean=arrays["clean.npy"],
        labels=labels,
        source_success=arrays["source_success.npy"],
    )


def _check_budget(
    folder: Path, manifest: SetManifest, images: NDArray[Any], clean: NDArray[Any]
) -> None:
    """Refuse images outside [0, 1] or farther from the clean ones than the manifest's epsilon."""
    for begin in range(0, manifest.samples, CHECKED_AT_ONCE):
        part = slice(begin, begin + CHECKED_AT_ONCE)
        adversarial = images[part].astype(np.float32) / (255 if manifest.on_grid else 1)
        change = (adversarial - clean[part].astype(np.float32) / 255).reshape(len(adversarial), -1)
        order = 2 if manifest.attack.norm == "l2" else np.inf
        distance = np.linalg.norm(change, ord=order, axis=1).max()
        # Written so that a NaN among the images is refused too.
        if not (adversarial.min() >= 0 and adversarial.max() <= 1):
            raise InputError(f"{folder / 'images.npy'}: expected images in [0, 1]; craft again")
        if not distance <= manifest.attack.epsilon + ROUNDING:
            raise InputError(
                f"{folder / 'images.npy'}: an image is {distance:.4f} from its clean one, but the "
                f"manifest's epsilon is {manifest.attack.epsilon:.4f}; craft the set again"
            )


def _open_array(path: Path, manifest: SetManifest) -> NDArray[Any]:
    if path.name not in manifest.arrays:
        raise InputError(f"{path.parent / MANIFEST}: lists no hash of {path.name}; craft it again")
    if not path.is_file():
        raise InputError(f"{path}: an array of the set is missing; craft the set again")
    if sha256_file(path) != manifest.arrays[path.name]:
        raise InputError(f"{path}: its sha256 is not the manifest's (torn or changed); craft again")
    try:
        # Not np.load: this reads .npy alone, and has no pickle to be switched on.
        array: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except ValueError as error:
        raise InputError(f"{path}: not a numpy array file ({error}); craft again") from None
    return array
