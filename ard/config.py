"""The settings of a training run: one frozen value, saved beside the weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from ard.attacks import INNER_OBJECTIVES
from ard.losses import LOSSES, LossOptions
from edge_bench.errors import InputError

PRECISIONS = ("fp32", "bf16")

WARM_UP = 0.2
"""Share of the steps in which the learning rate rises; then it falls linearly to zero."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that decides the weights, apart from the data and the teacher.

    Attributes:
        epsilon, step_size: budget and step of the inner maximisation, on images in [0, 1].
        inner: objective of the inner maximisation; None takes the method's own.
        learning_rate: peak of the one-cycle schedule.
        ema_decay: of the weight average that is validated and kept.
        train_fraction: stratified part of the training data that is used.
        precision: of training and its attack; validation is always fp32.
        teacher_sha256, data_sha256: identity of the teacher's file and of the training images,
            so that a run is resumed only on what it was started on.
        validate_every: epochs between validations; the last epoch is always validated.
    """

    dataset: str
    architecture: str
    method: str
    epsilon: float
    step_size: float
    inner_steps: int = 10
    inner: str | None = None
    epochs: int = 30
    batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    ema_decay: float = 0.995
    train_fraction: float = 1.0
    seed: int = 0
    precision: str = "fp32"
    validate_every: int = 1
    loss: LossOptions = field(default_factory=LossOptions)
    teacher_sha256: str | None = None
    data_sha256: str | None = None

    def __post_init__(self) -> None:
        least = {"epochs": 1, "batch_size": 2, "inner_steps": 1, "validate_every": 1}
        for option, bound in least.items():
            if getattr(self, option) < bound:
                name = "--" + option.replace("_", "-")
                raise InputError(f"{name} {getattr(self, option)}: expected {bound} or more")
        if not 0 < self.learning_rate < inf:
            raise InputError(f"--learning-rate {self.learning_rate:g}: expected a value above 0")
        if not 0 <= self.weight_decay < inf:
            raise InputError(f"--weight-decay {self.weight_decay:g}: expected 0 or more")
        if not 0 <= self.ema_decay < 1:
            raise InputError(f"--ema-decay {self.ema_decay:g}: expected 0 or more and below 1")
        if self.precision not in PRECISIONS:
            raise InputError(f"--precision {self.precision}: expected {' or '.join(PRECISIONS)}")
        if self.inner is not None and self.inner not in INNER_OBJECTIVES:
            known = ", ".join(INNER_OBJECTIVES)
            raise InputError(f"--inner {self.inner}: expected one of {known}")
        if self.inner is not None and LOSSES[self.method].inner is None:
            raise InputError(f"--inner {self.inner}: {self.method} trains without an attack")
        if self.inner == "kl_clean" and not LOSSES[self.method].distils:
            raise InputError(f"--inner kl_clean needs a teacher, which {self.method} has not")

    @property
    def objective(self) -> str | None:
        """The inner objective in force."""
        return self.inner or LOSSES[self.method].inner


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """One cycle: linear from near zero to the peak, then linear to zero (Smith 2018)."""
    position = (step + 1) / steps
    if position < WARM_UP:
        return config.learning_rate * position / WARM_UP
    return config.learning_rate * max(1 - position, 0.5 / steps) / (1 - WARM_UP)
