"""One step of training beside the passes that it needs, and beside the published loops."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import torch

from ard.learning.step import Teachers
from benchmarks.methods import passes
from benchmarks.methods.passes import Setting
from benchmarks.speed import machine, published
from benchmarks.speed.finding import Asked, Case, Finding, against
from benchmarks.speed.networks import NAMES
from benchmarks.speed.turns import by_turns

TITLE = "A training step"
SECONDS = 222.0
ABOUT = """Seconds of a whole step of ARD (augmentation, attack, passes, losses, optimiser, weight
average) over those of the passes that it cannot do without, run alone; and of RSLAD and AdaAD over
a step as their published code writes it (fp32, channels first). New networks, noise of 32 x 32
pixels, 10 classes, the teacher a ResNet-8 of width 32; B = 128 for a ResNet-8, 16 for the
others."""
LEFT = """cProfile by the processor's clock (ResNet-8, PGD-3, B = 128, bf16): 97.5 % of a step are
passes, of which convolutions and backward take 88 points; the weight average takes 1 %, start and
projection of the attack 0.9 %, augmentation 0.5 %. Average and optimiser do not shrink with the
batch, so the others at B = 16 show them more."""

OVER_PASSES = 1.05
SMALL = Setting("resnet8:4", "resnet8:4", side=8, classes=3, inner_steps=3, batch=8)
BATCHES = {"resnet8": 128, "resnet18": 16, "mobilenet_v2": 16}
PUBLISHED = ("rslad", "adaad")


def cases(asked: Asked) -> dict[str, Case]:
    """Networks and lengths of the attack."""
    if asked.quick:
        return {"tiny, PGD-3": partial(measured, SMALL, PUBLISHED, asked.turns)}
    found: dict[str, Case] = {}
    for architecture, batch in BATCHES.items():
        for steps in (3, 10):
            setting = Setting(
                architecture, "resnet8:32", side=32, classes=10, inner_steps=steps, batch=batch
            )
            # On the large ones the published loops would take as long as all the rest.
            beside = PUBLISHED if architecture == "resnet8" else PUBLISHED[: int(steps == 3)]
            name = f"{NAMES[architecture]}, PGD-{steps}"
            found[name] = partial(measured, setting, beside, asked.turns)
    return found


def measured(setting: Setting, methods: tuple[str, ...], turns: int) -> list[Finding]:
    """ARD over its passes; each of `methods` over its published loop."""
    torch.manual_seed(0)
    dataset = passes.noise(setting)
    teacher = passes.network(setting.teacher, dataset).eval().requires_grad_(False)
    alone = passes.Alone(setting.config("ard"), dataset, teacher)

    def ours(method: str) -> Callable[[], float]:
        teachers = Teachers(robust=copy.deepcopy(teacher))
        return passes.seconds_of_steps(setting.config(method), dataset, teachers).__next__

    rivals = {"ard": ours("ard"), "passes": alone.seconds_of_passes}
    for method in methods:
        loop = published.loop(
            passes.network(setting.student, dataset),
            copy.deepcopy(teacher),
            alone.images,
            epsilon=8 / 255,
            step_size=2 / 255,
            steps=setting.inner_steps,
        )
        rivals[method] = ours(method)
        rivals[f"published {method}"] = partial(published.seconds, loop, method)
    for each in rivals.values():
        each()
    found = by_turns(rivals, turns)
    bf16 = machine.has_bf16()
    note = "bf16" if bf16 else "fp32"
    least = 2.0 if bf16 else 1.2
    return [
        against(
            found["ard"],
            found["passes"],
            "over",
            rival="ARD over its passes",
            bar=OVER_PASSES,
            note=note,
        )
    ] + [
        against(
            found[method],
            found[f"published {method}"],
            "times as fast",
            rival=f"{method} as published",
            bar=least,
            note=note,
        )
        for method in methods
    ]
