"""One training loop for every method: attack, loss, update, validate, keep the most robust.

Every random draw of an epoch follows from (seed, epoch), so a run that was cut off goes on from
its last finished epoch to the very weights that it would have had.
"""

from __future__ import annotations

import copy
import json
import statistics
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from itertools import islice
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ard.attacks.registry import parse_attack
from ard.data.picture_files import loaded_ahead
from ard.data.splits import (
    Dataset,
    Split,
    as_float,
    augment,
    take_fraction,
    training_and_validation,
)
from ard.data.unlabelled import joined
from ard.evaluation.accuracy import evaluate_attack
from ard.learning.config import TrainConfig, learning_rate
from ard.learning.pace import Clock, Pace, epochs_left, first_pace, planned
from ard.learning.run_state import Run, Validation
from ard.learning.scalars import scalars
from ard.learning.step import DivergedError, Teachers, update
from ard.learning.teacher import Tempered
from ard.models.architectures import build_model, channel_statistics
from ard.models.folding import for_attack, in_fastest_format, laid_out
from ard.models.predict import NotFiniteError
from ard.models.weight_files import load_state
from ard.processes.memory import keep_freed_memory
from ard.processes.world import ALONE, World
from edge_bench.core.errors import InputError, first_line
from edge_bench.core.progress import ProgressCallback, no_progress
from edge_bench.files.store import atomic_file
from edge_bench.statistics.metrics import BoolArray

CHECKPOINT = "checkpoint.safetensors"
METRICS = "metrics.jsonl"
VALIDATION_ATTACK = "pgd10"
STATISTICS_FROM = 2000
TIMED_STEPS, TIMING_SHARE = 5, 0.05
"""Steps that are timed for a plan, and the share of the time that this may take."""


def train(
    config: TrainConfig,
    dataset: Dataset,
    teachers: Teachers,
    out: Path,
    *,
    init: nn.Module | None = None,
    resume: bool = False,
    pace: Pace | None = None,
    torch_device: str = "cpu",
    world: World = ALONE,
    tensorboard: bool = False,
    report_progress: ProgressCallback = no_progress,
) -> tuple[nn.Module, Validation, TrainConfig, int]:
    """Train; the most robust average (on validation data), its accuracies, settings, epochs done.

    Of the settings' epochs, with a `pace` those that fit, `patience` may leave some out. The
    student is `init`, kept where nothing is better, or a new network of the architecture.

    Writes `metrics.jsonl` (and TensorBoard's files, if asked to) and a checkpoint into the folder
    `out` after every epoch; `resume` goes on from that checkpoint. Of several processes, only the
    first reads and writes files; a checkpoint can be resumed by another number of processes.
    """
    training, validation = training_data(config, dataset)
    run = new_run(config, dataset, training, torch_device, world, init)
    run.pace = pace
    training, teachers = _place(config, training, teachers, torch_device)
    lines: list[str] = []
    if resume and world.from_first((out / CHECKPOINT).exists):
        lines = _restored(run, config, out)
        if run.epochs_done < config.epochs:
            config = _as_it_fits(config, run, training)
    world.from_first(lambda: out.mkdir(parents=True, exist_ok=True))
    if init is not None and run.epochs_done == 0:
        # Going on may lose what was there already; then the start remains the best.
        run.offer(_timed_validation(config, run, validation, torch_device))
    with scalars(out if tensorboard and world.leads else None, run.epochs_done) as board:
        while run.epochs_done < config.epochs and not run.overfits(config):
            world.place.enter(run.epochs_done + 1, resumable=run.epochs_done > 0)
            begin = time.perf_counter()
            line = _trained_epoch(config, dataset, training, run, teachers, report_progress)
            config = _as_it_fits(config, run, training)
            if line["epoch"] % config.validate_every == 0 or line["epoch"] == config.epochs:
                world.check_weights(run.student.parameters())
                run.offer(found := _timed_validation(config, run, validation, torch_device))
                line |= {"validation": asdict(found)}
            line["seconds"] = round(time.perf_counter() - begin, 3)
            lines.append(json.dumps(line))
            if world.leads:
                _save(run, config, lines, out)
            board(line)
            total = config.epochs * _steps_per_epoch(config, training)
            report_progress(line["epoch"] * total // config.epochs, total, _progress_text(line))
    if run.epochs_done < config.epochs:
        total = config.epochs * _steps_per_epoch(config, training)
        report_progress(total, total, f"stopped after epoch {run.epochs_done}: robust overfitting")
    # Where a run goes on and nothing was validated before its time was over, it is now.
    best = run.best or run.offer(_timed_validation(config, run, validation, torch_device))
    load_state(run.student, run.best_weights)
    return run.student.cpu().eval(), best, config, run.epochs_done


def _restored(run: Run, config: TrainConfig, out: Path) -> list[str]:
    """Bring the run to where its checkpoint is; the lines of its metrics until there."""
    run.restore(out / CHECKPOINT, config)
    return run.world.from_first(lambda: told_before(out))[: run.epochs_done]


def told_before(out: Path) -> list[str]:
    """The lines of the metrics of a run; none where they are gone.

    Raises:
        InputError: no text.
    """
    path = out / METRICS
    if not path.exists():
        return []
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: expected a line of UTF-8 for each epoch, but it is damaged "
            f"({first_line(error)}); move it away, and the run goes on without its earlier lines"
        ) from None


def _as_it_fits(config: TrainConfig, run: Run, training: Split) -> TrainConfig:
    """Of a run with a time: the settings with the epochs that fit into what is left of it."""
    pace, steps = run.pace, _steps_per_epoch(config, training)
    if pace is None:
        return config
    more = run.world.from_first(lambda: epochs_left(config, pace, steps))
    return replace(config, epochs=run.epochs_done + more)


def _save(run: Run, config: TrainConfig, lines: list[str], out: Path) -> None:
    """Write the checkpoint and the metrics up to it; where the disk is full, neither.

    The metrics take their place first: a run that resumes cuts those off that are too many.
    """
    with atomic_file(out / CHECKPOINT, force=True) as checkpoint:
        run.save(checkpoint, config)
        with atomic_file(out / METRICS, force=True) as metrics:
            metrics.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _trained_epoch(
    config: TrainConfig,
    dataset: Dataset,
    training: Split,
    run: Run,
    teachers: Teachers,
    report_progress: ProgressCallback,
) -> dict[str, Any]:
    """Train one epoch; its number and the means of the loss terms."""
    steps = _steps_per_epoch(config, training)
    steps_left = (config.epochs - run.epochs_done) * steps
    begin, done = time.perf_counter(), 0
    terms: dict[str, float] = {}
    with closing(_epoch(config, dataset, training, run, teachers, run.epochs_done)) as epoch:
        for done, batch_terms in enumerate(epoch, start=1):
            for name, value in batch_terms.items():
                terms[name] = terms.get(name, 0.0) + value / steps
            report_progress(run.epochs_done * steps + done, config.epochs * steps, "")
            if run.pace is not None and run.world.from_first(run.pace.over):
                break
    if done < steps:
        terms = {name: value * steps / done for name, value in terms.items()}
    if run.pace is not None:
        run.pace = replace(
            run.pace,
            position=run.pace.at(done, steps_left),
            step_seconds=(time.perf_counter() - begin) / done,
        )
    run.epochs_done += 1
    return {"epoch": run.epochs_done, "loss": sum(terms.values()), "terms": terms}


def training_data(config: TrainConfig, dataset: Dataset) -> tuple[Split, Split]:
    """(training, validation); the fraction is taken of what remains after the hold-out.

    Images without labels of their own come on top.
    """
    training, validation = training_and_validation(dataset)
    training = take_fraction(training, config.train_fraction, config.seed)
    if dataset.unlabelled is not None:
        training = joined([training, dataset.unlabelled])
    if len(training) < config.batch_size:
        raise InputError(
            f"--batch-size {config.batch_size}: more than the {len(training)} training images; "
            f"give {len(training)} or less, or a larger --train-fraction"
        )
    return training, validation


def plan(
    config: TrainConfig,
    dataset: Dataset,
    teachers: Teachers,
    clock: Clock,
    torch_device: str = "cpu",
    world: World = ALONE,
    init: nn.Module | None = None,
) -> tuple[TrainConfig, Pace]:
    """Choose the epochs that fit into a time on this machine, by timing a few steps.

    Returns:
        the settings with them, and the pace at which they were planned.
    """
    training, validation = training_data(config, dataset)
    run = new_run(config, dataset, training, torch_device, world, init)
    training, teachers = _place(config, training, teachers, torch_device)
    most = clock.left() * TIMING_SHARE
    seconds = _seconds_of_steps(config, dataset, training, run, teachers, TIMED_STEPS, most)
    # Every process has timed the same steps, but one plan must hold for all.
    step = world.from_first(lambda: statistics.median(seconds))
    pace = first_pace(clock, config, step, len(validation))
    whole = len(training) // config.batch_size

    def fitted() -> list[int]:
        found = planned(config, pace, whole, starts=init is not None)
        return [found.epochs, found.epoch_steps, found.validate_every]

    epochs, steps, every = world.from_first(fitted)
    return replace(config, epochs=epochs, epoch_steps=steps, validate_every=every), pace


def timed_steps(
    config: TrainConfig,
    dataset: Dataset,
    teachers: Teachers,
    count: int,
    torch_device: str = "cpu",
) -> list[float]:
    """Seconds of each of `count` training steps, after one to warm up."""
    training, _ = training_data(config, dataset)
    run = new_run(config, dataset, training, torch_device, ALONE)
    training, teachers = _place(config, training, teachers, torch_device)
    return _seconds_of_steps(config, dataset, training, run, teachers, count)


def _seconds_of_steps(
    config: TrainConfig,
    dataset: Dataset,
    training: Split,
    run: Run,
    teachers: Teachers,
    count: int,
    most: float = inf,
) -> list[float]:
    """Of up to `count` steps, fewer where they take more than `most` seconds together."""
    times: list[float] = []
    begin = time.perf_counter()
    with closing(_epoch(config, dataset, training, run, teachers, 0)) as epoch:
        for _ in islice(epoch, count + 1):
            times.append(time.perf_counter() - begin)
            if run.world.from_first(lambda: len(times) > 1 and sum(times) > most):
                break
            begin = time.perf_counter()
    # Where there is but one step, the first has to do.
    return times[1:] or times


def _place(
    config: TrainConfig, training: Split, teachers: Teachers, torch_device: str
) -> tuple[Split, Teachers]:
    """The data on the device, and the teachers there too: frozen, folded, as sure as asked for."""
    split = training.to(torch_device)

    def placed(model: nn.Module | None) -> nn.Module | None:
        if model is None:
            return None
        return for_attack(model.to(torch_device).eval())

    robust = placed(teachers.robust)
    if robust is not None and config.loss.teacher_temperature != 1:
        robust = Tempered(robust, config.loss.teacher_temperature)
    return split, Teachers(robust=robust, clean=placed(teachers.clean))


def new_run(
    config: TrainConfig,
    dataset: Dataset,
    training: Split,
    torch_device: str,
    world: World,
    init: nn.Module | None = None,
) -> Run:
    """A run at its beginning: of a copy of `init`, or of a new network."""
    world.check_batch(config.batch_size)
    keep_freed_memory()
    if init is not None:
        student = copy.deepcopy(init).train()
    else:
        student = _new_student(config, dataset, training)
    student = student.to(torch_device)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, *dataset.image_shape, generator=generator).to(torch_device)
    memory_format = in_fastest_format(student, images)
    run = Run(config, student, world)
    run.memory_format = memory_format
    run.twin.check(laid_out(images, memory_format))
    return run


def _new_student(config: TrainConfig, dataset: Dataset, training: Split) -> nn.Module:
    """A network whose weights follow the seed without disturbing the caller's random state."""
    mean, std = channel_statistics(_some_images(training))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        channels, height, width = dataset.image_shape
        return build_model(
            config.architecture, channels, dataset.classes, mean, std, (height, width)
        )


def _some_images(training: Split) -> Tensor:
    """All images; where they are not in memory, enough of them for the channels' statistics."""
    if not training.streams:
        return training.images
    return training.at(torch.arange(0, len(training), 1 + len(training) // STATISTICS_FROM)).images


def _epoch(
    config: TrainConfig,
    dataset: Dataset,
    training: Split,
    run: Run,
    teachers: Teachers,
    epoch: int,
) -> Generator[dict[str, float]]:
    """One pass over the data; yields the loss terms of every step."""
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + epoch)
    order = torch.randperm(len(training), generator=generator)
    steps = _steps_per_epoch(config, training)
    indices = order[: steps * config.batch_size].to(training.labels.device)
    torch_device = next(run.student.parameters()).device
    batches = loaded_ahead(training, torch.split(indices, config.batch_size))
    for step, batch in enumerate(each.to(torch_device) for each in batches):
        images = as_float(augment(batch.images, flips=dataset.flips, generator=generator))
        images = laid_out(images, run.memory_format)
        done, total = epoch * steps + step, config.epochs * steps
        # A run with a time is where its pace says, whatever was planned before.
        at = total * run.pace.at(step, total - epoch * steps) if run.pace else done
        for group in run.optimizer.param_groups:
            group["lr"] = learning_rate(config, at, total)
        progress = at / total
        with _seeded(config, run, images, done):
            terms = update(config, run, teachers, images, batch.labels, generator, progress)
        yield {name: float(term.detach()) for name, term in terms.items()}


@contextmanager
def _seeded(config: TrainConfig, run: Run, images: Tensor, step: int) -> Iterator[None]:
    """Torch's own state, of which dropout draws: it follows the step, and no two processes agree.

    The caller's state is as before afterwards.
    """
    devices = [images.device] if images.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed((config.seed * 1_000_003 + step) * run.world.size + run.world.rank)
        yield


def _validate(
    config: TrainConfig, run: Run, validation: Split, epoch: int, torch_device: str
) -> Validation:
    """Clean and PGD-10 accuracy of the weight average, in fp32.

    Raises:
        DivergedError: the last steps, whose loss was still a number, led to weights that are none.
    """
    model = run.average.module.eval()
    spec = parse_attack(
        VALIDATION_ATTACK, epsilon=config.epsilon, step_size=config.step_size, seed=config.seed
    )
    world = run.world
    try:
        clean = evaluate_attack(model, validation, None, torch_device=torch_device, world=world)
    except NotFiniteError:
        if epoch == 0:
            # What training started from, which no learning rate has touched.
            raise
        raise DivergedError(config, "the trained weights give NaN or infinite logits") from None
    robust = evaluate_attack(
        model, validation, spec, correct=clean, torch_device=torch_device, world=world
    )
    worst_clean, worst_clean_class = _worst_class(clean, validation)
    worst_robust, worst_robust_class = _worst_class(robust, validation)
    return Validation(
        epoch=epoch,
        clean_accuracy=float(clean.mean()),
        robust_accuracy=float(robust.mean()),
        worst_clean=worst_clean,
        worst_clean_class=worst_clean_class,
        worst_robust=worst_robust,
        worst_robust_class=worst_robust_class,
    )


def _worst_class(right: BoolArray, validation: Split) -> tuple[float, int]:
    """Accuracy of the class that fares worst, and its number."""
    labels = validation.labels.cpu().numpy()
    shares = {int(label): float(right[labels == label].mean()) for label in np.unique(labels)}
    lowest = min(shares, key=lambda label: (shares[label], label))
    return shares[lowest], lowest


def _timed_validation(
    config: TrainConfig, run: Run, validation: Split, torch_device: str
) -> Validation:
    """Validate after the epochs that are done; of a run with a time, note how long it takes."""
    begin = time.perf_counter()
    found = _validate(config, run, validation, run.epochs_done, torch_device)
    if run.pace is not None:
        run.pace = run.pace.after_validation(time.perf_counter() - begin)
    return found


def _steps_per_epoch(config: TrainConfig, training: Split) -> int:
    # A last short batch is left out: batch statistics of a few images do harm.
    whole = len(training) // config.batch_size
    return min(whole, config.epoch_steps or whole)


def _progress_text(line: dict[str, object]) -> str:
    text = f"epoch {line['epoch']} loss {line['loss']:.3f}"
    found = line.get("validation")
    if isinstance(found, dict):
        text += (
            f" validation clean {100 * found['clean_accuracy']:.1f}% "
            f"{VALIDATION_ATTACK} {100 * found['robust_accuracy']:.1f}%"
        )
    return text
