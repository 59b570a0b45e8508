"""A process of its own for one piece of work, which ends with the process that asked for it."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import wait
from threading import Thread


@contextmanager
def own_process() -> Iterator[ProcessPoolExecutor]:
    """One process for the block's work; killed where the block is interrupted."""
    # Spawned, not forked: runtimes hold threads, which a fork does not survive.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(1, mp_context=context, initializer=_end_with_parent)
    before = multiprocessing.active_children()
    interrupted = False
    try:
        yield pool
    except KeyboardInterrupt:
        interrupted = True
        for process in multiprocessing.active_children():
            if process not in before:
                process.kill()
        raise
    finally:
        # An interrupt may come while the pool's own thread is about to start. To wait for such a
        # one is an error, which would take the interrupt's place: whoever reports errors and goes
        # on would go on.
        pool.shutdown(wait=not interrupted)


def _end_with_parent() -> None:
    """Nobody would take the result of an orphan, which would hold its lock for ever."""
    # Ctrl-C reaches both; the parent says so and ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_watch_parent, name="parent", daemon=True).start()


def _watch_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
