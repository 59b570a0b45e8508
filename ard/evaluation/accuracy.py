"""Robust accuracy of a model from per-sample masks, under attacks that it is judged by alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ard.attacks.autoattack import require_classes
from ard.attacks.differential import Pair
from ard.attacks.pace import reported
from ard.attacks.registry import attack_label, expand, named_parts
from ard.attacks.run import run_attack
from ard.attacks.steps.grid import levels_of, round_to_grid
from ard.data.splits import Split, as_float
from ard.models.deployed import Deployed, reads_levels
from ard.models.folding import for_attack
from ard.models.predict import predict
from ard.processes.world import ALONE, World
from edge_bench.core.progress import Monitor, ProgressCallback, no_progress, silent
from edge_bench.core.spec import AttackSpec
from edge_bench.files.sets import grid_radius
from edge_bench.statistics.metrics import BoolArray

# That of the reference implementation: its batches of what is left are ours too, so that with one
# seed the parts of AutoAttack come to the same end on every sample.
BATCH_SIZE = 250


def evaluate_attack(
    model: nn.Module,
    split: Split,
    spec: AttackSpec | None,
    *,
    correct: BoolArray | None = None,
    torch_device: str = "cpu",
    batch_size: int = BATCH_SIZE,
    world: World = ALONE,
    found: Tensor | None = None,
    report_progress: ProgressCallback = no_progress,
    climbed: Callable[[nn.Module], nn.Module] = for_attack,
) -> BoolArray:
    """(N,) booleans: is the sample right on the clean image and still right under the attack?

    Args:
        model: in eval mode, on `torch_device`.
        spec: the attack; None judges the clean images. `autoattack` runs its parts one after
            another, each on what the earlier ones left.
        correct: samples that are right so far; the others are not attacked again, since a sample
            that is wrong already cannot become robust.
        world: processes that take turns with the batches; all of them get all booleans.
        found: (N, C, H, W), where the images that samples were judged on are put; those of
            samples that were not attacked stay as they are.
        climbed: makes of the model the form of it that attacks climb on, at less cost; what they
            find is judged by the model itself.
    """
    if correct is None:
        correct = np.ones(len(split), dtype=np.bool_)
        if spec is not None:
            correct = evaluate_attack(model, split, None, torch_device=torch_device, world=world)
    parts: list[AttackSpec | None] = [None]
    cheaper = model
    if spec is not None:
        parts = [*expand(spec)]
        require_classes(spec.name, model, as_float(split.part(0, 1).images).to(torch_device))
        cheaper = model if isinstance(model, Deployed) else climbed(model)
    judge = _Judge(
        model=model,
        cheaper=cheaper,
        split=split,
        torch_device=torch_device,
        batch_size=batch_size,
        world=world,
        found=found,
        report_progress=report_progress,
    )
    for part in parts:
        correct = judge.left_by(part, correct)
    label = attack_label(spec) if spec else "clean"
    report_progress(max(len(split), 1), max(len(split), 1), f"{label} {correct.mean():.1%}")
    return correct


@dataclass(frozen=True, kw_only=True)
class _Judge:
    """What `evaluate_attack` was asked, whichever part of an ensemble is at work."""

    model: nn.Module
    cheaper: nn.Module
    split: Split
    torch_device: str
    batch_size: int
    world: World
    found: Tensor | None
    report_progress: ProgressCallback

    def left_by(self, spec: AttackSpec | None, correct: BoolArray) -> BoolArray:
        """(N,) booleans: which of the samples that are `correct` does one attack leave right?"""
        robust = correct.copy()
        alive = np.flatnonzero(correct)
        for number, begin in enumerate(range(0, len(alive), self.batch_size)):
            if not self.world.takes(number):
                continue
            index = torch.from_numpy(alive[begin : begin + self.batch_size])
            batch = self.split.at(index)
            images = as_float(batch.images).to(self.torch_device)
            labels = batch.labels.to(self.torch_device)
            # The others are as far with theirs.
            end = min(begin + self.batch_size * self.world.size, len(alive))
            with reported(self.cheaper, spec, begin, end, len(alive), self.report_progress):
                if spec is not None:
                    clean, aimed = images, within_reach(self.model, spec)
                    images = attacked(self.model, self.cheaper, clean, labels, aimed, number)
                    images = as_given(self.model, images, clean, spec)
            robust[index.numpy()] = (predict(self.model, images) == labels).cpu().numpy()
            if self.found is not None:
                self.found[index] = images.cpu()
            self.report_progress(end, len(alive), "")
        if self.found is not None and self.world.size > 1:
            self._collect(self.found, alive)
        return self.world.all_of(robust)

    def _collect(self, found: Tensor, alive: NDArray[np.int64]) -> None:
        """Put into rank 0's `found` what the batches of the other processes became."""
        turns = np.arange(len(alive)) // self.batch_size % self.world.size
        ours = torch.from_numpy(alive[turns == self.world.rank])
        for theirs in self.world.at_first({"index": ours, "images": found[ours]}):
            found[theirs["index"]] = theirs["images"]


def told_apart_mask(
    pair: Pair,
    split: Split,
    spec: AttackSpec,
    *,
    torch_device: str = "cpu",
    batch_size: int = BATCH_SIZE,
    world: World = ALONE,
    report_progress: ProgressCallback = no_progress,
) -> BoolArray:
    """(N,) booleans: did a differential attack tell the pair apart in its direction?

    Judged in passes of their own, and on the clean image, too, which is within every budget.
    """
    found = np.zeros(len(split), dtype=np.bool_)
    for number, begin in enumerate(range(0, len(split), batch_size)):
        if not world.takes(number):
            continue
        end = min(begin + batch_size, len(split))
        batch = split.part(begin, end)
        clean, labels = as_float(batch.images).to(torch_device), batch.labels.to(torch_device)
        with reported(pair, spec, begin, end, len(split), report_progress):
            aimed = within_reach(pair.artefact, spec)
            images = run_attack(pair, clean, labels, aimed, number, stop_when_fooled=True)
            images = as_given(pair.artefact, images, clean, spec)
        for judged in (clean, images):
            parent, artefact = predict(pair.parent, judged), predict(pair.artefact, judged)
            errs, right = (parent, artefact) if spec.direction == "parent" else (artefact, parent)
            found[begin:end] |= ((errs != labels) & (right == labels)).cpu().numpy()
        report_progress(end, len(split), "")
    found = ~world.all_of(~found)
    report_progress(len(split), len(split), f"{attack_label(spec)} {found.mean():.1%}")
    return found


def within_reach(model: nn.Module, spec: AttackSpec) -> AttackSpec:
    """The attack with the whole 8-bit steps inside its budget, on what is given no others.

    Rounding what lies between two steps to the nearer one would leave the budget.
    """
    steps = grid_radius(spec.epsilon)
    if not reads_levels(model) or spec.norm != "linf" or steps == 0:
        return spec
    return replace(spec, epsilon=steps / 255)


def as_given(model: nn.Module, images: Tensor, clean: Tensor, spec: AttackSpec) -> Tensor:
    """What the model is given of adversarial images (B, C, H, W): where it reads 8-bit levels, the
    levels near them that lie inside the budget around `clean`."""
    if not reads_levels(model):
        return images
    return as_float(round_to_grid(images, levels_of(clean), spec.epsilon, spec.norm))


def attacked(
    model: nn.Module,
    cheaper: nn.Module,
    images: Tensor,
    labels: Tensor,
    spec: AttackSpec,
    batch_index: int,
) -> Tensor:
    """Adversarial images (B, C, H, W) that an evaluation of `model` is content with.

    The attack climbs on `cheaper`, another form of the same function (see `folding`). Where the
    two disagree about what it found, by a rounding error, it is run once more on the model itself,
    which would otherwise pass for robust.
    """
    found = run_attack(cheaper, images, labels, spec, batch_index, stop_when_fooled=True)
    if cheaper is model:
        return found
    fooled_cheaper = predict(cheaper, found) != labels
    disputed = (fooled_cheaper & (predict(model, found) == labels)).nonzero().squeeze(1)
    if len(disputed):
        found[disputed] = run_attack(
            model,
            images[disputed],
            labels[disputed],
            spec,
            batch_index,
            stop_when_fooled=True,
        )
    return found


def evaluate_all(
    model: nn.Module,
    split: Split,
    specs: list[AttackSpec],
    *,
    each: bool = False,
    torch_device: str = "cpu",
    known: dict[str, BoolArray] | None = None,
    finished: Callable[[str, BoolArray], None] | None = None,
    keep: Callable[[str, AttackSpec, Tensor], None] | None = None,
    world: World = ALONE,
    monitor: Monitor = silent,
) -> dict[str, BoolArray]:
    """Masks by attack: `clean`, each attack, and `worst case`, right under all of them.

    Example:
        masks = evaluate_all(model, digits.test, [parse_attack("pgd20", epsilon=0.15)])
        print(masks["worst case"].mean())

    Args:
        each: attack every sample that is right on the clean image with every attack. Otherwise an
            attack sees what the earlier ones left: its mask is the worst case so far, found sooner.
        known: masks that an interrupted evaluation has found already, by attack.
        finished: told every mask as soon as it is whole.
        keep: given the images (N, C, H, W) in [0, 1] that an attack ended with, before `finished`;
            those of samples that it did not attack are clean.
        world: processes that take turns with the batches, all of which get all masks; the images
            are kept, and masks told as finished, on rank 0 alone.
    """
    masks, order = dict(known or {}), ["clean"]
    attack = partial(evaluate_attack, model, split, torch_device=torch_device, world=world)

    def judge(label: str, spec: AttackSpec | None, correct: BoolArray | None) -> BoolArray:
        if label not in masks:
            found = as_float(split.images) if keep is not None and spec is not None else None
            with monitor(label) as report_progress:
                masks[label] = attack(
                    spec, correct=correct, found=found, report_progress=report_progress
                )
            if found is not None and keep is not None and spec is not None and world.leads:
                keep(label, spec, found)
            if finished is not None and world.leads:
                finished(label, masks[label])
        return masks[label]

    _require_classes(specs, model, split, torch_device)
    worst = judge("clean", None, None)
    for spec in specs:
        label, left = attack_label(spec), masks["clean"] if each else worst
        # One by one, so that an interrupted ensemble goes on after its last whole part.
        for name, part in named_parts(spec).items():
            left = judge(name, part, left)
            order.append(name)
        if label not in order:
            masks[label] = left
            order.append(label)
        worst = worst & masks[label]
    return {label: masks[label] for label in order} | ({"worst case": worst} if specs else {})


def _require_classes(
    specs: list[AttackSpec], model: nn.Module, split: Split, torch_device: str
) -> None:
    first = as_float(split.part(0, 1).images).to(torch_device)
    for spec in specs:
        require_classes(spec.name, model, first)
