"""Attacks beside the same attacks by other libraries, and beside nothing but their gradients."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ard.attacks.registry import parse_attack
from ard.attacks.run import run_attack
from ard.attacks.steps.ascent import cross_entropy, gradient_and_logits
from ard.attacks.victims import Victim, weights_victim
from ard.crafting.craft import BATCH_SIZE, craft_set
from ard.data.sources import SplitSource
from ard.data.splits import Split, as_float
from ard.evaluation.accuracy import evaluate_attack
from ard.models.predict import predict
from benchmarks.attacks.rivals import RIVALS, reference
from benchmarks.lines import ROOT
from benchmarks.speed.finding import Asked, Case, Finding, against, alone, missing
from benchmarks.speed.turns import by_turns, seconds
from edge_bench.core.spec import AttackSpec
from edge_bench.statistics.metrics import BoolArray

TITLE = "Crafting and AutoAttack"
SECONDS = 570.0
ABOUT = """The ResNet-8 of width 32 in weights/, on drawn images of which it keeps about half under
PGD-20 at 4/255, labelled by its own answers. PGD-20 of 60 images as crafting runs it beside the
libraries' on the network as it was loaded; a set of 250 images, judged and written, beside the
twenty gradients of the folded network alone; the standard AutoAttack of 10 images as `evaluate`
runs it beside pyautoattack called by hand with the same seed, and on how many images both end
otherwise."""
LEFT = """A set is judged twice by a forward pass that its gradients do not give (after the last
step, and after rounding to the 8-bit grid): two of 62 passes. AutoAttack's time is its queries and
gradients, and both make the same ones; ours runs them on the folded network."""

WEIGHTS = ROOT / "weights/resnet8-32-cifar10-pgd_at.safetensors"
EPSILON, STEP_SIZE = 4 / 255, 1 / 255
LEAST, OF_THE_FLOOR = 1.3, 0.95
COUNTS = {"PGD-20": 60, "a set by PGD-20": BATCH_SIZE, "AutoAttack": 10}


def cases(asked: Asked) -> dict[str, Case]:
    """PGD-20 beside libraries, crafting beside its floor, AutoAttack beside the reference."""
    counts = dict.fromkeys(COUNTS, 4) if asked.quick else COUNTS
    works = (pgd, floor, autoattack)
    return {
        f"{name}, {count} images": partial(work, count, asked)
        for (name, count), work in zip(counts.items(), works, strict=True)
    }


def drawn(victim: Victim, count: int) -> Split:
    """Smooth images with the victim's own answers."""
    generator = torch.Generator().manual_seed(0)
    few = 0.5 + 0.5 * torch.randn(count, 3, 4, 4, generator=generator)
    images = F.interpolate(few, size=(32, 32), mode="bicubic").clamp(0, 1)
    levels = (255 * images).round().to(torch.uint8)
    return Split(levels, predict(victim.module, as_float(levels)))


def spec_of(name: str, asked: Asked) -> AttackSpec:
    """An attack of the budget."""
    return parse_attack(
        "apgd_ce" if asked.quick and name == "autoattack" else name,
        epsilon=EPSILON,
        step_size=STEP_SIZE if name.startswith("pgd") else None,
    )


def pgd(count: int, asked: Asked) -> list[Finding]:
    """Ours beside each library that is here."""
    victim = weights_victim(WEIGHTS)
    split, spec = drawn(victim, count), spec_of("pgd20", asked)
    images, labels, twin = as_float(split.images), split.labels, victim.cheapest()
    rivals: dict[str, Callable[[], Tensor]] = {
        "ours": lambda: run_attack(twin, images, labels, spec, 0)
    }
    for name, rival in RIVALS.items():
        if find_spec(name):
            rivals[name] = partial(rival, victim.module, images, labels, spec)
    kept = {
        name: int((predict(victim.module, each().detach()) == labels).sum())
        for name, each in rivals.items()
    }
    found = by_turns({name: seconds(each) for name, each in rivals.items()}, asked.turns)
    return [
        against(
            found["ours"],
            found[name],
            "times as fast",
            rival=name,
            bar=LEAST,
            note=f"{kept['ours']} and {kept[name]} images kept",
        )
        if name in found
        else missing(name, "times as fast", f"{name} is not installed", bar=LEAST)
        for name in RIVALS
    ]


def floor(count: int, asked: Asked) -> list[Finding]:
    """Crafting, judging and writing a set beside its gradients alone."""
    victim = weights_victim(WEIGHTS)
    split, spec = drawn(victim, count), spec_of("pgd20", asked)
    images, labels, twin = as_float(split.images), split.labels, victim.cheapest()
    steps = spec.steps or 0
    objective = partial(cross_entropy, labels=labels)

    def gradients() -> None:
        for _ in range(steps):
            gradient_and_logits(twin, images, objective)

    def crafted() -> None:
        with tempfile.TemporaryDirectory() as folder:
            source = SplitSource(split, victim.card.dataset, victim.card.classes)
            craft_set(victim, source, spec, Path(folder) / "set")

    gradients()
    rivals = {"ours": seconds(crafted), "floor": seconds(gradients)}
    found = by_turns(rivals, asked.turns)
    return [
        against(
            found["ours"],
            found["floor"],
            "times as fast",
            rival="its gradients alone",
            bar=OF_THE_FLOOR,
        )
    ]


def autoattack(count: int, asked: Asked) -> list[Finding]:
    """Our evaluation beside the reference on the same module, with the same seed."""
    victim = weights_victim(WEIGHTS)
    split, spec = drawn(victim, count), spec_of("autoattack", asked)
    images = as_float(split.images)
    masks: dict[str, BoolArray] = {}

    def judged(name: str, attack: Callable[[], BoolArray]) -> Callable[[], float]:
        def work() -> None:
            masks[name] = attack()

        return seconds(work)

    rivals = {
        "ours": judged("ours", lambda: evaluate_attack(victim.module, split, spec)),
        "theirs": judged("theirs", lambda: reference(victim.module, images, split.labels, spec)),
    }
    found = by_turns(rivals, asked.turns)
    apart = float((masks["ours"] != masks["theirs"]).sum())
    rival = "pyautoattack by hand"
    kept = f"{int(masks['ours'].sum())} images kept"
    return [
        against(found["ours"], found["theirs"], "times as fast", rival=rival, bar=LEAST, note=kept),
        alone([apart], rival=f"images that end otherwise than by {rival}", bar=0.0, unit="images"),
    ]
