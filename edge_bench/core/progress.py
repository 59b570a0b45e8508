"""What long steps tell while they run, for any caller: a bar is drawn by the command line."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta

from edge_bench.core.markdown import inert, plain

ProgressCallback = Callable[[int, int, str], None]
"""Called with (done, total, text): `text` says what the step just found, or is empty."""


Monitor = Callable[[str], AbstractContextManager[ProgressCallback]]
"""Called with the name of a long step, for its duration; see `progress`."""


def no_progress(done: int, total: int, text: str) -> None:
    """The progress callback of a caller who wants silence."""


@contextmanager
def silent(label: str) -> Iterator[ProgressCallback]:
    """The monitor of a caller who wants silence."""
    yield no_progress


def plain_progress(label: str, clock: Callable[[], float] = time.monotonic) -> ProgressCallback:
    """Print steps that have something to say, and the quarters of those that do not.

    From the second call on there is a pace to judge the time left by; a resumed step counts from
    where it went on, and another total begins another step (as it does for rich's bar).
    """
    said, last_total = 0, 0
    start: tuple[int, float] | None = None

    def update(done: int, total: int, text: str) -> None:
        nonlocal said, start, last_total
        now = clock()
        if total != last_total:
            said, start, last_total = 0, None, total
        start = start or (done, now)
        quarter = 4 * done // max(total, 1)
        if text or quarter > said:
            left = ""
            if start[0] < done < total:
                seconds = (now - start[1]) * (total - done) / (done - start[0])
                left = f"({timedelta(seconds=round(seconds))} left)" if seconds >= 1 else ""
            words = (label, f"{done}/{total}", text, left)
            told = inert(plain(" ".join(filter(None, words))))
            print(told, file=sys.stderr, flush=True)
        said = max(said, quarter)

    return update
