"""Attacks on the spot on the artefact: which samples, within what budget, and what a mask says.

To add one: a function of the form of `square_attack`, an entry in ATTACKS, and one in
`options.square.ON_THE_SPOT`, which says what it sees of an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_bench.core.errors import InputError
from edge_bench.core.progress import ProgressCallback, no_progress
from edge_bench.core.spec import Artifact, AttackSpec, SetManifest, SetResult
from edge_bench.files.journal import Answer, ask_anew
from edge_bench.files.sets import AdversarialSet, grid_radius
from edge_bench.options.square import ON_THE_SPOT, SquareOptions
from edge_bench.robustness.rays import rays_attack
from edge_bench.robustness.square import Finished, Scores, square_attack
from edge_bench.statistics.metrics import (
    BoolArray,
    decode_mask,
    encode_mask,
    pack_bits,
    unpack_bits,
)

ATTACKS: dict[str, Callable[..., Iterator[Finished]]] = {
    "square": square_attack,
    "rays": rays_attack,
}


def square_spec(options: SquareOptions, sets: list[AdversarialSet]) -> AttackSpec:
    """The attack that `options` ask for beside `sets`.

    Raises:
        InputError: no sets, no one budget among them, one below a step of the 8-bit grid, or a
            set that has the result's name.
    """
    if not sets:
        raise InputError(
            f"--attack {options.attack}: needs images and their labels; give --sets, one set or "
            "a folder"
        )
    for replayed in sets:
        if replayed.name == options.name:
            raise InputError(
                f"{replayed.path}: has the name that the result of --attack {options.attack} "
                f"takes; rename the folder, such as {options.name}-replayed"
            )
    epsilon = options.epsilon
    if epsilon is None:
        epsilon = _common_epsilon(f"--attack {options.attack}", sets)
    if grid_radius(epsilon) == 0:
        raise InputError(
            f"--epsilon {epsilon:g}: less than one step (1/255) of the 8-bit grid, on which "
            "nothing would be attacked; use 1/255 or more"
        )
    return AttackSpec(
        name=options.attack,
        epsilon=epsilon,
        step_size=None,
        steps=options.queries,
        seed=options.seed,
    )


def _common_epsilon(option: str, sets: list[AdversarialSet]) -> float:
    """That of the adversarial sets: a corruption has none, and a differential set its own."""
    sets = [replayed for replayed in sets if not replayed.manifest.is_compared]
    for replayed in sets:
        if replayed.manifest.attack.norm != "linf":
            raise InputError(
                f"{option}: attacks in L-inf only, but {replayed.path} has an "
                f"{replayed.manifest.attack.norm} budget; give the L-inf budget, such as "
                "--epsilon 8/255"
            )
    found = sorted({replayed.manifest.attack.epsilon for replayed in sets})
    if not found:
        raise InputError(
            f"{option}: expected a set of an attack to take its epsilon from, came corruptions and "
            "differential sets alone; give it, such as --epsilon 8/255"
        )
    if len(found) > 1:
        listed = ", ".join(f"{epsilon * 255:.4g}/255" for epsilon in found)
        raise InputError(
            f"{option}: expected sets of one epsilon to take it from, came {listed}; give "
            "it, such as --epsilon 8/255"
        )
    return found[0]


def attack_artefact(
    options: SquareOptions,
    sets: list[AdversarialSet],
    masks: tuple[str, list[str]],
    scores: Scores,
    artifact: Artifact,
    *,
    versions: dict[str, str],
    batch_size: int,
    report_progress: ProgressCallback = no_progress,
    answer: Answer = ask_anew,
) -> SetResult:
    """Attack the clean images of `sets` by the `scores` of `artifact`, on the 8-bit grid.

    `masks` are those of the clean images and of each replayed set. A sample that was wrong before
    is not attacked, and a mask must not call it robust: it is '0' in the result. So by default the
    result is the worst case of everything so far and this attack; with `attack_all`, of the clean
    images and it. `answer` is that of `square_attack`.
    """
    spec, images = square_spec(options, sets), sets[0]
    clean_mask, replayed = masks
    right = decode_mask(clean_mask)
    for mask in [] if options.attack_all else replayed:
        right = right & decode_mask(mask)
    left = _survivors(
        spec, images, scores, right, batch_size, options.name, report_progress, answer
    )
    manifest = SetManifest(
        samples=len(left),
        image_shape=images.manifest.image_shape,
        classes=images.manifest.classes,
        class_names=images.manifest.class_names,
        dataset=images.manifest.dataset,
        attack=spec,
        threat=ON_THE_SPOT[options.attack],
        attacked="all" if options.attack_all else "survivors",
        source_sha256=artifact.sha256,
        source_name=Path(artifact.path).name,
        on_grid=True,
        arrays={},
        versions=versions,
    )
    return SetResult(
        name=options.name, manifest=manifest, relation="this artefact", mask=encode_mask(left)
    )


def _survivors(
    spec: AttackSpec,
    images: AdversarialSet,
    scores: Scores,
    right: BoolArray,
    batch_size: int,
    name: str,
    report_progress: ProgressCallback,
    answer: Answer,
) -> BoolArray:
    """(N,) booleans: those of `right` that the attack does not break."""
    assert spec.steps is not None
    indices = np.flatnonzero(right)
    total = max(1, len(indices) * spec.steps)
    report_progress(0, total, f"{name} on {len(indices)} images")
    mask = right.copy()
    for finished in ATTACKS[spec.name](
        scores,
        images.clean,
        images.labels,
        epsilon=spec.epsilon,
        queries=spec.steps,
        seed=spec.seed,
        batch_size=batch_size,
        indices=indices,
        report_progress=report_progress,
        answer=answer,
    ):
        broken = finished.indices[finished.success]
        if len(broken):
            # An attack never grades itself: what it found is judged in a pass of its own.
            ask = partial(
                _still_right, scores, finished.images[finished.success], images.labels[broken]
            )
            mask[broken] = unpack_bits(answer(ask), len(broken))
    report_progress(total, total, f"{name} {mask.mean():.1%}")
    return mask


def _still_right(scores: Scores, images: NDArray[Any], labels: NDArray[np.int64]) -> bytes:
    """The bits of which images (B, C, H, W) do not fool the artefact."""
    return pack_bits(scores(images).argmax(axis=1) == labels)
