"""The process for one piece of work ends with an interrupt, whenever that comes."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import process as pools

import pytest

from edge_bench.timing.own_process import own_process


def test_an_interrupt_before_the_pool_has_its_thread_stays_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It came between the process and the thread; an error in its place would be reported as the
    work's own, and the command would go on."""

    def interrupted(thread: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pools._ExecutorManagerThread, "start", interrupted)
    before = multiprocessing.active_children()
    with pytest.raises(KeyboardInterrupt), own_process() as pool:
        pool.submit(os.getpid)
    started = [one for one in multiprocessing.active_children() if one not in before]
    for process in started:
        process.join(20)
    assert not [one for one in started if one.is_alive()]
