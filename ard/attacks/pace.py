"""How far an attack on one batch has come: attacks of minutes or hours owe a time left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from ard.attacks.registry import expand
from edge_bench.core.progress import ProgressCallback
from edge_bench.core.spec import AttackSpec

# Passes through the model that each part of the standard ensemble makes for one target, about.
PASSES = {"apgd_ce": 102, "apgd_t": 103, "fab_t": 205}
TARGETS = {"apgd_t": 9, "fab_t": 9}


def passes_of(spec: AttackSpec) -> int:
    """About how often an attack asks the model, at most; it stops sooner where all is broken."""
    total = 0
    for part in expand(spec):
        if part.name in PASSES:
            total += PASSES[part.name] * TARGETS.get(part.name, 1)
        else:
            total += ((part.steps or 1) + 1) * part.restarts
    return total


@contextmanager
def reported(
    model: nn.Module,
    spec: AttackSpec | None,
    begin: int,
    end: int,
    total: int,
    report_progress: ProgressCallback,
) -> Iterator[None]:
    """Report samples `begin` to `end` of `total` as done bit by bit while `model` is asked."""
    if spec is None:
        yield
        return
    expected, passes = passes_of(spec), 0

    def count(*_: Any) -> None:
        nonlocal passes
        passes += 1
        share = min(passes / expected, 1.0)
        # The batch is done only when it has been judged.
        report_progress(begin + int(share * max(end - begin - 1, 0)), total, "")

    handle = model.register_forward_hook(count)
    try:
        yield
    finally:
        handle.remove()
