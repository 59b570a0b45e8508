"""A process of ardx below torchrun: it joins the others, and they end as one, with one sentence."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Protocol

import torch
import torch.distributed as dist

from ard.processes.world import ALONE, Place, World
from edge_bench.core.errors import EXIT_ENVIRONMENT, ArdxError, CapabilityError, first_line

# A worker that vanishes closes its connections, which the others notice at once; this is for one
# that hangs, or whose machine went dark. The longest wait in a sound run is for rank 0 to read or
# write a checkpoint.
TIMEOUT = timedelta(minutes=10)
# Where processes take turns with batches, one may wait for another's, and AutoAttack takes hours
# for one on a slow machine.
PATIENCE = timedelta(days=7)
# torchrun kills 30 seconds after it asked to end; nobody should wait for a sentence until then.
GRACE_SECONDS = 5
STORE_TIMEOUT = timedelta(seconds=5)

# gloo and NCCL report a lost peer as a RuntimeError without a type of its own.
LOST = re.compile(r"gloo|nccl|connection (closed|reset|refused)|broken pipe", re.IGNORECASE)
# What of their many words is fit for a sentence.
CAUSE = re.compile(r"connection (closed|reset|refused)[a-z ]*|broken pipe|timed out", re.IGNORECASE)


class Store(Protocol):
    """What torch's key-value stores have, as far as it is used here."""

    def add(self, key: str, amount: int) -> int:
        """Add to a counter, atomically over all processes, and return it."""
        ...

    def set_timeout(self, timeout: timedelta) -> None:
        """Bound the wait for the store's machine."""
        ...


class _TerminatedError(BaseException):
    """SIGTERM came; a BaseException, as KeyboardInterrupt is, so that nothing takes it for less."""


@contextmanager
def joined(place: Place | None = None, timeout: timedelta = TIMEOUT) -> Iterator[World]:
    """Join the processes that torchrun started, for the duration; without torchrun, be alone.

    An error is told by one process only: the first that meets it.

    Args:
        place: where the run is as it begins.
        timeout: how long a process waits for the others.
    """
    if not dist.is_torchelastic_launched() or os.environ["WORLD_SIZE"] == "1":
        yield ALONE
        return
    world = World(
        rank=int(os.environ["RANK"]),
        size=int(os.environ["WORLD_SIZE"]),
        local_rank=int(os.environ["LOCAL_RANK"]),
        place=place or Place(),
    )
    store = _store()

    def end_unheard() -> None:
        if _is_first_to_speak(store):
            print(f"error: {_terminated(world)}", file=sys.stderr, flush=True)
        os._exit(EXIT_ENVIRONMENT)

    try:
        with _terminable(end_unheard), warnings.catch_warnings():
            # DDP says so of 1x1 convolutions in channels_last, whose strides mean nothing.
            warnings.filterwarnings("ignore", message="Grad strides do not match")
            _join(world, store, timeout)
            yield world
            dist.destroy_process_group()
    except BaseException as error:
        told = _as_told(error, world)
        if isinstance(told, SystemExit) or _is_first_to_speak(store):
            raise told from None if told is not error else error.__cause__
        raise SystemExit(told.exit_code if isinstance(told, ArdxError) else 1) from None


def _store() -> Store:
    """The key-value store that torchrun keeps for its processes; it outlives them."""
    try:
        store, _, _ = next(dist.rendezvous("env://", timeout=TIMEOUT))  # type: ignore[attr-defined]
    except RuntimeError as error:
        raise CapabilityError(
            f"the processes that torchrun started cannot reach each other ({first_line(error)}); "
            "check --rdzv-endpoint and the network between the machines"
        ) from None
    # With --max-restarts it outlives an attempt, too, whose processes are not those of the next: a
    # sentence that they told is not one of the next, and nobody listens where they listened.
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    ours: Store = _prefixed(f"ardx/{attempt}", store)
    return ours


def _prefixed(prefix: str, store: Any) -> Any:
    return dist.PrefixStore(prefix, store)  # type: ignore[attr-defined]


def _join(world: World, store: Store, timeout: timedelta) -> None:
    cuda = torch.cuda.is_available() and dist.is_nccl_available()
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo",
        store=_prefixed("group", store),
        rank=world.rank,
        world_size=world.size,
        timeout=timeout,
    )


def _is_first_to_speak(store: Store) -> bool:
    """Whether no process has told an error yet; from now on one has."""
    try:
        store.set_timeout(STORE_TIMEOUT)
        return store.add("told", 1) == 1
    except RuntimeError:
        # The store is gone, with the machine that kept it: better twice than not at all.
        return True


def _as_told(error: BaseException, world: World) -> BaseException:
    """The sentence for what only happens between processes; other errors as they are."""
    if isinstance(error, _TerminatedError):
        return _terminated(world)
    if isinstance(error, RuntimeError) and (
        isinstance(error, dist.DistError) or LOST.search(str(error))
    ):
        cause = CAUSE.search(str(error))
        text = cause[0].strip().lower() if cause else first_line(error)
        return CapabilityError(
            f"a worker was lost ({text}) {world.place.where}; {world.place.remedy}"
        )
    return error


def _terminated(world: World) -> CapabilityError:
    return CapabilityError(
        f"a worker was lost, or the job was told to end, {world.place.where}; {world.place.remedy}"
    )


@contextmanager
def _terminable(end_unheard: Callable[[], None]) -> Iterator[None]:
    """Raise _TerminatedError on SIGTERM, with which torchrun ends the survivors of a lost worker.

    A process that waits inside a collective or for its GPU does not come to raise anything; then
    a thread calls `end_unheard` after a moment of grace.

    After an error SIGTERM stays ignored: torchrun sends it to the others as soon as one has ended,
    and what is being said about the error must not be cut off, from its first moment on.
    """
    over = threading.Event()
    reader, writer = socket.socketpair()
    writer.setblocking(False)

    def watch() -> None:
        while received := reader.recv(1):
            if received[0] == signal.SIGTERM and not over.wait(GRACE_SECONDS):
                end_unheard()

    def terminate(number: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise _TerminatedError

    handler = signal.signal(signal.SIGTERM, terminate)
    wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
        signal.signal(signal.SIGTERM, handler)
    except BaseException:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise
    finally:
        over.set()
        signal.set_wakeup_fd(wakeup)
        writer.close()
        thread.join()
        reader.close()
