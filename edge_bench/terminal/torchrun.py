"""What torchrun tells the processes that it starts, without torch."""

from __future__ import annotations

import os


def processes() -> int:
    """How many processes torchrun started for this command; 1 where it did not start it."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return 1
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this is the process that speaks, before the processes have met."""
    return "TORCHELASTIC_RUN_ID" not in os.environ or os.environ.get("RANK", "0") == "0"
