"""The metrics of a run as TensorBoard scalars, beside metrics.jsonl."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge_bench.core.errors import CapabilityError

FOLDER = "tensorboard"


def check_installed() -> None:
    """Say what is missing before any work is done.

    Raises:
        CapabilityError: tensorboard is not installed.
    """
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError:
        raise CapabilityError(
            "--tensorboard: the package tensorboard is not installed; run pip install "
            "'ardx[tensorboard]', or read metrics.jsonl, which has the same figures"
        ) from None


@contextmanager
def scalars(out: Path | None, epochs_done: int) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Yield a function that takes the line of an epoch; `out` None takes it and does nothing.

    What an interrupted run wrote after its last checkpoint is hidden by what is written anew.
    """
    if out is None:
        yield lambda line: None
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(out / FOLDER), purge_step=epochs_done + 1) as writer:

        def write(line: dict[str, Any]) -> None:
            for name, value in _scalars(line):
                writer.add_scalar(name, value, line["epoch"])
            writer.flush()

        yield write


def _scalars(line: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Every number of a line under its path, such as `terms/class`."""
    for name, value in line.items():
        if isinstance(value, dict):
            yield from _scalars(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and name != "epoch":
            yield prefix + name, float(value)
