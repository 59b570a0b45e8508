"""A run that is given a time: how much of it fits, and when it has to end.

A few steps are timed before the run begins, and every epoch while it goes; what is left of the
time decides how many more there are. The learning rate follows the position in the run, which
goes from 0 to 1 whatever becomes of the plan, so that it has come down when the time is over.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from math import ceil

from ard.learning.config import TrainConfig
from ard.methods.registry import METHODS
from edge_bench.core.errors import InputError

RESERVE, RESERVE_SHARE = 1.0, 0.01
"""Seconds, and share of the time, for what is left to do after the last validation."""
FEWEST_EPOCHS = 8
"""Of a run, after each of which it is planned anew: the last may be off by so much of the time."""
MOST_VALIDATIONS, VALIDATION_SHARE = 4, 0.25
"""Where epochs are shorter than a pass over the data: how many at most, and of the time."""
VALIDATION_PASSES = 11
"""Of each image forward and back in a validation that every image survives."""
STEP_PASSES = 1.5
"""In an update, beside those of its attack."""
SLOWER = 1.25
"""What the next validation may take longer than the last: a better network is attacked longer."""


MOST_MINUTES = 1_000_000
"""About two years: beyond it, seconds and steps would no longer be numbers in the end."""


def check_minutes(minutes: float, where: str) -> None:
    """Refuse what is no time to train for; `where` names it in a sentence.

    Raises:
        InputError: 0 or less, no number, or more than MOST_MINUTES.
    """
    if not 0 < minutes <= MOST_MINUTES:
        raise InputError(
            f"{where} {minutes:g}: expected minutes above 0 and up to {MOST_MINUTES:,}"
        )


@dataclass(frozen=True, kw_only=True)
class Clock:
    """The time that a run may take.

    Attributes:
        seconds: in all.
        begun: `time.perf_counter()` when the command began.
        used: seconds that earlier commands of the same run took.
    """

    seconds: float
    begun: float
    used: float = 0.0

    def elapsed(self) -> float:
        """Seconds that the run has taken so far."""
        return self.used + time.perf_counter() - self.begun

    def left(self) -> float:
        """Seconds for training and validation; below 0 where they are over."""
        return self.seconds * (1 - RESERVE_SHARE) - RESERVE - self.elapsed()


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast a run goes, and how far it is.

    Attributes:
        step_seconds, validation_seconds: as measured last, or as estimated before that.
        robust_seconds: what a validation would take that every image survives.
        position: share of the run that is done, when an epoch begins.
    """

    clock: Clock
    step_seconds: float
    validation_seconds: float
    robust_seconds: float
    position: float = 0.0

    def at(self, step: int, steps_left: int) -> float:
        """The position after `step` of the steps that are planned from here to the end."""
        return self.position + (1 - self.position) * step / steps_left

    def over(self) -> bool:
        """Whether one more step leaves no time for the validation that must end the run."""
        return self.clock.left() < self.step_seconds + self.validation_seconds

    def after_validation(self, seconds: float) -> Pace:
        """The pace once a validation took so long; the next is of a network that survives more."""
        expected = max(SLOWER * seconds, (seconds + self.robust_seconds) / 2)
        return replace(self, validation_seconds=expected)


def first_pace(
    clock: Clock, config: TrainConfig, step_seconds: float, validation_images: int
) -> Pace:
    """The pace before a run: a validation is taken to cost what it would of a robust network."""
    attack = config.inner_steps if METHODS[config.method].inner is not None else 0
    per_image = step_seconds / config.batch_size / (attack + STEP_PASSES)
    validation = per_image * VALIDATION_PASSES * validation_images
    return Pace(
        clock=clock,
        step_seconds=step_seconds,
        validation_seconds=validation,
        robust_seconds=validation,
    )


def planned(config: TrainConfig, pace: Pace, whole_pass: int, *, starts: bool) -> TrainConfig:
    """The settings with epochs, and steps of each, that fit into what is left.

    Where only a few passes over the data fit, epochs are shorter than a pass, and not every one is
    validated.

    Args:
        whole_pass: steps of a pass over the data.
        starts: the weights that training starts from are validated first.
    """
    step, validation = pace.step_seconds, pace.validation_seconds
    left = pace.clock.left() - (validation if starts else 0)
    epochs = int(left / (whole_pass * step + validation / config.validate_every))
    if epochs >= FEWEST_EPOCHS:
        return replace(config, epochs=epochs, epoch_steps=0)
    validations = max(1, min(MOST_VALIDATIONS, int(VALIDATION_SHARE * left / validation)))
    every = max(config.validate_every, FEWEST_EPOCHS // validations)
    training = int((left - validations * validation) / step)
    steps = min(max(1, training // FEWEST_EPOCHS), whole_pass)
    epochs = max(1, training // steps)
    return replace(config, epochs=epochs, epoch_steps=steps, validate_every=every)


def epochs_left(config: TrainConfig, pace: Pace, steps: int) -> int:
    """The epochs that really fit, after one was trained and before it is judged.

    Args:
        steps: of an epoch.
    """
    if pace.position >= 1:
        # The learning rate has come down: what time is left would change nothing.
        return 0
    left = pace.clock.left() - pace.validation_seconds
    epoch = steps * pace.step_seconds + pace.validation_seconds / config.validate_every
    return max(0, int(left / epoch))


def too_short(pace: Pace, *, starts: bool) -> str | None:
    """Why the time is not enough for anything, and how much is; None where it is."""
    needed = pace.step_seconds + (2 if starts else 1) * pace.validation_seconds
    if pace.clock.left() >= needed:
        return None
    least = (pace.clock.elapsed() + 2 * needed) / 60
    return (
        f"--minutes {pace.clock.seconds / 60:g}: one step takes {pace.step_seconds:.1f} s and a "
        f"validation up to {pace.validation_seconds:.1f} s here, so this will take longer; give "
        f"{ceil(10 * least) / 10:g} or more"
    )
