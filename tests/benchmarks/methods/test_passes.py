"""The passes that a step is measured against are those that a step makes, and no others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace

import pytest
import torch

from ard.learning.config import TrainConfig
from ard.learning.step import Teachers, update
from ard.methods.parts.base import LossOptions
from ard.methods.registry import METHODS
from benchmarks.methods import passes

TINY = passes.Setting("resnet8:4", "resnet8:4", side=8, classes=3, inner_steps=2, batch=8)
CASES: list[tuple[str, dict[str, object]]] = [
    *((method, {}) for method in METHODS),
    ("ard", {"inner": "adaad", "loss": LossOptions(anchor="igdm")}),
    ("ard", {"inner": "ranking"}),
    ("mtard", {"inner": "kl_clean"}),
    ("iad", {"inner": "adaad"}),
]


def counted(alone: passes.Alone, action: Callable[[], object]) -> dict[str, int]:
    """How often the action runs each network, in the words of `Passes`."""
    calls: Counter[str] = Counter()
    # Each with its name where a gradient is taken, and where none is.
    networks = (
        (alone.run.student, "student", "student without a gradient"),
        (alone.run.twin.module, "attack", "frozen"),
        (alone.teacher, "attack_teacher", "teacher"),
    )
    handles = []
    for module, graded, frozen in networks:

        def count(*_: object, graded: str = graded, frozen: str = frozen) -> None:
            calls[graded if torch.is_grad_enabled() else frozen] += 1

        handles.append(module.register_forward_pre_hook(count))
    action()
    for handle in handles:
        handle.remove()
    return dict(calls)


@pytest.mark.parametrize(("method", "changes"), CASES)
def test_the_passes_of_a_step_are_counted_right(method: str, changes: dict[str, object]) -> None:
    config: TrainConfig = replace(TINY.config(method), **changes)  # type: ignore[arg-type]
    dataset = passes.noise(TINY)
    teacher = passes.network(TINY.teacher, dataset).eval().requires_grad_(False)
    alone = passes.Alone(config, dataset, teacher)
    teachers = Teachers(robust=alone.teacher, clean=alone.teacher)
    labels, generator = dataset.train.labels[: TINY.batch], torch.Generator()

    def step() -> object:
        return update(config, alone.run, teachers, alone.images, labels, generator, 0.5)

    needed = {name: count for name, count in asdict(alone.needed).items() if count}
    assert counted(alone, step) == needed
    assert counted(alone, alone.seconds_of_passes) == needed


def test_steps_are_timed_one_by_one() -> None:
    dataset = passes.noise(TINY)
    teacher = passes.network(TINY.teacher, dataset).eval().requires_grad_(False)
    steps = passes.seconds_of_steps(TINY.config("ard"), dataset, Teachers(robust=teacher))
    assert next(steps) > 0
    assert next(steps) > 0
