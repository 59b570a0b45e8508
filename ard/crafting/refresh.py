"""A stored set made anew for another model: its images are where the attack starts.

A set that was crafted for one model goes stale as models change. What of it still fools the new one
is kept as it is; what the new one stands is attacked again, from the stored images, whose
perturbations are often most of the way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ard.attacks.differential import Pair, apart_by, pair_of
from ard.attacks.registry import ATTACKS
from ard.attacks.run import run_attack
from ard.attacks.steps.grid import round_to_grid
from ard.attacks.victims import Victim
from ard.crafting.batches import Batch, Made, told_apart, write_set
from ard.crafting.craft import BATCH_SIZE, plan_of, versions_of
from ard.data.splits import Split, as_float
from ard.models.deployed import reads_levels
from ard.models.graphs import UNNAMED
from ard.models.predict import predict
from ard.processes.world import ALONE, World
from edge_bench.core.classes import ClassNames, require_same
from edge_bench.core.errors import InputError
from edge_bench.core.progress import ProgressCallback, no_progress
from edge_bench.core.spec import AttackSpec, SetManifest, Source
from edge_bench.files.sets import AdversarialSet


@dataclass(frozen=True)
class StoredClean:
    """The clean images of a set, as a source of images."""

    opened: AdversarialSet
    skipped: str = ""

    @property
    def dataset(self) -> str:
        """As the set says."""
        return self.opened.manifest.dataset

    @property
    def classes(self) -> int:
        """As the set says."""
        return self.opened.manifest.classes

    @property
    def class_names(self) -> ClassNames | None:
        """As the set says."""
        return self.opened.manifest.class_names

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return self.opened.manifest.image_shape

    @property
    def identity(self) -> str:
        """Of the clean images, and of those that the attack starts from."""
        return self.opened.images_sha256 + self.opened.manifest.arrays["images.npy"]

    def __len__(self) -> int:
        return self.opened.manifest.samples

    def read(self, begin: int, end: int) -> Split:
        """Samples `begin` to `end` (not included)."""
        clean, labels = (np.array(a[begin:end]) for a in (self.opened.clean, self.opened.labels))
        return Split(torch.from_numpy(clean), torch.from_numpy(labels))


def refresh_set(
    victim: Victim,
    old: AdversarialSet,
    out: Path,
    *,
    spec: AttackSpec | None = None,
    force: bool = False,
    batch_size: int = BATCH_SIZE,
    torch_device: str = "cpu",
    world: World = ALONE,
    report_progress: ProgressCallback = no_progress,
) -> SetManifest:
    """Write the set `old`, made anew for `victim`, to the folder `out`.

    Args:
        spec: what to attack with, within the budget of `old`; by default what `old` was made with.

    Raises:
        InputError: no attack that can start from images, or a set that does not fit the victim.
    """
    spec = spec or old.manifest.attack
    _check(victim, old, spec)
    pair = pair_of(victim) if spec.direction is not None else None
    attacked: nn.Module = pair or victim.cheapest()

    def make(batch: Batch) -> Made:
        end = batch.begin + len(batch.labels)
        kept = torch.from_numpy(np.array(old.images[batch.begin : end])).to(torch_device)
        stored, standing = kept.clone(), ~_won(victim, pair, spec, _floats(kept), batch.labels)
        if standing.any():
            found = run_attack(
                attacked,
                as_float(batch.levels[standing]),
                batch.labels[standing],
                spec,
                batch.number,
                starts=_floats(kept[standing]),
            )
            if batch.on_grid:
                found = round_to_grid(found, batch.levels[standing], spec.epsilon, spec.norm)
            # Rounding can undo what was found; what had been stored is then no worse.
            better = _won(victim, pair, spec, _floats(found), batch.labels[standing])
            stored[standing] = torch.where(better.view(-1, 1, 1, 1), found, kept[standing])
        fooled = predict(victim.module, _floats(stored)) != batch.labels
        if pair is not None:
            return told_apart(pair.parent, batch, stored, fooled, spec.direction)
        return Made(stored=stored, fooled=fooled)

    images = StoredClean(old)
    return write_set(
        images,
        plan_of(_manifest(victim, old.manifest, spec), images, victim, batch_size, torch_device),
        out,
        make,
        attacked=attacked,
        force=force,
        torch_device=torch_device,
        world=world,
        report_progress=report_progress,
    )


def _floats(stored: Tensor) -> Tensor:
    return as_float(stored) if stored.dtype == torch.uint8 else stored


def _won(
    victim: Victim, pair: Pair | None, spec: AttackSpec, images: Tensor, labels: Tensor
) -> Tensor:
    """(B,) has the attack what it is after on these images?"""
    if pair is None:
        return predict(victim.module, images) != labels
    with torch.no_grad():
        return apart_by(spec.direction)(pair(images), labels) > 0


def _check(victim: Victim, old: AdversarialSet, spec: AttackSpec) -> None:
    manifest, card = old.manifest, victim.card
    if manifest.threat == "corruption":
        raise InputError(f"--refresh {old.path}: is a corruption, which no model changes")
    kind = ATTACKS.get(spec.name)
    if kind is None or not kind.climbs:
        able = ", ".join(f"{name}N" for name, attack in ATTACKS.items() if attack.climbs)
        raise InputError(
            f"--refresh {old.path}: was made with {spec.name}, which cannot start from its images; "
            f"name one that can with --attack, of {able}"
        )
    if spec.steps is None or (kind.step_size is not None and spec.step_size is None):
        raise InputError(
            f"--refresh {old.path}: was made elsewhere with {spec.name}, of which it tells no "
            f"steps; name an attack with --attack, such as {spec.name}{kind.steps or ''}"
        )
    if kind.differential != (manifest.threat == "differential"):
        raise InputError(
            f"--attack {spec.name}: expected {'a' if not kind.differential else 'no'} differential "
            f"attack for {old.path}, whose threat is {manifest.threat}"
        )
    if not kind.differential and not victim.has_gradients:
        raise InputError(
            f"--refresh {old.path}: needs gradients, but {victim.why_blind}; give the weights that "
            "it was exported from as --parent"
        )
    if not manifest.on_grid and reads_levels(victim.module):
        raise InputError(
            f"--refresh {old.path}: holds images between 8-bit levels, and {victim.path} reads "
            "levels alone; refresh a set that was crafted without --off-grid"
        )
    # A file without a card does not say its dataset, and takes that of the set.
    dataset = manifest.dataset if card.dataset == UNNAMED else card.dataset
    ours = (dataset, card.classes, card.input_shape)
    theirs = (manifest.dataset, manifest.classes, manifest.image_shape)
    if ours != theirs:
        raise InputError(
            f"--refresh {old.path}: holds {theirs[0]} of {theirs[1]} classes, images {theirs[2]}, "
            f"but {victim.path} was trained on {ours[0]} of {ours[1]}, {ours[2]}; refresh a set of "
            "its own dataset"
        )
    require_same(card.class_names, manifest.class_names, str(victim.path), str(old.path))


def _manifest(victim: Victim, old: SetManifest, spec: AttackSpec) -> SetManifest:
    is_differential = spec.direction is not None
    before = Source(sha256=old.source_sha256, name=old.source_name)
    again = before.sha256 == victim.sha256
    return replace(
        old,
        attack=spec,
        threat="differential" if is_differential else victim.threat,
        attacked="all",
        source_sha256=victim.sha256,
        source_name=victim.path.name,
        surrogate_sha256=victim.surrogate_sha256,
        parent_sha256=victim.surrogate_sha256 if is_differential else None,
        refreshed=old.refreshed if again else (*old.refreshed, before),
        arrays={},
        versions=versions_of([spec]),
    )
