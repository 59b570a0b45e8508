"""How an engine is built."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_bench.core.errors import InputError

CACHE = Path("~/.cache/ardx/engines")
MOST_MIB = 1 << 20
"""1 TiB, more than any GPU has."""


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """How to build an engine.

    Attributes:
        cache: folder of engines.
        workspace_mib: most GPU memory that a kernel may use for intermediate results; None leaves
            it to TensorRT.
        tuned_batch: batch size that kernels are chosen for.
        max_batch: largest batch size; both count only where the graph's batch size is free.
        bundled: folder of engines that a bundle brought, one of which is to be run; None builds.
    """

    cache: Path = CACHE
    workspace_mib: int | None = None
    tuned_batch: int = 1
    max_batch: int = 64
    bundled: Path | None = None

    def __post_init__(self) -> None:
        if self.workspace_mib is not None and not 1 <= self.workspace_mib <= MOST_MIB:
            raise InputError(
                f"--workspace-mib {self.workspace_mib}: expected 1 or more, and at most {MOST_MIB}"
            )
        if not 1 <= self.tuned_batch <= self.max_batch:
            raise InputError(
                f"--tuned-batch {self.tuned_batch}: expected 1 to {self.max_batch}, the "
                "--batch-size, which is the largest that the engine takes"
            )
