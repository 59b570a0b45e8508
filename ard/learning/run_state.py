"""The state of a training run, and how it survives an interruption."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ard.learning.config import TrainConfig, as_saved, dotted
from ard.learning.pace import Clock, Pace
from ard.models.folding import Compiler, FoldedTwin, as_it_is
from ard.models.weight_files import SETTINGS_KEY, load_state, load_tensors, save_tensors
from ard.processes.parallel import in_parallel
from ard.processes.world import ALONE, World
from edge_bench.core.errors import InputError, first_line
from edge_bench.core.formats import KEY, WRITER, Change, Format
from edge_bench.core.parse import json_of
from edge_bench.core.version import __version__

NUMBER = re.compile("[0-9]{1,9}")
PACE = "pace"

CHECKPOINT_FORMAT = Format(
    name="a training checkpoint",
    history=(
        Change(ardx="0.1.0", what="the first form"),
        Change(ardx="0.2.0", what="schema_version and ardx_version"),
        Change(ardx="0.2.0", what="pace: how far a run is that was given a time, and how fast"),
    ),
)


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Accuracies on the held-out part of the training set, as fractions.

    `worst_clean` and `worst_robust` are those of the class that fares worst, clean and attacked,
    and `..._class` is its number; None in files of before.
    """

    epoch: int
    clean_accuracy: float
    robust_accuracy: float
    worst_clean: float | None = None
    worst_clean_class: int | None = None
    worst_robust: float | None = None
    worst_robust_class: int | None = None


class Run:
    """The state of one training run: student, average, optimiser, and the best average so far."""

    def __init__(self, config: TrainConfig, student: nn.Module, world: World = ALONE) -> None:
        self.world = world
        self.student = student
        self.memory_format = torch.channels_last
        compiled = _compiler(config)
        self.twin = FoldedTwin(student, compiled=compiled)
        self.average = AveragedModel(
            student, multi_avg_fn=_warmed_average(config.ema_decay), use_buffers=True
        )
        # After the copies above, which never see batch statistics and stay as they were built.
        self.forward: Any = compiled(in_parallel(student, world))
        self.optimizer = torch.optim.SGD(
            student.parameters(),
            lr=config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            nesterov=config.nesterov,
        )
        self.attacked = config.objective is not None
        self.epochs_done = 0
        self.memory = torch.empty(0)
        self.best: Validation | None = None
        self.best_weights: dict[str, Tensor] = {}
        self.pace: Pace | None = None

    def offer(self, validation: Validation) -> Validation:
        """Keep the average's weights where it is the best so far; the best.

        The most robust one; where training has no attack to be robust against, the most accurate.
        """

        def key(v: Validation) -> tuple[float, float]:
            both = v.robust_accuracy, v.clean_accuracy
            return both if self.attacked else both[::-1]

        if self.best is None or key(validation) > key(self.best):
            self.best = validation
            state = self.average.module.state_dict()
            self.best_weights = {name: t.detach().clone() for name, t in state.items()}
        return self.best

    def overfits(self, config: TrainConfig) -> bool:
        """Whether `patience` validations have passed without a better one."""
        if not config.patience or self.best is None:
            return False
        return self.epochs_done - self.best.epoch >= config.patience * config.validate_every

    def save(self, path: Path, config: TrainConfig) -> None:
        """Write everything that the next epoch depends on."""
        groups = {
            "student": self.student.state_dict(),
            "average": self.average.state_dict(),
            "best": self.best_weights,
            "momentum": self._momentum(),
            "memory": {"values": self.memory},
        }
        tensors = {f"{g}/{name}": t for g, state in groups.items() for name, t in state.items()}
        metadata = {
            SETTINGS_KEY: json.dumps(asdict(config)),
            "epochs_done": str(self.epochs_done),
            "best": json.dumps(asdict(self.best) if self.best else None),
            PACE: json.dumps(self.pace and told(self.pace)),
            KEY: str(CHECKPOINT_FORMAT.version),
            WRITER: __version__,
        }
        save_tensors(path, tensors, metadata, force=True)

    def restore(self, path: Path, config: TrainConfig) -> None:
        """Read what `save` wrote.

        Raises:
            InputError: damaged, of a newer version, or of a run with other settings.
        """
        tensors, metadata = self.world.tensors_from_first(lambda: read_checkpoint(path))
        theirs, ours = as_saved(metadata[SETTINGS_KEY], config), dotted(asdict(config))
        for name, value in ours.items():
            if json.dumps(theirs[name]) != json.dumps(value):
                raise InputError(
                    f"{path}: was made with {name} {theirs[name]!r}, but now {name} is {value!r}; "
                    "resume with the same settings, or start over with --force"
                )
        try:
            self._take(tensors, metadata)
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            raise InputError(
                f"{path}: expected the state of this run, but a part is missing or of another form "
                f"({type(error).__name__}: {first_line(error)}); start over with --force"
            ) from None

    def _take(self, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        states: dict[str, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            group, _, name = key.partition("/")
            states.setdefault(group, {})[name] = tensor
        load_state(self.student, states["student"])
        load_state(self.average, states["average"])
        self.best_weights = states.get("best", {})
        for name, parameter in self.student.named_parameters():
            if name in states.get("momentum", {}):
                buffer = states["momentum"][name].to(parameter.device)
                self.optimizer.state[parameter]["momentum_buffer"] = buffer
        self.memory = states.get("memory", {}).get("values", self.memory)
        self.epochs_done = int(metadata["epochs_done"])
        best = json_of(metadata["best"])
        self.best = Validation(**best) if best else None

    def _momentum(self) -> dict[str, Tensor]:
        return {
            name: self.optimizer.state[parameter]["momentum_buffer"]
            for name, parameter in self.student.named_parameters()
            if "momentum_buffer" in self.optimizer.state[parameter]
        }


def _compiler(config: TrainConfig) -> Compiler:
    """What the settings ask for: nothing, torch.compile, or that with CUDA graphs."""
    if not config.compile:
        return as_it_is
    # Inductor's name for CUDA graphs; on other devices it records nothing.
    mode = "reduce-overhead" if config.cuda_graphs else None
    return partial(torch.compile, mode=mode)


def told(pace: Pace) -> dict[str, float]:
    """What a checkpoint keeps of a pace."""
    return {
        "elapsed": pace.clock.elapsed(),
        "step_seconds": pace.step_seconds,
        "validation_seconds": pace.validation_seconds,
        "robust_seconds": pace.robust_seconds,
        "position": pace.position,
    }


def saved_pace(path: Path, metadata: dict[str, str], clock: Clock) -> Pace | None:
    """The pace of the run of a checkpoint, with what it has taken so far.

    None where the checkpoint is of before paces were kept: such a run ends with its planned epochs.

    Raises:
        InputError: of a run that was begun without a time, or a pace of another form.
    """
    if PACE not in metadata:
        return None
    try:
        found = json_of(metadata[PACE])
        if found is not None:
            return Pace(
                clock=replace(clock, used=float(found["elapsed"])),
                step_seconds=float(found["step_seconds"]),
                validation_seconds=float(found["validation_seconds"]),
                robust_seconds=float(found["robust_seconds"]),
                position=float(found["position"]),
            )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: expected the pace of a run, but it is of another form "
            f"({type(error).__name__}: {first_line(error)}); start over with --force"
        ) from None
    raise InputError(
        f"--minutes {clock.seconds / 60:g}: {path} is of a run of so many epochs, which no time "
        "ends; resume with the same --epochs and without --minutes, or start over with --force"
    )


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a checkpoint, in the newest form.

    Raises:
        InputError: missing, damaged, or of a newer version.
    """
    tensors, metadata = load_tensors(path, CHECKPOINT_FORMAT.name)
    version = metadata.get(KEY, "1")
    numbered = metadata | {KEY: int(version) if NUMBER.fullmatch(version) else version}
    upgraded = CHECKPOINT_FORMAT.upgraded(numbered, str(path)) | {KEY: version}
    if missing := [name for name in (SETTINGS_KEY, "epochs_done", "best") if name not in upgraded]:
        raise InputError(
            f"{path}: expected {CHECKPOINT_FORMAT.name}, but its {missing[0]!r} is missing; start "
            "over with --force"
        )
    for name, kinds in ((SETTINGS_KEY, (dict,)), ("best", (dict, type(None)))):
        try:
            found = json_of(upgraded[name])
        except ValueError:
            found = NotImplemented
        if not isinstance(found, kinds):
            raise InputError(
                f"{path}: expected {CHECKPOINT_FORMAT.name}, but its {name!r} is no JSON of ours; "
                "start over with --force"
            )
    return tensors, upgraded


def _warmed_average(
    decay: float,
) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """An exponential average whose memory grows with its age, so that it forgets the start."""

    def update(averages: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        age = int(count)
        now = min(decay, (1 + age) / (10 + age))
        for average, value in zip(averages, current, strict=True):
            if average.is_floating_point():
                average.lerp_(value.to(average.dtype), 1 - now)
            else:
                average.copy_(value)

    return update
