"""The forward pass of training in several processes: one batch, one gradient."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from ard.processes.world import World
from edge_bench.core.errors import CapabilityError


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation by statistics of the whole batch, where each process has a part of it.

    torch's SyncBatchNorm does this on CUDA alone, and is no BatchNorm2d to code that looks for
    one. In eval mode this is a BatchNorm2d.
    """

    def __init__(self, norm: nn.BatchNorm2d, world: World) -> None:
        super().__init__(
            norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
        )
        self.world = world
        # Dynamo would look into the collectives; a break of the graph here is all that is needed.
        # Said here, since it imports Dynamo: as a decorator, two seconds of every command's start.
        self._gather = torch.compiler.disable(world.gather)  # type: ignore[no-untyped-call]
        # The same tensors, not copies: names and identities in the model stay as they were.
        self._parameters, self._buffers = norm._parameters, norm._buffers
        self.training = norm.training

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        if not self.training:
            return super().forward(inputs)
        values = inputs.float()
        variances, means = torch.var_mean(values, dim=(0, 2, 3), correction=0)
        # Parts are equal in size, so the variance of all is the mean within plus that between.
        variances, means = self._gather(torch.stack((variances, means))).unbind(dim=1)
        mean = means.mean(dim=0)
        variance = variances.mean(dim=0) + (means - mean).square().mean(dim=0)
        self._track(mean.detach(), variance.detach(), values.numel() * self.world.size)
        scale = (variance + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight
        shift = -mean * scale
        if self.bias is not None:
            shift = shift + self.bias
        per_channel = (-1, 1, 1)
        return torch.addcmul(shift.view(per_channel), values, scale.view(per_channel)).to(
            inputs.dtype
        )

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, values: int) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        count = values // self.num_features
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * (count / max(count - 1, 1)), share)


class GlobalBatchNormAct2d(GlobalBatchNorm2d):
    """The same for timm's BatchNormAct2d, which drops and activates what it normalised."""

    def __init__(self, norm: nn.BatchNorm2d, world: World) -> None:
        super().__init__(norm, world)
        self.drop, self.act = norm.get_submodule("drop"), norm.get_submodule("act")

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        activated: Tensor = self.act(self.drop(super().forward(inputs)))
        return activated


GLOBAL = {"BatchNorm2d": GlobalBatchNorm2d, "BatchNormAct2d": GlobalBatchNormAct2d}
"""By the name of a class, as timm need not be here; a subclass may compute anything."""


def normalise_globally(model: nn.Module, world: World) -> None:
    """Put a GlobalBatchNorm2d in the place of every BatchNorm2d, with its weights.

    Raises:
        CapabilityError: another normalisation by the batch, whose statistics would be of a part.
    """
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            kind = type(child).__name__
            is_global = isinstance(child, GlobalBatchNorm2d)
            if is_global or not isinstance(child, nn.modules.batchnorm._BatchNorm):
                continue
            if kind not in GLOBAL or not isinstance(child, nn.BatchNorm2d):
                raise CapabilityError(
                    f"{name}: normalises by the batch as {kind} does, which several processes "
                    "cannot share here; start one process, without torchrun"
                )
            setattr(parent, name, GLOBAL[kind](child, world))


def in_parallel(model: nn.Module, world: World) -> nn.Module:
    """The forward pass of training: DDP averages the gradients over the processes.

    Several forward passes before one backward are sound under DDP as long as nothing writes to
    the model in between, so it must not broadcast the buffers; they agree without.
    """
    if world.size == 1:
        return model
    normalise_globally(model, world)
    ddp = nn.parallel.DistributedDataParallel
    # torch 2.15 gave the option another name and warns of the old one.
    names = inspect.signature(ddp).parameters
    option = "forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers"
    options: dict[str, Any] = {option: False}
    return ddp(model, **options)
