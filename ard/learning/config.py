"""The settings of a training run: one frozen value, saved beside the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from math import inf, isfinite
from typing import Any

from ard.data.splits import check_fraction
from ard.methods.parts.base import LossOptions
from ard.methods.registry import INNER, METHODS, own_attack
from edge_bench.core.errors import InputError
from edge_bench.core.parse import json_of

LARGEST = 3.4e38
"""Of float32, in which training computes."""
PRECISIONS = ("fp32", "bf16", "auto")
SCHEDULES = ("one-cycle", "steps")

REST = "rest"
"""As `unlabelled`: what `train_fraction` leaves of the dataset."""

WARM_UP = 0.2
"""Share of the steps in which the learning rate rises; then it falls linearly to zero."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that decides the weights, apart from the data and the teacher.

    Attributes:
        epsilon, step_size: budget and step of the inner maximisation, on images in [0, 1].
        inner: objective of the inner maximisation; None takes the method's own, which is its
            anchor's for ARD.
        learning_rate: peak of the one-cycle schedule, or the first one of the schedule of steps.
        schedule: `one-cycle`, or `steps`: times 0.1 after each of `milestones`, in epochs.
        nesterov: whether the momentum looks ahead.
        clip_norm: the gradient is scaled down to this norm where it is larger; 0 is off.
        patience: validations without a better one after which the run stops, against robust
            overfitting; 0 is off. The best weights are kept either way.
        ema_decay: of the weight average that is validated and kept.
        train_fraction: stratified part of the training data that is used.
        unlabelled: pictures without labels that are learnt from, too: a folder, an .npz file, or
            `rest`, what `train_fraction` leaves; an epoch is a pass over all.
        unlabelled_min_confidence: least probability that the teacher gives the class of such a
            picture, 0 to 1.
        precision: of training and its attack, `fp32` or `bf16` (autocast); `auto` is settled when
            a run begins, as bf16 where the device is fast at it. Validation is always fp32.
        compile: whether torch.compile compiles the student.
        cuda_graphs: whether the passes of the compiled student are recorded once, as CUDA graphs,
            and launched as a whole from then on.
        qat: what the student is quantised for while it trains, a key of
            `deploy.quantization.targets.TARGETS`; None trains in float.
        teacher_sha256, clean_teacher_sha256, start_sha256, data_sha256: identity of the teachers'
            files, of the weights that training started from, and of the training images, so that a
            run is resumed only on what it was started on.
        source_sha256: of the source of an architecture that is imported; None for all others.
        epoch_steps: updates of an epoch that is shorter than a pass over the data; 0 is a pass.
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
    epoch_steps: int = 0
    batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    nesterov: bool = True
    schedule: str = "one-cycle"
    milestones: tuple[int, ...] = ()
    weight_decay: float = 5e-4
    clip_norm: float = 0.0
    ema_decay: float = 0.995
    train_fraction: float = 1.0
    unlabelled: str | None = None
    unlabelled_min_confidence: float = 0.0
    seed: int = 0
    precision: str = "fp32"
    compile: bool = False
    cuda_graphs: bool = False
    qat: str | None = None
    validate_every: int = 1
    patience: int = 0
    loss: LossOptions = field(default_factory=LossOptions)
    teacher_sha256: str | None = None
    clean_teacher_sha256: str | None = None
    start_sha256: str | None = None
    data_sha256: str | None = None
    source_sha256: str | None = None

    def __post_init__(self) -> None:
        self._check_magnitudes()
        least = {"epochs": 1, "batch_size": 2, "inner_steps": 1, "validate_every": 1}
        least |= {"patience": 0, "epoch_steps": 0}
        for option, bound in least.items():
            if getattr(self, option) < bound:
                name = "--" + option.replace("_", "-")
                raise InputError(f"{name} {getattr(self, option)}: expected {bound} or more")
        self._check_optimizer()
        check_fraction(self.train_fraction)
        if not 0 <= self.seed < 2**31:
            raise InputError(f"--seed {self.seed}: expected 0 or more and below 2**31")
        if not 0 <= self.unlabelled_min_confidence <= 1:
            raise InputError(
                f"--unlabelled-min-confidence {self.unlabelled_min_confidence:g}: expected a "
                "probability from 0 to 1"
            )
        if self.unlabelled == REST and self.train_fraction == 1:
            raise InputError(
                f"--unlabelled {REST}: all images are trained on with their labels already; give "
                "--train-fraction below 1, a folder of pictures, or --unlabelled none"
            )
        self._check_schedule()
        if self.precision not in PRECISIONS:
            raise InputError(
                f"--precision {self.precision}: expected one of {', '.join(PRECISIONS)}"
            )
        if self.cuda_graphs and not self.compile:
            raise InputError("--cuda-graphs: records compiled passes; add --compile")
        if self.qat is not None and self.precision == "bf16":
            raise InputError(
                "--precision bf16: --qat needs fp32, since bf16 has no more digits than INT8 and "
                "would round what is about to be rounded; leave --precision out"
            )
        if self.inner is not None and self.inner not in INNER:
            known = ", ".join(INNER)
            raise InputError(f"--inner {self.inner}: expected one of {known}")
        if self.inner is not None and METHODS[self.method].inner is None:
            raise InputError(f"--inner {self.inner}: {self.method} trains without an attack")
        needs_teacher = self.inner is not None and INNER[self.inner].needs_teacher
        if needs_teacher and not METHODS[self.method].distils:
            raise InputError(f"--inner {self.inner} needs a teacher, which {self.method} has not")

    def _check_magnitudes(self) -> None:
        for setting, value in dotted(asdict(self)).items():
            if isinstance(value, float) and isfinite(value) and abs(value) > LARGEST:
                raise InputError(
                    f"{setting} {value:g}: beyond what float32 holds ({LARGEST:g}); give a "
                    "smaller value"
                )

    def _check_optimizer(self) -> None:
        if not 0 < self.learning_rate < inf:
            raise InputError(f"--learning-rate {self.learning_rate:g}: expected a value above 0")
        if not 0 <= self.momentum < 1:
            raise InputError(f"momentum {self.momentum:g}: expected 0 or more and below 1")
        if self.nesterov and not self.momentum:
            raise InputError("momentum 0 has nothing to look ahead with; set nesterov to false")
        if not 0 <= self.weight_decay < inf:
            raise InputError(f"--weight-decay {self.weight_decay:g}: expected 0 or more")
        if not 0 <= self.ema_decay < 1:
            raise InputError(f"--ema-decay {self.ema_decay:g}: expected 0 or more and below 1")
        if not 0 <= self.clip_norm < inf:
            raise InputError(f"--clip-norm {self.clip_norm:g}: expected 0 (off) or more")

    def _check_schedule(self) -> None:
        if self.schedule not in SCHEDULES:
            known = " or ".join(SCHEDULES)
            raise InputError(f"schedule {self.schedule}: expected {known}")
        if (self.schedule == "steps") != bool(self.milestones):
            raise InputError(
                f"milestones {list(self.milestones)} with schedule {self.schedule}: the schedule "
                "steps needs milestones, and no other takes them"
            )
        rising = sorted(set(self.milestones))
        if any(m < 1 for m in self.milestones) or list(self.milestones) != rising:
            raise InputError(
                f"milestones {list(self.milestones)}: expected epochs of 1 or more, rising"
            )

    @property
    def objective(self) -> str | None:
        """The inner objective in force."""
        return self.inner or own_attack(self.method, self.loss.anchor)


def dotted(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one, by dotted keys such as `loss.ranking.k`."""
    found: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, Mapping):
            found |= dotted(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def as_saved(text: str, config: TrainConfig) -> dict[str, Any]:
    """The settings of a saved config (JSON) by dotted keys.

    What it does not have, because the setting is younger than the file, takes its default: a new
    setting leaves what older runs did as it was.
    """
    required = {
        each.name: getattr(config, each.name)
        for each in fields(TrainConfig)
        if each.default is MISSING and each.default_factory is MISSING
    }
    defaults = dotted(asdict(TrainConfig(**required)))
    return (
        dict.fromkeys(required)
        | {name: value for name, value in defaults.items() if name not in required}
        | dotted(json_of(text))
    )


def learning_rate(config: TrainConfig, step: float, steps: int) -> float:
    """The learning rate of step `step` (from 0) of `steps`; between two where a plan changed.

    One cycle is linear from near zero to the peak, then linear to zero (Smith 2018).
    """
    if config.schedule == "steps":
        epoch = int(step * config.epochs // steps)
        return config.learning_rate * 0.1 ** sum(epoch >= m for m in config.milestones)
    position = (step + 1) / steps
    if position < WARM_UP:
        return config.learning_rate * position / WARM_UP
    return config.learning_rate * max(1 - position, 0.5 / steps) / (1 - WARM_UP)
