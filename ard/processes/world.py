"""Several processes that work on one thing together; `torchrun` says how they come and go.

In training each process attacks and forwards its part of every batch. What compares samples with
each other, the batch statistics and the loss, is computed on the whole batch from values that all
processes gather, so N processes follow the curve of one up to rounding.

In evaluation and crafting they take turns with whole batches. A batch's draws and its rounding
follow the batch alone, so that what N processes find is what one finds, to the bit.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import load as load_bytes
from safetensors.torch import save
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from edge_bench.core.errors import ArdxError, CapabilityError, InconclusiveError, InputError
from edge_bench.statistics.metrics import BoolArray

T = TypeVar("T")

Tensors = tuple[dict[str, Tensor], dict[str, str]]
"""Tensors by name, and metadata."""

# Weights of one kind of machine agree to the bit; those of several may round differently.
MOST_APART = 1e-3


@dataclass
class Place:
    """How far the run is, in words, and how to go on, for the sentence that ends it."""

    where: str = "before the first epoch"
    remedy: str = "start the same command again"

    def enter(self, epoch: int, resumable: bool) -> None:
        """Note that `epoch` (from 1) begins, and whether there is a checkpoint to resume from."""
        self.where = f"in epoch {epoch}"
        self.remedy = "start the same command again" + (" with --resume" if resumable else "")


@dataclass(frozen=True, kw_only=True)
class World:
    """Which of how many processes this is. One process alone never calls torch.distributed."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    place: Place = field(default_factory=Place)

    @property
    def leads(self) -> bool:
        """Whether this process is the one that speaks and writes."""
        return self.rank == 0

    def part(self, batch: Tensor) -> Tensor:
        """This process's samples of a batch that all processes have drawn alike."""
        if self.size == 1:
            return batch
        part: Tensor = batch.chunk(self.size)[self.rank]
        return part

    def check_batch(self, batch_size: int) -> None:
        """Refuse a batch that cannot be cut into equal parts: means of means would be wrong."""
        if batch_size % self.size:
            nearest = max(1, round(batch_size / self.size)) * self.size
            raise InputError(
                f"--batch-size {batch_size}: expected a multiple of the {self.size} processes "
                f"that share a batch; give {nearest}, or start another number of processes"
            )

    def check_turns(self, samples: int, batch_size: int) -> None:
        """Refuse more processes than there are batches to take turns with."""
        batches = max(1, math.ceil(samples / batch_size))
        if self.size > batches:
            raise InputError(
                f"torchrun started {self.size} processes, but {samples} images are {batches} "
                f"batch{'es' if batches > 1 else ''} of {batch_size}, and a process takes whole "
                f"batches; start at most {batches}"
            )

    def takes(self, batch: int) -> bool:
        """Whether batch number `batch` is this process's, which all take in turn."""
        return batch % self.size == self.rank

    def gather(self, part: Tensor) -> Tensor:
        """The parts of all processes, (size, ...), with gradient to the own one."""
        parts: Tensor = _Gather.apply(part.contiguous(), self)
        return parts

    def whole(self, part: Tensor) -> Tensor:
        """The whole batch (B, ...) from this process's part of it, with gradient to the part."""
        return part if self.size == 1 else self.gather(part).flatten(0, 1)

    def all_of(self, mask: BoolArray) -> BoolArray:
        """(N,) booleans: true where the mask of every process is."""
        if self.size == 1:
            return mask
        merged = torch.from_numpy(mask.astype(np.uint8))
        dist.all_reduce(merged, op=dist.ReduceOp.MIN)
        return merged.numpy().astype(np.bool_)

    def at_first(self, ours: dict[str, Tensor] | None) -> list[dict[str, Tensor]]:
        """On rank 0 what every process has, in the order of ranks; on the others nothing.

        Args:
            ours: on the CPU; None has nothing, and is left out.
        """
        if self.size == 1:
            return [] if ours is None else [ours]
        data = b"" if ours is None else save({n: t.contiguous() for n, t in ours.items()})
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(sizes, torch.tensor([len(data)]))
        if not self.leads:
            if data:
                dist.send(torch.frombuffer(bytearray(data), dtype=torch.uint8), dst=0)
            return []
        found = [] if ours is None else [ours]
        for rank, size in enumerate(sizes):
            if rank and int(size):
                buffer = torch.empty(int(size), dtype=torch.uint8)
                dist.recv(buffer, src=rank)
                found.append(load_bytes(buffer.numpy().tobytes()))
        return found

    def from_first(self, compute: Callable[[], T]) -> T:
        """What `compute` gives or raises on rank 0, for all; the others wait and do not call it.

        Files are read and written this way: machines need not share a disk. The value must be one
        that JSON keeps; see `tensors_from_first` for tensors.
        """
        if self.size == 1:
            return compute()
        result: T = json.loads(self._bytes_from_first(lambda: json.dumps(compute()).encode()))
        return result

    def tensors_from_first(self, load: Callable[[], Tensors]) -> Tensors:
        """The same for tensors by name and their metadata."""
        if self.size == 1:
            return load()

        def packed() -> bytes:
            tensors, metadata = load()
            return save({n: t.contiguous() for n, t in tensors.items()}, metadata)

        data = self._bytes_from_first(packed)
        # safetensors' own reader of bytes leaves the metadata out: a header in JSON, after its
        # length in eight bytes.
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        return load_bytes(data), header.get("__metadata__", {})

    def _bytes_from_first(self, compute: Callable[[], bytes]) -> bytes:
        error: ArdxError | OSError | None = None
        data = b""
        if self.leads:
            try:
                data = compute()
            except (ArdxError, OSError) as raised:
                error, data = raised, json.dumps(_told(raised)).encode()
        failed = torch.tensor([int(error is not None)])
        dist.broadcast(failed, src=0)
        received = _broadcast(data, src=0)
        if error is not None:
            raise error
        if int(failed):
            raise _retold(json.loads(received))
        return received

    def first_here(self, load: Callable[[], T]) -> T:
        """What `load` gives, called on one process of each machine before the others there."""
        if self.size == 1:
            return load()
        if self.local_rank == 0:
            loaded = load()
            dist.barrier()
            return loaded
        dist.barrier()
        return load()

    def check_agreement(self, settings: Mapping[str, object]) -> None:
        """Refuse processes that were started with other settings, data or versions than rank 0."""
        if self.size == 1:
            return
        ours = json.loads(json.dumps(dict(settings)))
        first = self.from_first(lambda: ours)
        message = ""
        for name in first:
            if ours.get(name) != first[name]:
                message = (
                    f"process {self.rank} has {name} {ours.get(name)!r}, but process 0 has "
                    f"{first[name]!r}; give every machine the same command, files and versions"
                )
                break
        # All refuse, with one sentence: those that agree would wait for ever.
        refuses = torch.tensor([self.rank if message else self.size])
        dist.all_reduce(refuses, op=dist.ReduceOp.MIN)
        if int(refuses) < self.size:
            raise InputError(_broadcast(message.encode(), src=int(refuses)).decode())

    def check_weights(self, tensors: Iterable[Tensor]) -> None:
        """Refuse to go on with processes whose students have come apart."""
        if self.size == 1:
            return
        scaled = [t.detach() / t.detach().abs().max().clamp_min(1e-12) for t in tensors]
        ours = torch.cat([tensor.flatten() for tensor in scaled])
        first = ours.clone()
        dist.broadcast(first, src=0)
        apart = (ours - first).abs().max()
        dist.all_reduce(apart, op=dist.ReduceOp.MAX)
        if not float(apart) <= MOST_APART:
            raise CapabilityError(
                f"the processes' weights, which must be equal, differ by up to {float(apart):.1e} "
                f"of a layer's largest {self.place.where}; use one version of torch and one kind "
                f"of device, and {self.place.remedy}"
            )

    def own_device(self, torch_device: str) -> str:
        """`cpu`, or this process's own of the machine's CUDA devices."""
        if self.size == 1 or torch_device != "cuda":
            return torch_device
        count = torch.cuda.device_count()
        if self.local_rank >= count:
            raise CapabilityError(
                f"torchrun started more processes on this machine than it has CUDA devices "
                f"({count}); give --nproc-per-node {count}, or --torch-device cpu"
            )
        torch.cuda.set_device(self.local_rank)
        return f"cuda:{self.local_rank}"


def _broadcast(data: bytes, src: int) -> bytes:
    """The bytes that rank `src` has, on all; the others' `data` is only a placeholder."""
    size = torch.tensor([len(data)])
    dist.broadcast(size, src=src)
    buffer = torch.zeros(int(size), dtype=torch.uint8)
    if dist.get_rank() == src and data:
        buffer = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    dist.broadcast(buffer, src=src)
    return buffer.numpy().tobytes()


ALONE = World()

ERRORS: dict[str, type[ArdxError]] = {
    kind.__name__: kind for kind in (InputError, CapabilityError, InconclusiveError)
}


def _told(error: ArdxError | OSError) -> list[Any]:
    """An error as JSON, so that other processes can raise it too."""
    if isinstance(error, OSError):
        return [None, error.errno, error.strerror or str(error), str(error.filename or "")]
    return [type(error).__name__, str(error)]


def _retold(told: list[Any]) -> ArdxError | OSError:
    name, *arguments = told
    return OSError(*arguments) if name is None else ERRORS.get(name, InputError)(*arguments)


class _Gather(torch.autograd.Function):
    """(...) of each process to (size, ...) on all.

    Backward is the true adjoint: the sum over processes of the gradients to the own part. Every
    process computes the same global loss L, so what is differentiated is size * L, summed over
    the processes; DDP's mean over processes then gives the gradient of L itself.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, part: Tensor, world: World) -> Tensor:
        ctx.world = world  # type: ignore[attr-defined]
        parts = [torch.empty_like(part) for _ in range(world.size)]
        dist.all_gather(parts, part)
        return torch.stack(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_parts: Tensor) -> tuple[Tensor, None]:
        d_parts = d_parts.contiguous()
        dist.all_reduce(d_parts)
        return d_parts[ctx.world.rank], None
