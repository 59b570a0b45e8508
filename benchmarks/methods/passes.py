"""The forward and backward passes that a training step cannot do without, and the whole step.

No data is needed: images are noise and networks are new, since neither changes the time of a step.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ard.attacks.steps.ascent import gradient_and_logits
from ard.data.splits import Dataset, Split, as_float
from ard.learning import train
from ard.learning.config import TrainConfig
from ard.learning.run_state import Run
from ard.learning.step import Teachers, fast_precision
from ard.methods import registry
from ard.methods.parts.inner import SideBySide
from ard.methods.registry import INNER, logits_needed
from ard.models.architectures import build_model
from ard.models.folding import for_attack
from ard.processes.world import ALONE

# Every class has an image to hold out and more to train on.
IMAGES_OF_A_CLASS = 10
FEWEST_IMAGES = 2000


@dataclass(frozen=True)
class Setting:
    """Networks and images by whose size passes take their time."""

    student: str
    teacher: str
    side: int
    classes: int
    inner_steps: int
    batch: int = 128

    def __str__(self) -> str:
        return (
            f"{self.student} of {self.teacher}, {self.side} x {self.side}, C={self.classes}, "
            f"B={self.batch}, {self.inner_steps} attack steps"
        )

    def config(self, method: str) -> TrainConfig:
        """Of a training run with this method."""
        return TrainConfig(
            dataset="noise",
            architecture=self.student,
            method=method,
            epsilon=8 / 255,
            step_size=2 / 255,
            inner_steps=self.inner_steps,
            batch_size=self.batch,
            # So low that noise does not drive the weights off.
            learning_rate=1e-3,
            precision=fast_precision("cpu"),
        )


@dataclass(frozen=True, kw_only=True)
class Passes:
    """How often one step runs each network on the batch.

    Attributes:
        attack: forward through the student (frozen, folded), and back to the input.
        attack_teacher: the same through the teacher, where the attack moves it too.
        frozen: forward through the frozen student, without a gradient.
        teacher: forward through a teacher, without a gradient.
        student: forward through the student in training, and back to its weights.
    """

    attack: int
    attack_teacher: int
    frozen: int
    teacher: int
    student: int


def passes_needed(config: TrainConfig) -> Passes:
    """Those that the published method asks for, computing nothing twice."""
    needs = logits_needed(config.method, config.loss)
    if config.objective and INNER[config.objective].needs_teacher_clean:
        needs |= {registry.TEACHER_CLEAN}
    students = {registry.STUDENT_CLEAN, registry.STUDENT_ADVERSARIAL, registry.STUDENT_MIRRORED}
    attack = config.inner_steps if config.objective else 0
    return Passes(
        attack=attack,
        attack_teacher=attack if config.objective == "adaad" else 0,
        frozen=int(config.objective == "kl_self"),
        teacher=len(needs - students),
        student=len(needs & students),
    )


class Alone:
    """The networks of a training run, to be run without the training around them."""

    def __init__(self, config: TrainConfig, dataset: Dataset, teacher: nn.Module) -> None:
        self.config, self.needed = config, passes_needed(config)
        student = network(config.architecture, dataset).train()
        self.run = Run(config, student.to(memory_format=torch.channels_last))
        self.teacher = for_attack(teacher)
        images = as_float(dataset.train.part(0, config.batch_size).images)
        self.images = images.contiguous(memory_format=torch.channels_last)

    def seconds_of_passes(self) -> float:
        """Of the passes that one step needs, one after another."""
        needed, run = self.needed, self.run
        frozen = run.twin.refresh()
        attacked = SideBySide(frozen, self.teacher) if needed.attack_teacher else frozen
        run.optimizer.zero_grad(set_to_none=True)
        begin = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.config.precision == "bf16"):
            with torch.no_grad():
                for model, count in ((self.teacher, needed.teacher), (frozen, needed.frozen)):
                    for _ in range(count):
                        model(self.images)
            for _ in range(needed.attack):
                gradient_and_logits(attacked, self.images, _any_objective)
            outputs = [run.student(self.images).float() for _ in range(needed.student)]
        torch.autograd.backward([_any_objective(each).mean() for each in outputs])
        return time.perf_counter() - begin


def _any_objective(logits: Tensor) -> Tensor:
    """The cheapest that has a gradient: passes are to be timed, not what lies between them."""
    return logits.sum(dim=1)


def network(architecture: str, dataset: Dataset) -> nn.Module:
    """A new one, whose normalisation of images does nothing."""
    channels = dataset.image_shape[0]
    return build_model(
        architecture, channels, dataset.classes, torch.zeros(channels), torch.ones(channels)
    )


def noise(setting: Setting) -> Dataset:
    """Images of random levels."""
    count = max(FEWEST_IMAGES, IMAGES_OF_A_CLASS * setting.classes, 2 * setting.batch)
    images = torch.randint(0, 256, (count, 3, setting.side, setting.side), dtype=torch.uint8)
    split = Split(images, torch.arange(count) % setting.classes)
    return Dataset(name="noise", train=split, test=split, classes=setting.classes, flips=True)


def seconds_of_steps(config: TrainConfig, dataset: Dataset, teachers: Teachers) -> Iterator[float]:
    """Of each step, without end: augmentation, attack, passes, losses, optimiser, average."""
    training, _ = train.training_data(config, dataset)
    run = train.new_run(config, dataset, training, "cpu", ALONE)
    training, teachers = train._place(config, training, teachers, "cpu")
    begin = time.perf_counter()
    while True:
        for _ in train._epoch(config, dataset, training, run, teachers, 0):
            yield time.perf_counter() - begin
            begin = time.perf_counter()
