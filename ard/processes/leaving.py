"""How a process of ardx ends below torchrun. Imports no torch, since every command passes here."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

STARTED_BY_TORCHRUN = "TORCHELASTIC_RUN_ID"


def leave(ended: SystemExit) -> NoReturn:
    """End with that code; below torchrun at once, when all that was said is out.

    torch keeps a process group's threads for good where DistributedDataParallel has used it
    (2.15, also when nothing refers to either any more). One that still lets go of its last tensor
    while the interpreter is taken down needs what is gone by then, and aborts the process: a job
    that was done would end as one that failed.
    """
    if STARTED_BY_TORCHRUN not in os.environ or not isinstance(ended.code, int | None):
        raise ended
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        # The interpreter has its own way to say that nobody reads any more.
        raise ended from None
    os._exit(ended.code or 0)
