"""What a training step costs over the forward and backward passes that it cannot do without.

    OMP_NUM_THREADS=1 python -m benchmarks.methods.passes

No data is needed: images are noise and networks are new, since neither changes the time of a step.
"""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import dataclass
from typing import Annotated

import torch
import typer
from torch import Tensor, nn

from ard.attacks.steps.ascent import gradient_and_logits
from ard.data.splits import Dataset, Split, as_float
from ard.learning.config import TrainConfig
from ard.learning.run_state import Run
from ard.learning.step import Teachers, fast_precision
from ard.learning.train import timed_steps
from ard.methods import registry
from ard.methods.parts.base import total
from ard.methods.parts.inner import SideBySide
from ard.methods.registry import INNER, logits_needed
from ard.models.architectures import build_model
from ard.models.folding import for_attack
from ard.ranking.levels import ranking_losses
from benchmarks.documents import markdown
from benchmarks.lines import machine
from edge_bench.core.errors import ArdxError, InputError

CHOSEN = ("ard", "rslad", "igdm", "pgd_at")
RANKS = "ard"
Seconds = tuple[float, float, float]
"""Of a step, of the passes that it needs, and of its ranking registry."""

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


SETTINGS = {
    "cifar10-3": Setting("resnet8", "resnet8:32", side=32, classes=10, inner_steps=3),
    "cifar10-10": Setting("resnet8", "resnet8:32", side=32, classes=10, inner_steps=10),
    "tiny-resnet8": Setting("resnet8", "resnet8:32", side=64, classes=200, inner_steps=3),
    "tiny-mobilenet": Setting(
        # A step of 128 images takes 8 GB.
        "mobilenet_v2",
        "resnet8:32",
        side=64,
        classes=200,
        inner_steps=3,
        batch=32,
    ),
}


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
        self.logits = torch.randn(4, config.batch_size, dataset.classes)

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

    def seconds_of_ranking(self) -> float:
        """Of all ranking losses of logits (B, C), forward and backward."""
        first, second = (z.detach().requires_grad_() for z in self.logits[:2])
        begin = time.perf_counter()
        options = self.config.loss.ranking
        found = ranking_losses(first, second, self.logits[2], self.logits[3], options)
        total(found).backward()  # type: ignore[no-untyped-call]
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


def measure(
    setting: Setting, methods: tuple[str, ...], rounds: int, steps: int
) -> dict[str, list[Seconds]]:
    """By method, the seconds of each round; methods take turns.

    Every figure is the median of `steps`.
    """
    torch.manual_seed(0)
    dataset = noise(setting)
    teacher = network(setting.teacher, dataset).eval().requires_grad_(False)
    alone = {name: Alone(setting.config(name), dataset, teacher) for name in methods}
    found: dict[str, list[Seconds]] = {name: [] for name in methods}
    for _ in range(rounds):
        for name, networks in alone.items():
            teachers = Teachers(robust=teacher, clean=teacher)
            whole = timed_steps(networks.config, dataset, teachers, steps)
            networks.seconds_of_passes()
            passes = [networks.seconds_of_passes() for _ in range(steps)]
            ranking = [networks.seconds_of_ranking() for _ in range(1 + steps)][1:]
            step, needed, ranks = map(statistics.median, (whole, passes, ranking))
            found[name].append((step, needed, ranks))
    return found


def row(name: str, method: str, rounds: list[Seconds]) -> list[str]:
    """A line of the table: medians and quartiles over the rounds' own ratios."""
    ratios = [whole / passes for whole, passes, _ in rounds]
    shares = [100 * ranking / whole for whole, _, ranking in rounds]
    share = f"{statistics.median(shares):.2f} ({_quartiles(shares)})" if method == RANKS else ""
    return [
        name,
        method,
        f"{statistics.median(whole for whole, *_ in rounds):.3f}",
        f"{statistics.median(ratios):.3f}",
        _quartiles(ratios, 3),
        share,
    ]


def _quartiles(values: list[float], digits: int = 2) -> str:
    low, _, high = statistics.quantiles(values, n=4)
    return f"{low:.{digits}f} to {high:.{digits}f}"


def main(
    setting: Annotated[list[str] | None, typer.Option(help="One of SETTINGS; all.")] = None,
    method: Annotated[list[str] | None, typer.Option(help="A few of ardx's methods.")] = None,
    rounds: Annotated[int, typer.Option(min=2, help="Turns of all methods.")] = 5,
    steps: Annotated[int, typer.Option(min=1, help="Timed steps of a turn.")] = 3,
) -> None:
    """Time steps, the passes that they need, and ranking losses in turns, and print ratios."""
    torch.set_num_threads(1)
    names, methods = setting or list(SETTINGS), tuple(method or CHOSEN)
    for given, known in ((names, SETTINGS), (methods, registry.METHODS)):
        for name in given:
            if name not in known:
                raise InputError(f"{name}: expected one of {', '.join(known)}")
    header = ["setting", "method", "s a step", "step / passes", "quartiles", "ranking, % of step"]
    rows = [header]
    for name in names:
        print(f"{name}: {SETTINGS[name]}", file=sys.stderr)
        found = measure(SETTINGS[name], methods, rounds, steps)
        rows += [row(name, each, values) for each, values in found.items()]
    print(markdown(rows))
    print(f"\n{machine()}", file=sys.stderr)


if __name__ == "__main__":
    try:
        typer.run(main)
    except ArdxError as error:
        sys.exit(f"error: {error}")
