"""One training loop for every method: attack, loss, update, validate, keep the most robust.

Every random draw of an epoch follows from (seed, epoch), so a run that was cut off goes on from
its last finished epoch to the very weights that it would have had.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ard import losses
from ard.attacks import INNER_OBJECTIVES, Objective, ascend, cross_entropy, kl_to, parse_attack
from ard.checkpoint import load_tensors, save_tensors
from ard.data import Dataset, Split, as_float, augment, hold_out_validation, take_fraction
from ard.evaluate import evaluate_attack
from ard.losses import LOSSES, LossOptions
from ard.models import Classifier, build_model, channel_statistics
from edge_bench.console import ProgressCallback, no_progress
from edge_bench.errors import InputError

CHECKPOINT = "checkpoint.safetensors"
METRICS = "metrics.jsonl"
VALIDATION_ATTACK = "pgd10"
WARM_UP = 0.2
"""Share of the steps in which the learning rate rises; then it falls linearly to zero."""

PRECISIONS = ("fp32", "bf16")


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

    def __post_init__(self) -> None:
        for option in ("epochs", "batch_size", "inner_steps", "validate_every"):
            if getattr(self, option) < 1:
                name = "--" + option.replace("_", "-")
                raise InputError(f"{name} {getattr(self, option)}: expected 1 or more")
        if self.learning_rate <= 0:
            raise InputError(f"--learning-rate {self.learning_rate:g}: expected a value above 0")
        if self.precision not in PRECISIONS:
            raise InputError(f"--precision {self.precision}: expected {' or '.join(PRECISIONS)}")
        if self.inner is not None and self.inner not in INNER_OBJECTIVES:
            known = ", ".join(INNER_OBJECTIVES)
            raise InputError(f"--inner {self.inner}: expected one of {known}")
        if self.inner == "kl_clean" and not LOSSES[self.method].distils:
            raise InputError(f"--inner kl_clean needs a teacher, which {self.method} has not")

    @property
    def objective(self) -> str | None:
        """The inner objective in force."""
        return self.inner or LOSSES[self.method].inner


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Accuracies on the held-out part of the training set, as fractions."""

    epoch: int
    clean_accuracy: float
    robust_accuracy: float


class Run:
    """The state of one training run: student, average, optimiser, and the best average so far."""

    def __init__(self, config: TrainConfig, student: Classifier) -> None:
        self.student = student
        self.average = AveragedModel(
            student, multi_avg_fn=_warmed_average(config.ema_decay), use_buffers=True
        )
        self.optimizer = torch.optim.SGD(
            student.parameters(),
            lr=config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            nesterov=True,
        )
        self.attacked = config.objective is not None
        self.epochs_done = 0
        self.best: Validation | None = None
        self.best_weights: dict[str, Tensor] = {}

    def offer(self, validation: Validation) -> None:
        """Keep the average's weights where it is the best so far.

        The most robust one; where training has no attack to be robust against, the most accurate.
        """

        def key(v: Validation) -> tuple[float, float]:
            both = v.robust_accuracy, v.clean_accuracy
            return both if self.attacked else both[::-1]

        if self.best is None or key(validation) > key(self.best):
            self.best = validation
            state = self.average.module.state_dict()
            self.best_weights = {name: t.detach().clone() for name, t in state.items()}

    def save(self, path: Path, config: TrainConfig) -> None:
        """Write everything that the next epoch depends on."""
        groups = {
            "student": self.student.state_dict(),
            "average": self.average.state_dict(),
            "best": self.best_weights,
            "momentum": self._momentum(),
        }
        tensors = {f"{g}/{name}": t for g, state in groups.items() for name, t in state.items()}
        metadata = {
            "config": json.dumps(asdict(config)),
            "epochs_done": str(self.epochs_done),
            "best": json.dumps(asdict(self.best) if self.best else None),
        }
        save_tensors(path, tensors, metadata, force=True)

    def restore(self, path: Path, config: TrainConfig) -> None:
        """Read what `save` wrote.

        Raises:
            InputError: damaged, or of a run with other settings.
        """
        tensors, metadata = load_tensors(path, "a training checkpoint")
        theirs, ours = json.loads(metadata.get("config", "{}")), asdict(config)
        differing = [k for k in ours if json.dumps(theirs.get(k)) != json.dumps(ours[k])]
        if differing:
            name = differing[0]
            raise InputError(
                f"{path}: was made with {name} {theirs.get(name)!r}, but now {name} is "
                f"{ours[name]!r}; resume with the same settings, or start over with --force"
            )
        states: dict[str, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            group, _, name = key.partition("/")
            states.setdefault(group, {})[name] = tensor
        self.student.load_state_dict(states["student"])
        self.average.load_state_dict(states["average"])
        self.best_weights = states.get("best", {})
        for name, parameter in self.student.named_parameters():
            if name in states.get("momentum", {}):
                buffer = states["momentum"][name].to(parameter.device)
                self.optimizer.state[parameter]["momentum_buffer"] = buffer
        self.epochs_done = int(metadata["epochs_done"])
        best = json.loads(metadata["best"])
        self.best = Validation(**best) if best else None

    def _momentum(self) -> dict[str, Tensor]:
        return {
            name: self.optimizer.state[parameter]["momentum_buffer"]
            for name, parameter in self.student.named_parameters()
            if "momentum_buffer" in self.optimizer.state[parameter]
        }


def train(
    config: TrainConfig,
    dataset: Dataset,
    teacher: nn.Module | None,
    out: Path,
    *,
    resume: bool = False,
    torch_device: str = "cpu",
    report_progress: ProgressCallback = no_progress,
) -> tuple[Classifier, Validation]:
    """Train and return the most robust weight average (on validation data) with its accuracies.

    Writes `metrics.jsonl` and a checkpoint into the folder `out` after every epoch; `resume`
    goes on from that checkpoint.
    """
    training, validation = training_data(config, dataset)
    run = _new_run(config, dataset, training, torch_device)
    lines: list[str] = []
    if resume and (out / CHECKPOINT).exists():
        run.restore(out / CHECKPOINT, config)
        lines = (out / METRICS).read_text(encoding="utf-8").splitlines()[: run.epochs_done]
    if teacher is not None:
        teacher = teacher.to(torch_device).eval().requires_grad_(False)
    training = Split(training.images.to(torch_device), training.labels.to(torch_device))
    out.mkdir(parents=True, exist_ok=True)
    steps = _steps_per_epoch(config, training)
    for epoch in range(run.epochs_done, config.epochs):
        begin = time.perf_counter()
        terms: dict[str, float] = {}
        for step, batch_terms in enumerate(_epoch(config, dataset, training, run, teacher, epoch)):
            for name, value in batch_terms.items():
                terms[name] = terms.get(name, 0.0) + value / steps
            report_progress(epoch * steps + step + 1, config.epochs * steps, "")
        line: dict[str, object] = {"epoch": epoch + 1, "loss": sum(terms.values()), "terms": terms}
        if (epoch + 1) % config.validate_every == 0 or epoch + 1 == config.epochs:
            found = _validate(config, run, validation, epoch + 1, torch_device)
            run.offer(found)
            line |= {"validation": asdict(found)}
        run.epochs_done = epoch + 1
        line["seconds"] = round(time.perf_counter() - begin, 3)
        lines.append(json.dumps(line))
        (out / METRICS).write_text("\n".join(lines) + "\n", encoding="utf-8")
        run.save(out / CHECKPOINT, config)
        report_progress((epoch + 1) * steps, config.epochs * steps, _progress_text(line))
    assert run.best is not None
    run.student.load_state_dict(run.best_weights)
    return run.student.cpu().eval(), run.best


def training_data(config: TrainConfig, dataset: Dataset) -> tuple[Split, Split]:
    """(training, validation); the fraction is taken of what remains after the hold-out."""
    training, validation = hold_out_validation(dataset.train)
    training = take_fraction(training, config.train_fraction, config.seed)
    if len(training) < config.batch_size:
        config_hint = f"give --batch-size {len(training)} or less, or a larger --train-fraction"
        raise InputError(
            f"--batch-size {config.batch_size}: more than the {len(training)} training images; "
            + config_hint
        )
    return training, validation


def plan_epochs(
    config: TrainConfig,
    dataset: Dataset,
    teacher: nn.Module | None,
    minutes: float,
    torch_device: str = "cpu",
) -> TrainConfig:
    """Choose the number of epochs that fits into `minutes` on this machine, by timing a few steps.

    The plan becomes part of the config, so that the run itself stays deterministic.
    """
    training, validation = training_data(config, dataset)
    run = _new_run(config, dataset, training, torch_device)
    if teacher is not None:
        teacher = teacher.to(torch_device).eval().requires_grad_(False)
    training = Split(training.images.to(torch_device), training.labels.to(torch_device))
    times: list[float] = []
    begin = time.perf_counter()
    for _ in _epoch(config, dataset, training, run, teacher, 0):
        times.append(time.perf_counter() - begin)
        if len(times) == 6:
            break
        begin = time.perf_counter()
    step_seconds = sorted(times[1:] or times)[len(times[1:] or times) // 2]
    begin = time.perf_counter()
    _validate(config, run, validation, 0, torch_device)
    validation_seconds = time.perf_counter() - begin
    epoch_seconds = step_seconds * _steps_per_epoch(config, training) + (
        validation_seconds / config.validate_every
    )
    return replace(config, epochs=max(1, int(minutes * 60 / epoch_seconds)))


def _new_run(
    config: TrainConfig, dataset: Dataset, training: Split, torch_device: str
) -> Run:
    mean, std = channel_statistics(training.images)
    # The weights follow the seed without disturbing the caller's random state.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        student = build_model(
            config.architecture, dataset.image_shape[0], dataset.classes, mean, std
        )
    return Run(config, student.to(torch_device, memory_format=torch.channels_last))


def _epoch(
    config: TrainConfig,
    dataset: Dataset,
    training: Split,
    run: Run,
    teacher: nn.Module | None,
    epoch: int,
) -> Iterator[dict[str, float]]:
    """One pass over the data; yields the loss terms of every step."""
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + epoch)
    order = torch.randperm(len(training), generator=generator)
    steps = _steps_per_epoch(config, training)
    for step in range(steps):
        index = order[step * config.batch_size : (step + 1) * config.batch_size]
        batch = training.at(index.to(training.labels.device))
        images = as_float(augment(batch.images, flips=dataset.flips, generator=generator))
        images = images.contiguous(memory_format=torch.channels_last)
        rate = learning_rate(config, epoch * steps + step, config.epochs * steps)
        for group in run.optimizer.param_groups:
            group["lr"] = rate
        terms = _step(config, run, teacher, images, batch.labels, generator)
        yield {name: float(term.detach()) for name, term in terms.items()}


def _step(
    config: TrainConfig,
    run: Run,
    teacher: nn.Module | None,
    images: Tensor,
    labels: Tensor,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Attack the batch, update the weights once, update the average."""
    method = LOSSES[config.method]
    with _autocast(config, images):
        teacher_clean = _without_gradient(teacher, images)
        adversarial = images
        if config.objective is not None:
            # Batch statistics stay frozen in the attack: it is not training data.
            run.student.eval()
            objective = _inner_objective(config, run.student, images, labels, teacher_clean)
            adversarial = ascend(
                run.student,
                images,
                objective,
                epsilon=config.epsilon,
                step_size=config.step_size,
                steps=config.inner_steps,
                generator=generator,
            )
            run.student.train()
        nothing = images.new_empty(0)
        needs = method.needs
        logits = losses.Logits(
            run.student(images).float() if losses.STUDENT_CLEAN in needs else nothing,
            run.student(adversarial).float() if losses.STUDENT_ADVERSARIAL in needs else nothing,
            teacher_clean,
            _without_gradient(teacher, adversarial)
            if losses.TEACHER_ADVERSARIAL in needs
            else nothing,
        )
    terms = method.terms(logits, labels, config.loss)
    loss = losses.total(terms)
    if not math.isfinite(float(loss.detach())):
        raise InputError(
            f"the training loss became {float(loss.detach())}; lower --learning-rate (now "
            f"{config.learning_rate:g}) or use --precision fp32"
        )
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    run.optimizer.step()
    run.average.update_parameters(run.student)
    return terms


def _inner_objective(
    config: TrainConfig, student: nn.Module, images: Tensor, labels: Tensor, teacher_clean: Tensor
) -> Objective:
    if config.objective == "kl_clean":
        return kl_to(teacher_clean)
    if config.objective == "kl_self":
        return kl_to(_without_gradient(student, images))
    return lambda logits: cross_entropy(logits, labels)


def _without_gradient(model: nn.Module | None, images: Tensor) -> Tensor:
    """Logits (B, C) in fp32, or an empty tensor where there is no model."""
    if model is None:
        return images.new_empty(0)
    with torch.no_grad():
        logits: Tensor = model(images).float()
        return logits


def _validate(
    config: TrainConfig, run: Run, validation: Split, epoch: int, torch_device: str
) -> Validation:
    """Clean and PGD-10 accuracy of the weight average, in fp32."""
    model = run.average.module.eval()
    spec = parse_attack(
        VALIDATION_ATTACK, epsilon=config.epsilon, step_size=config.step_size, seed=config.seed
    )
    clean = evaluate_attack(model, validation, None, torch_device=torch_device)
    robust = evaluate_attack(model, validation, spec, correct=clean, torch_device=torch_device)
    return Validation(
        epoch=epoch,
        clean_accuracy=float(clean.mean()),
        robust_accuracy=float(robust.mean()),
    )


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """One cycle: linear from near zero to the peak, then linear to zero (Smith 2018)."""
    position = (step + 1) / steps
    if position < WARM_UP:
        return config.learning_rate * position / WARM_UP
    return config.learning_rate * max(1 - position, 0.5 / steps) / (1 - WARM_UP)


def _steps_per_epoch(config: TrainConfig, training: Split) -> int:
    # A last short batch is left out: batch statistics of a few images do harm.
    return len(training) // config.batch_size


def _autocast(config: TrainConfig, images: Tensor) -> AbstractContextManager[object]:
    if config.precision == "bf16":
        return torch.autocast(images.device.type, dtype=torch.bfloat16)
    return nullcontext()


def _warmed_average(
    decay: float,
) -> Callable[[list[Tensor], list[Tensor], Tensor | int], None]:
    """An exponential average whose memory grows with its age, so that it forgets the start."""

    def update(averages: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        age = int(count)
        now = min(decay, (1 + age) / (10 + age))
        for average, value in zip(averages, current, strict=True):
            if average.is_floating_point():
                average.lerp_(value.to(average.dtype), 1 - now)
            else:
                average.copy_(value)

    return update


def _progress_text(line: dict[str, object]) -> str:
    text = f"epoch {line['epoch']} loss {line['loss']:.3f}"
    found = line.get("validation")
    if isinstance(found, dict):
        text += (
            f" validation clean {100 * found['clean_accuracy']:.1f}% "
            f"{VALIDATION_ATTACK} {100 * found['robust_accuracy']:.1f}%"
        )
    return text
