"""What a training would refuse when it begins, found before anything slow is done for it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from ard.data.splits import Dataset
from ard.learning.config import TrainConfig
from ard.learning.train import CHECKPOINT, new_run, told_before, training_data
from ard.methods.parts.base import Logits
from ard.methods.registry import METHODS, logits_needed
from ard.processes.world import ALONE, World
from edge_bench.core.errors import InputError


def rehearse(
    config: TrainConfig,
    dataset: Dataset,
    resumed: Path | None,
    *,
    init: nn.Module | None = None,
    torch_device: str = "cpu",
    world: World = ALONE,
) -> None:
    """Build all that a training begins with, and throw it away.

    Args:
        config: with the precision and, of a run that is resumed, the epochs that are in force.
        resumed: folder of a run that is to go on.

    Raises:
        InputError: no such network, fewer images than a batch, a constant that the objective does
            not take, a checkpoint of other settings, or damaged metrics beside it.
    """
    training, _ = training_data(config, dataset)
    run = new_run(config, dataset, training, torch_device, world, init)
    _try_objective(config, dataset.classes)
    if resumed is not None:
        run.restore(resumed / CHECKPOINT, config)
        world.from_first(lambda: told_before(resumed))


def check_milestones(config: TrainConfig) -> None:
    """Refuse a fall of the learning rate that would lie beyond the end.

    Raises:
        InputError: milestones of the last epoch, or later.
    """
    if config.milestones and config.milestones[-1] >= config.epochs:
        raise InputError(
            f"milestones {list(config.milestones)}: the run ends at epoch {config.epochs}, before "
            "the last of them; give earlier ones, or --set schedule=one-cycle --set 'milestones=[]'"
        )


def _try_objective(config: TrainConfig, classes: int) -> None:
    """Compute the loss of two samples, of which nothing is kept."""
    needed = logits_needed(config.method, config.loss)
    logits = Logits(**dict.fromkeys(needed, torch.zeros(2, classes)))
    METHODS[config.method].terms(logits, torch.arange(2), config.loss.at(0.0))
