"""The stages as functions of files: what `cli` and `demo` run, each from and to the disk."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ard.data.datasets import matched
from ard.data.splits import Dataset
from ard.learning.config import TrainConfig, as_saved
from ard.learning.pace import Clock, Pace, check_minutes, too_short
from ard.learning.recipes import CONFIG, write_config
from ard.learning.rehearsal import check_milestones, rehearse
from ard.learning.run_state import Validation, read_checkpoint, saved_pace
from ard.learning.scalars import check_installed
from ard.learning.step import Teachers, fast_precision
from ard.learning.teacher import Teacher
from ard.learning.train import CHECKPOINT, plan, train
from ard.learning.unlabelled import unlabelled_of
from ard.methods.registry import METHODS
from ard.models.checkpoints import Tell, say_nothing
from ard.models.imported import source_sha256
from ard.models.sizes import check_fits
from ard.models.weight_files import SETTINGS_KEY, save_model
from ard.processes.world import ALONE, World
from deploy.qat.qdq_network import QDQNetwork
from edge_bench.core.classes import ClassNames, require_same
from edge_bench.core.errors import InputError
from edge_bench.core.progress import ProgressCallback, no_progress
from edge_bench.core.spec import ModelCard
from edge_bench.files.locks import writing
from edge_bench.files.store import atomic_file, sha256_file

if TYPE_CHECKING:
    from ard.learning.start import Start


@dataclass(frozen=True)
class Learned:
    """A finished training run; its epochs are those that were done, of which the config has more
    where `patience` ended it."""

    weights: Path
    sha256: str
    config: TrainConfig
    validation: Validation
    epochs: int
    unlabelled_images: int = 0
    class_names: ClassNames | None = None


def learn(
    config: TrainConfig,
    dataset: Dataset,
    teacher: Teacher | None,
    weights: Path,
    *,
    clean_teacher: Teacher | None = None,
    start: Start | None = None,
    minutes: float | None = None,
    begun: float | None = None,
    resume: bool = False,
    force: bool = False,
    torch_device: str = "cpu",
    world: World = ALONE,
    tensorboard: bool = False,
    tell: Tell = say_nothing,
    when_checked: Callable[[], None] = lambda: None,
    report_progress: ProgressCallback = no_progress,
) -> Learned:
    """Train, keep the most robust weights on validation data, and write them with their card.

    Example:
        taught = learn(config, digits, None, Path("teacher/teacher.safetensors"))

    The config that was used lies beside them as a recipe, `config.toml`. With `minutes`, which
    count from `begun` (a `time.perf_counter()`; now), epochs are chosen, and anew while it goes.
    `tell` is told the plan and which pictures without labels are used; `when_checked` is called
    once nothing is left to be refused.
    """
    clock = None if minutes is None else _clock(minutes, begun)
    run = _Command(clock, resume, force, torch_device, tell, when_checked)
    _refuse_what_does_not_fit(config, clean_teacher, start, torch_device, tensorboard)
    dataset = _in_their_order(dataset, teacher, clean_teacher, start)
    out = weights.parent
    with ExitStack() as held:
        world.from_first(lambda: _claim(held, weights, resume, force))
        card = _card(config, dataset, teacher)
        dataset = _with_unlabelled(config, dataset, teacher, torch_device, tell)
        teachers = Teachers(robust=_model(teacher), clean=_model(clean_teacher))
        config = _of_these(config, dataset, teacher, clean_teacher, start)
        init = _model(start)
        config, pace = _settled(config, run, dataset, teachers, out, world, init)
        student, validation, config, epochs = train(
            config,
            dataset,
            teachers,
            out,
            init=init,
            resume=resume,
            pace=pace,
            torch_device=torch_device,
            world=world,
            tensorboard=tensorboard,
            report_progress=report_progress,
        )
        more = len(dataset.unlabelled) if dataset.unlabelled else 0
        card = _trained(card, config, validation, epochs, more)
        sha256 = world.from_first(lambda: _written(weights, student, card, config))
        return Learned(weights, sha256, config, validation, epochs, more, card.class_names)


def _trained(
    card: ModelCard, config: TrainConfig, validation: Validation, epochs: int, unlabelled: int
) -> ModelCard:
    found = {"validation": asdict(validation)}
    told = {"unlabelled_images": unlabelled} if unlabelled else {}
    if epochs != config.epochs:
        # The settings stay what repeats the run: its learning rate follows the epochs in them.
        told["epochs_done"] = epochs
    return replace(card, recipe=asdict(config) | found | told)


def _model(given: Teacher | Start | None) -> nn.Module | None:
    return given.model if given else None


def _with_unlabelled(
    config: TrainConfig, dataset: Dataset, teacher: Teacher | None, torch_device: str, tell: Tell
) -> Dataset:
    """The dataset with the further pictures that the config names."""
    added = unlabelled_of(config, dataset, _model(teacher), torch_device)
    if added is None:
        return dataset
    tell(str(added))
    return replace(dataset, unlabelled=added.used)


def _of_these(
    config: TrainConfig,
    dataset: Dataset,
    teacher: Teacher | None,
    clean_teacher: Teacher | None,
    start: Start | None,
) -> TrainConfig:
    """The config with the hashes of all that it is used with: a run goes on with the same alone."""
    return replace(
        config,
        teacher_sha256=teacher.sha256 if teacher else None,
        clean_teacher_sha256=clean_teacher.sha256 if clean_teacher else None,
        start_sha256=start.sha256 if start else None,
        data_sha256=dataset.sha256,
        source_sha256=source_sha256(config.architecture),
    )


def _written(weights: Path, student: nn.Module, card: ModelCard, config: TrainConfig) -> str:
    """Write weights, and the settings beside them; the sha256 of the weights.

    Both are whole before either takes its place, and the weights are the last.
    """
    with atomic_file(weights, force=True) as partial:
        save_model(partial, student, card, force=True)
        write_config(weights.parent / CONFIG, config)
    return sha256_file(weights)


@dataclass(frozen=True)
class _Command:
    """What a run is told besides its settings, and in which every process must agree."""

    clock: Clock | None
    resume: bool
    force: bool
    torch_device: str
    tell: Tell
    when_checked: Callable[[], None]


def _clock(minutes: float, begun: float | None) -> Clock:
    """The time that --minutes gives."""
    check_minutes(minutes, "--minutes")
    return Clock(seconds=60 * minutes, begun=time.perf_counter() if begun is None else begun)


def _refuse_what_does_not_fit(
    config: TrainConfig,
    clean_teacher: Teacher | None,
    start: Start | None,
    torch_device: str,
    tensorboard: bool,
) -> None:
    """Refuse settings that ask for a file or device which was not given, or the reverse."""
    if tensorboard:
        check_installed()
    needs_clean = METHODS[config.method].needs_second_teacher
    if needs_clean != (clean_teacher is not None):
        raise InputError(
            f"--clean-teacher: {config.method} needs the weights of a teacher trained on clean "
            "images; make one with ardx teach --method natural"
            if needs_clean
            else f"--clean-teacher: {config.method} has one teacher only; leave it out"
        )
    if config.qat is not None and not isinstance(_model(start), QDQNetwork):
        raise InputError(
            f"--qat: fine-tunes trained weights for {config.qat}, and none were given; give them "
            "as --init"
            if start is None
            else f"--qat: fine-tunes for {config.qat} what ardx has trained or adopted; take the "
            "weights of --pretrained in by ardx adopt, and give what it writes as --init"
        )
    if config.cuda_graphs and not torch_device.startswith("cuda"):
        raise InputError(
            f"--cuda-graphs: needs a CUDA device, but training is on {torch_device}; leave it out, "
            "give --no-cuda-graphs where a recipe or the weights of --init have it, or "
            "--torch-device cuda"
        )


def _in_their_order(
    dataset: Dataset, teacher: Teacher | None, clean_teacher: Teacher | None, start: Start | None
) -> Dataset:
    """The dataset with its labels in the order of the given models' classes, which must be one.

    Models of before cards held names, trained on folders of numbers, count those as text.
    """
    given = {"--teacher": teacher, "--clean-teacher": clean_teacher, "--init": start}
    fitted = {
        option: matched(Path(option), model.card, dataset)
        for option, model in given.items()
        if model is not None and model.card is not None
    }
    if not fitted:
        return dataset
    (first, ordered), *others = fitted.items()
    for option, other in others:
        require_same(ordered.class_names, other.class_names, option, first)
    for option, model in given.items():
        if isinstance(model, Teacher) and model.card is None:
            # Without names its classes are taken to be in the dataset's own order.
            require_same(ordered.class_names, dataset.class_names, option, first)
    return ordered


def _settled(
    config: TrainConfig,
    run: _Command,
    dataset: Dataset,
    teachers: Teachers,
    out: Path,
    world: World,
    init: nn.Module | None,
) -> tuple[TrainConfig, Pace | None]:
    """The settings with nothing left open, and where a time was given the pace.

    All that can be refused is, before a teacher is measured or a time planned.
    """
    config, pace = _agreed(config, run, out, world)
    resumed, device = out if run.resume else None, run.torch_device
    rehearse(config, dataset, resumed, init=init, torch_device=device, world=world)
    # A run that goes on keeps what was planned when it began.
    clock = None if run.resume else run.clock
    if run.clock is None:
        check_milestones(config)
    run.when_checked()
    if clock is not None:
        config, pace = plan(config, dataset, teachers, clock, device, world, init)
        _tell_plan(config, pace, init is not None, world, run.tell)
        check_milestones(config)
    return config, pace


def _agreed(
    config: TrainConfig, run: _Command, out: Path, world: World
) -> tuple[TrainConfig, Pace | None]:
    """The settings with their precision; of a run that goes on all that was settled, and its pace.

    Raises:
        InputError: other settings, or another environment, than another process has; a time for
            a run that was begun without one.
    """
    checkpoint, pace = out / CHECKPOINT, None

    def saved(name: str) -> Any:
        return world.from_first(lambda: _saved_setting(checkpoint, name, config))

    if config.precision == "auto":
        precision = saved("precision") if run.resume else _precision(config, run.torch_device)
        config = replace(config, precision=precision)
    seconds = run.clock.seconds if run.clock else None
    command = {"seconds": seconds, "resume": run.resume, "force": run.force}
    environment = {"torch": torch.__version__, "device": run.torch_device.partition(":")[0]}
    world.check_agreement(asdict(config) | command | environment)
    if run.clock is not None and run.resume:
        planned = ("epochs", "epoch_steps", "validate_every")
        config = replace(config, **{name: saved(name) for name in planned})
        _, metadata = world.tensors_from_first(lambda: ({}, read_checkpoint(checkpoint)[1]))
        pace = saved_pace(checkpoint, metadata, run.clock)
    return config, pace


def _tell_plan(config: TrainConfig, pace: Pace, starts: bool, world: World, tell: Tell) -> None:
    """Say what was planned for a time, and where it is too short."""
    if not world.leads:
        return
    size = f"{config.epoch_steps} updates" if config.epoch_steps else "the whole data"
    tell(
        f"--minutes {pace.clock.seconds / 60:g}: {config.epochs} epochs of {size} "
        f"({pace.step_seconds:.2g} s an update), more or fewer as it goes"
    )
    if short := too_short(pace, starts=starts):
        tell(short)


def _card(config: TrainConfig, dataset: Dataset, teacher: Teacher | None) -> ModelCard:
    """What the weights will be: made first, so that nothing is trained that can have no card.

    Raises:
        InputError: the network does not take such images, or there is one class only.
    """
    if config.qat is None:
        # What trains as INT8 has been trained on such images before.
        check_fits(config.architecture, dataset.image_shape)
    return ModelCard(
        architecture=config.architecture,
        dataset=dataset.name,
        classes=dataset.classes,
        class_names=dataset.class_names,
        input_shape=dataset.image_shape,
        preprocessing=dataset.preprocessing,
        parent_sha256=teacher.sha256 if teacher else None,
    )


def _precision(config: TrainConfig, torch_device: str) -> str:
    """What `auto` is; rounding to INT8 needs more digits than bf16 has."""
    return "fp32" if config.qat else fast_precision(torch_device)


def _check_out(weights: Path, resume: bool, force: bool) -> None:
    """Refuse to overwrite a run, or to resume where there is none."""
    out = weights.parent
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: expected a folder for --out, found a file; name a folder")
    if not (resume or force):
        for name in (weights.name, CHECKPOINT, CONFIG):
            if (out / name).exists():
                raise InputError(
                    f"{out / name} exists already; pass --resume to go on, --force to start over, "
                    "or choose another --out"
                )
    if resume and not (out / CHECKPOINT).exists():
        raise InputError(f"{out / CHECKPOINT}: nothing to resume; leave --resume out to start")


def _claim(held: ExitStack, weights: Path, resume: bool, force: bool) -> None:
    """Be the one run that writes there, from now until `held` is left."""
    _check_out(weights, resume, force)
    out = weights.parent
    held.enter_context(writing(out, out / CHECKPOINT))
    # Another may have ended just before.
    _check_out(weights, resume, force)


def _saved_setting(checkpoint: Path, name: str, config: TrainConfig) -> Any:
    """A setting that was settled when the run of a checkpoint began."""
    _, metadata = read_checkpoint(checkpoint)
    return as_saved(metadata[SETTINGS_KEY], config)[name]
