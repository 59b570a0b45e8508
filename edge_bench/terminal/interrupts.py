"""SIGINT, SIGTERM and SIGHUP end a command alike: a sentence, no unfinished files, 128 + n."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

AFTER_AN_EPOCH = (
    "the same command goes on after the last whole epoch with --resume, and begins anew without it "
    "where there was none"
)
GOES_ON = {
    "attack": "the same command goes on with the set that it began",
    "bench": "the same command goes on with the replay that it began",
    "evaluate": "the same command goes on after the last whole attack, where it had --out",
    "teach": AFTER_AN_EPOCH,
    "distill": AFTER_AN_EPOCH,
}
BEGINS_ANEW = "the same command begins anew"


class Interrupted(KeyboardInterrupt):
    """One of SIGNALS came; a KeyboardInterrupt, so that all that tidies up for one does so."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGNALS raise Interrupted, once: a second one ends the process where it is.

    What the caller has set to be ignored stays so, as under `nohup`; torchrun's workers have a way
    of their own to end.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[signal.Signals, Any] = {}

    def raise_once(number: int, _: FrameType | None) -> None:
        for caught in before:
            signal.signal(caught, signal.SIG_DFL)
        raise Interrupted(number)

    elastic = "TORCHELASTIC_RUN_ID" in os.environ
    for number in SIGNALS:
        found = signal.getsignal(number)
        if found in (signal.SIG_IGN, None) or (elastic and number == signal.SIGTERM):
            continue
        before[number] = found
        signal.signal(number, raise_once)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def told(error: KeyboardInterrupt, command: str | None) -> tuple[str, int]:
    """The sentence of an interrupted command, and its exit code."""
    number = error.number if isinstance(error, Interrupted) else signal.SIGINT
    by = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
    rest = GOES_ON.get(command or "", BEGINS_ANEW)
    return f"interrupted{by}: {rest}; other unfinished files were removed", 128 + number


def quiet_start() -> None:
    """Until a command is there to tidy up, Ctrl-C ends the process, without a traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
