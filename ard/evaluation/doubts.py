"""Reasons to distrust a robust accuracy, looked for after every evaluation.

Each one is a way in which a defence looked robust and was not (Athalye et al. 2018; Carlini et al.
2019; Croce et al. 2022), and ends in a sentence with a remedy. The extra attacks run on a sample of
the images that the evaluation left standing, so that they cost little.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from ard.attacks.registry import ATTACKS, attack_label, expand, named_parts, parse_attack
from ard.attacks.steps.ascent import cross_entropy, gradient_and_logits
from ard.data.splits import Split, as_float
from ard.evaluation.accuracy import evaluate_attack
from edge_bench.core.progress import Monitor, silent
from edge_bench.core.spec import AttackSpec
from edge_bench.files.sets import AdversarialSet, as_unit, distances
from edge_bench.statistics.metrics import BoolArray
from edge_bench.statistics.stats import mcnemar_p_value

PROBED = 200
"""Images that an extra attack looks at, at most."""

STEPS = 100
"""Of the attacks that are to show that more steps find nothing more."""

QUERIES = 300
"""Of the black-box probe."""

TOLERANCE = 0.005
"""Robust accuracy, as a fraction, that an extra attack may take off before it is worth a word."""

LEAST_USED = 0.5
"""Share of the budget that a crafted image uses, if it is any good."""


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """A reason for distrust: its name, and a sentence with the remedy."""

    name: str
    sentence: str


def doubts_about(
    model: nn.Module,
    split: Split,
    specs: list[AttackSpec],
    masks: dict[str, BoolArray],
    *,
    has_gradients: bool = True,
    parent: nn.Module | None = None,
    torch_device: str = "cpu",
    seed: int = 0,
    monitor: Monitor = silent,
) -> list[Doubt]:
    """Every doubt about an evaluation by `specs` that found `masks` (see `evaluate_all`).

    Args:
        has_gradients: of its own, or of a parent's; otherwise only scores are asked.
        parent: the FP32 model of a deployed artefact, which should not be less robust than it.
    """
    found = looks(model, split, torch_device)
    clean = masks["clean"]
    if has_gradients:
        found += vanished(model, split.at(_some(clean, seed)), torch_device)
    if not specs or not clean.any():
        return found
    left = masks["worst case"]
    with monitor("doubts") as report_progress:
        if has_gradients and not _is_strong(specs):
            found += not_converged(model, split, specs[0], left, torch_device, seed)
        report_progress(1, 3, "")
        if has_gradients and any(not _is_blind(spec) for spec in specs):
            found += black_box_wins(model, split, specs, masks, torch_device, seed)
        report_progress(2, 3, "")
        if parent is not None:
            found += above_parent(parent, split, specs, masks, torch_device, seed)
        report_progress(3, 3, f"{len(found)} found")
    return found


def looks(model: nn.Module, split: Split, torch_device: str = "cpu") -> list[Doubt]:
    """What the outputs alone show: probabilities for logits, or another answer every time."""
    images = as_float(split.part(0, PROBED).images).to(torch_device)
    with torch.no_grad():
        first, second = model(images).float(), model(images).float()
    found = []
    sums = first.sum(dim=1)
    if bool((first >= 0).all() and ((sums - 1).abs() < 1e-4).all()):
        found.append(
            Doubt(
                name="probabilities",
                sentence="the model's outputs are probabilities, not logits: their gradients "
                "vanish where it is confident, so attacks stall; take the softmax out of the model",
            )
        )
    scale = float(first.abs().max()) or 1.0
    difference = float((first - second).abs().max())
    if difference > 1e-4 * scale:
        found.append(
            Doubt(
                name="randomised",
                sentence=f"two passes over the same images differ by {difference:.2g} in a logit: "
                "the model draws random numbers, and an attack that sees one draw overstates its "
                "robustness; put it in eval mode, or average the gradients over many draws (EOT)",
            )
        )
    return found


def vanished(model: nn.Module, probe: Split, torch_device: str = "cpu") -> list[Doubt]:
    """Images that are classified rightly, and whose cross-entropy has no gradient at all."""
    if not len(probe):
        return []
    images, labels = as_float(probe.images).to(torch_device), probe.labels.to(torch_device)
    gradient, _ = gradient_and_logits(model, images, lambda z: cross_entropy(z, labels))
    without = int((gradient.flatten(1).abs().amax(dim=1) == 0).sum())
    if without == 0:
        return []
    return [
        Doubt(
            name="zero gradients",
            sentence=f"{without} of {len(probe)} images have a gradient of exactly 0, so attacks "
            "by gradients cannot move them (masking); add square to --attacks, or attack a smooth "
            "stand-in of the model (--threat bpda, --threat transfer)",
        )
    ]


def rounded_away(crafted: AdversarialSet) -> list[Doubt]:
    """Images on the 8-bit grid that use little of the budget, or none.

    The standard ensemble leaves alone what it cannot break, which is not counted.
    """
    manifest = crafted.manifest
    if not manifest.on_grid:
        return []
    images, clean = (as_unit(array[:PROBED]) for array in (crafted.images, crafted.clean))
    lengths = distances(images, clean, manifest.attack.norm)
    if (attack := ATTACKS.get(manifest.attack.name)) and attack.distribution:
        lengths = lengths[lengths > 0]
    used = float(np.median(lengths)) if len(lengths) else 0.0
    if used >= LEAST_USED * manifest.attack.epsilon:
        return []
    return [
        Doubt(
            name="rounded away",
            sentence=f"the images use {used / manifest.attack.epsilon:.0%} of the budget "
            f"{manifest.attack.epsilon:g}: steps under half a level of the 8-bit grid were rounded "
            "away, or the gradients vanish; compare with --off-grid",
        )
    ]


def not_converged(
    model: nn.Module,
    split: Split,
    spec: AttackSpec,
    left: BoolArray,
    torch_device: str = "cpu",
    seed: int = 0,
) -> list[Doubt]:
    """More steps and starts, on both losses, still break images that the evaluation left."""
    probe = split.at(_some(left, seed))
    if not len(probe):
        return []
    robust = np.ones(len(probe), dtype=np.bool_)
    for name in (f"pgd{STEPS}", f"cw{STEPS}"):
        more = parse_attack(
            name, epsilon=spec.epsilon, norm=spec.norm, restarts=2, seed=spec.seed + 1
        )
        robust = evaluate_attack(model, probe, more, correct=robust, torch_device=torch_device)
    return _worth_a_word(
        robust,
        left,
        name="not converged",
        what=f"{STEPS} steps from two new starts, on cross-entropy and on the margin",
        remedy="use autoattack, or more steps and --restarts",
    )


def black_box_wins(
    model: nn.Module,
    split: Split,
    specs: list[AttackSpec],
    masks: dict[str, BoolArray],
    torch_device: str = "cpu",
    seed: int = 0,
) -> list[Doubt]:
    """Square, which sees scores alone, breaks what attacks by gradients left.

    The Square of the evaluation, also where it is the last part of autoattack; a short one of its
    own where there was none.
    """
    parts = {name: part for spec in specs for name, part in named_parts(spec).items()}
    remedy = (
        "the gradients are masked or too weak; attack a smooth stand-in of the model (--threat "
        "bpda, --threat transfer), and give Square more queries (square20000)"
    )
    if any(_is_blind(part) for part in parts.values()):
        lost = _lost_to_scores_alone(model, split, parts, masks, torch_device, seed)
        if lost <= TOLERANCE * len(split):
            return []
        return [
            Doubt(
                name="black box",
                sentence=f"Square breaks {lost} of {len(split)} images that the attacks by "
                f"gradients left: {remedy}",
            )
        ]
    left = masks["worst case"]
    probe = split.at(_some(left, seed))
    if not len(probe):
        return []
    square = replace(
        parse_attack(f"square{QUERIES}", epsilon=specs[0].epsilon, norm=specs[0].norm),
        seed=specs[0].seed,
    )
    robust = evaluate_attack(
        model, probe, square, correct=np.ones(len(probe), dtype=np.bool_), torch_device=torch_device
    )
    what = f"Square with {QUERIES} queries, which sees scores alone,"
    return _worth_a_word(robust, left, name="black box", what=what, remedy=remedy)


def _lost_to_scores_alone(
    model: nn.Module,
    split: Split,
    parts: dict[str, AttackSpec],
    masks: dict[str, BoolArray],
    torch_device: str,
    seed: int,
) -> int:
    """How many images Square broke that every attack by gradients leaves.

    One that came after Square may not have seen what that broke; it is asked about some of them.
    """
    left, lost = masks["clean"].copy(), np.zeros(len(split), dtype=np.bool_)
    later: list[AttackSpec] = []
    for name, part in parts.items():
        if _is_blind(part):
            lost |= left & ~masks[name]
        elif (lost & masks[name]).any():
            # It was shown them all (`each`), and its mask says which it breaks.
            lost, left = lost & masks[name], left & masks[name]
        else:
            left &= masks[name]
            later += [part] if lost.any() else []
    if not later:
        return int(lost.sum())
    probe = split.at(_some(lost, seed))
    stood = np.ones(len(probe), dtype=np.bool_)
    for part in later:
        stood = evaluate_attack(model, probe, part, correct=stood, torch_device=torch_device)
    return round(float(stood.mean()) * int(lost.sum()))


def above_parent(
    parent: nn.Module,
    split: Split,
    specs: list[AttackSpec],
    masks: dict[str, BoolArray],
    torch_device: str = "cpu",
    seed: int = 0,
) -> list[Doubt]:
    """The artefact keeps more images than the FP32 model it was made from, under one attack."""
    spec = next((s for s in specs if not _is_blind(s) and s.name != "autoattack"), None)
    if spec is None:
        return []
    index = _some(np.ones(len(split), dtype=np.bool_), seed)
    probe, artefact = split.at(index), masks[attack_label(spec)][index.numpy()]
    clean = masks["clean"][index.numpy()]
    theirs = evaluate_attack(parent, probe, spec, torch_device=torch_device)
    more, less = int((artefact & ~theirs).sum()), int((~artefact & theirs).sum())
    # What rounding flips on clean images is no sign of masking.
    theirs_clean = evaluate_attack(parent, probe, None, torch_device=torch_device)
    more_clean = int((clean & ~theirs_clean).sum())
    if more <= less + more_clean or mcnemar_p_value(more, less) > 0.05:
        return []
    return [
        Doubt(
            name="above its parent",
            sentence=f"under {attack_label(spec)} the artefact keeps {int(artefact.sum())} of "
            f"{len(probe)} images, its FP32 parent {int(theirs.sum())}: compression does not "
            "defend, so the attack suits the artefact badly; add square to --attacks and compare "
            "by --each",
        )
    ]


def _worth_a_word(
    robust: BoolArray, left: BoolArray, *, name: str, what: str, remedy: str
) -> list[Doubt]:
    """A doubt where an extra attack broke enough of the images that it looked at."""
    broken = float((~robust).mean())
    points = 100 * broken * float(left.mean())
    if points <= 100 * TOLERANCE:
        return []
    return [
        Doubt(
            name=name,
            sentence=f"{what} breaks {int((~robust).sum())} of {len(robust)} images that were "
            f"left, so about {points:.1f} points of the robust accuracy are not there: {remedy}",
        )
    ]


def _is_strong(specs: list[AttackSpec]) -> bool:
    """Were adaptive attacks on two losses run, which need no second look?"""
    names = {part.name for spec in specs for part in expand(spec)}
    return {"apgd_ce", "apgd_t"} <= names


def _is_blind(spec: AttackSpec) -> bool:
    return not ATTACKS[spec.name].uses_gradients


def _some(of: BoolArray, seed: int) -> Tensor:
    """Sorted indices of at most PROBED samples where `of` holds."""
    chosen = np.flatnonzero(of)
    if len(chosen) > PROBED:
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, PROBED, replace=False))
    return torch.from_numpy(chosen)
