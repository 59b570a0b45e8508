"""Attack pictures at the camera's size, through the resize that the card says, and store PNGs.

What a board decodes and resizes itself cannot be attacked by arrays of the model's size. Here the
perturbation is in the ball around the picture as it was decoded, in whole 8-bit levels, and the
judgement is Pillow's: each stored file is read as `bench --pictures` reads it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from PIL import __version__ as pillow_version
from torch import Tensor, nn

from ard.attacks.run import run_attack
from ard.attacks.steps.grid import round_to_grid
from ard.attacks.victims import Victim
from ard.crafting.begun_pictures import begun_pictures
from ard.crafting.resizing import TOLERANCE, Resized
from ard.data.splits import as_float
from ard.models.predict import predict
from edge_bench.core.errors import InputError
from edge_bench.core.pictures.preprocessing import Preprocessing
from edge_bench.core.progress import ProgressCallback, no_progress
from edge_bench.core.spec import AttackSpec, ModelCard
from edge_bench.devices.process import runtime_versions
from edge_bench.files.pictures.crafted import RECORD, CraftedPictures
from edge_bench.files.pictures.decode import (
    MODES,
    decoded,
    opened,
    read_picture,
    upright_size,
)
from edge_bench.files.pictures.tree import labels_of, open_tree
from edge_bench.files.sets import grid_radius
from edge_bench.files.store import atomic_file, sha256_file, write_json


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of it, judged on the files as a board reads them.

    Attributes:
        right: (N,) is the source right on the picture as it came?
        kept: (N,) is it right on the stored picture?
        apart: the largest difference between torch's resize and Pillow's, in levels.
    """

    right: NDArray[np.bool_]
    kept: NDArray[np.bool_]
    apart: float


def attack_pictures(
    victim: Victim,
    folder: Path,
    spec: AttackSpec,
    out: Path,
    *,
    threat: str,
    force: bool = False,
    torch_device: str = "cpu",
    report_progress: ProgressCallback = no_progress,
) -> Outcome:
    """Write the pictures of `folder`, attacked, to the folder `out`, with their record.

    One by one, since each may have a size of its own. A run that was stopped goes on at the first
    picture that it had not stored.

    Raises:
        InputError: no such pictures, or classes that are not the model's.
    """
    require_sizes(victim.card, folder)
    every = _labelled(victim.card, folder)
    one = partial(_one, victim, spec, torch_device)
    told, files = [], {}
    plan = _plan(victim, folder, spec, threat, [path for path, _ in every])
    with begun_pictures(out, plan, RECORD, force=force) as partial_out:
        for index, (path, label) in enumerate(every):
            # The suffix is kept in the name: a.jpg and a.png may lie side by side.
            name = f"{path.relative_to(folder).as_posix()}.png"
            told.append(one(path, label, index, partial_out / name))
            files[name] = sha256_file(partial_out / name)
            kept = sum(judged.kept for judged in told) / len(told)
            report_progress(index + 1, len(every), f"kept {kept:.1%}")
        record = CraftedPictures(
            attack=spec,
            threat=threat,
            source_sha256=victim.sha256,
            source_name=victim.path.name,
            preprocessing=victim.card.preprocessing,
            files=files,
            versions=runtime_versions() | {"pillow": pillow_version},
        )
        write_json(partial_out / RECORD, record, True)
    return Outcome(
        right=np.array([judged.right for judged in told]),
        kept=np.array([judged.kept for judged in told]),
        apart=max(judged.apart for judged in told),
    )


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """`Outcome` of one picture."""

    right: bool
    kept: bool
    apart: float


def _labelled(card: ModelCard, folder: Path) -> list[tuple[Path, int]]:
    """The pictures of a folder with the model's number of their class."""
    if card.input_shape[0] not in MODES:
        raise InputError(
            f"--pictures {folder}: the model reads {card.input_shape[0]} channels, but pictures "
            "have 1 or 3; craft a set from --images"
        )
    tree = open_tree(folder)
    labels = labels_of(tree.class_names, card, f"--pictures {folder}")
    return [
        (path, label)
        for name, label in zip(tree.names, labels, strict=True)
        for path in tree.pictures(name)
    ]


def _one(
    victim: Victim, spec: AttackSpec, device: str, path: Path, label: int, index: int, out: Path
) -> _Judged:
    """Attack one picture, store it as `out`, and judge it as it is read from there."""
    card = victim.card
    mode = MODES[card.input_shape[0]]
    before = _image(path, mode, card)
    clean = planes(np.asarray(decoded(path, mode)))
    stored = planes(np.asarray(decoded(out, mode))) if out.is_file() else None
    if stored is None or not _in_the_ball(stored, clean, spec):
        target = torch.tensor([label]).to(device)
        through = nn.Sequential(Resized(card.preprocessing), victim.module).eval()
        levels = clean.to(device)
        found = run_attack(through, as_float(levels), target, spec, index)
        stored = round_to_grid(found, levels, spec.epsilon, spec.norm).cpu()
        _store(stored, mode, out)
    after = _image(out, mode, card)
    said = predict(victim.module, as_float(torch.cat([before, after])).to(device)).tolist()
    apart = _apart(card.preprocessing, stored, after)
    return _Judged(right=said[0] == label, kept=said[1] == label, apart=apart)


def _plan(victim: Victim, folder: Path, spec: AttackSpec, threat: str, paths: list[Path]) -> str:
    """All that decides the stored pictures, as text."""
    files = {path.relative_to(folder).as_posix(): sha256_file(path) for path in paths}
    made_from = {
        "source": [victim.sha256, victim.surrogate_sha256, victim.runtime],
        "preprocessing": str(victim.card.preprocessing),
        "attack": [threat, asdict(spec)],
        "files": files,
        "versions": runtime_versions() | {"pillow": pillow_version},
    }
    return json.dumps(made_from, sort_keys=True)


def _in_the_ball(stored: Tensor, clean: Tensor, spec: AttackSpec) -> bool:
    """Is a picture of an earlier run what an attack with this budget may have stored?"""
    if stored.shape != clean.shape:
        return False
    away = (stored.int() - clean.int()).float()
    if spec.norm == "linf":
        return float(away.abs().max()) <= grid_radius(spec.epsilon)
    return float(away.norm()) <= 255 * spec.epsilon + 1e-3


def _store(stored: Tensor, mode: str, out: Path) -> None:
    """Write (1, C, H, W) levels as a PNG, whole or not at all."""
    pixels = stored[0].permute(1, 2, 0).numpy()
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(out, force=True) as partial_file:
        Image.fromarray(pixels if mode == "RGB" else pixels[..., 0]).save(partial_file, "PNG")


def planes(pixels: NDArray[np.uint8]) -> Tensor:
    """(H, W, 3) or (H, W) pixels as one image of channels, (1, C, H, W) uint8."""
    image = pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1)
    return torch.from_numpy(image.copy()).unsqueeze(0)


def require_sizes(card: ModelCard, folder: Path) -> None:
    """Refuse pictures of another size than the model's where the card names no resize.

    Raises:
        InputError: names the first; reads the files' heads alone.
    """
    if card.preprocessing is not None:
        return
    _, height, width = card.input_shape
    for path, _ in _labelled(card, folder):
        with opened(path) as picture:
            size = upright_size(picture)
        if size != (width, height):
            raise InputError(
                f"{path}: {size[0]}x{size[1]} pixels, but the model reads {width}x{height} and its "
                "card names no resize; adopt it with --image-size"
            )


def _image(path: Path, mode: str, card: ModelCard) -> Tensor:
    """(1, C, height, width) uint8 levels of a file, as the model reads them."""
    return planes(read_picture(path, mode, card.preprocessing))


def _apart(how: Preprocessing | None, stored: Tensor, pillow: Tensor) -> float:
    """The largest difference between torch's image of a stored picture and Pillow's, in levels."""
    ours = Resized(how)(stored.double())
    return float((ours - pillow.double()).abs().max())


def disagreement(apart: float) -> str | None:
    """A sentence where torch's resize is not Pillow's, so that the attack saw another model."""
    if apart <= TOLERANCE + 0.5:
        return None
    return (
        f"torch's resize differs from Pillow's by {apart:.1f} levels where {TOLERANCE + 0.5:g} are "
        "expected at most: the attack saw other images than a board does, and may be too weak"
    )
