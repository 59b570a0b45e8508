"""A frozen twin of a network with batch normalisation folded into the convolutions before it.

In eval mode a batch normalisation is an affine map with constant coefficients, so the inner
maximisation, which needs gradients to the input alone, can skip it: the same function, less work.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

Compiler = Callable[[nn.Module], Any]
"""Gives what is called instead of a module, and computes the same."""


def as_it_is(module: nn.Module) -> Any:
    """The compiler that compiles nothing."""
    return module


def for_attack(model: nn.Module) -> nn.Module:
    """The cheapest form of a frozen model in eval mode for attacks that ask for many gradients.

    Its logits are the model's up to rounding errors, so what it finds is judged by the model.
    """
    twin = FoldedTwin(model).module
    return twin.to(memory_format=torch.channels_last)


def for_attack_in_bf16(model: nn.Module) -> nn.Module:
    """`for_attack` whose convolutions are computed in bf16, which some processors do twice as fast.

    Its logits (fp32) are the model's up to bf16's 8 significant bits.
    """
    return _InBf16(for_attack(model)).eval()


class _InBf16(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (B, C) in fp32 of images (B, C, H, W)."""
        with torch.autocast(images.device.type, dtype=torch.bfloat16):
            logits: torch.Tensor = self.network(images)
        return logits.float()


class FoldedTwin:
    """Computes what `model` computes in eval mode, from weights of its own without gradients.

    Pairs are found by tracing; a network that cannot be traced, or has none, is copied as it is.
    """

    def __init__(self, model: nn.Module, *, compiled: Compiler = as_it_is) -> None:
        self._model = model
        self._pairs = _conv_then_norm(model)
        self.module = copy.deepcopy(model).eval().requires_grad_(False)
        for conv_name, norm_name in self._pairs.items():
            conv = self.module.get_submodule(conv_name)
            assert isinstance(conv, nn.Conv2d)
            if conv.bias is None:
                conv.bias = nn.Parameter(conv.weight.new_zeros(conv.out_channels), False)
            parent, _, name = norm_name.rpartition(".")
            setattr(self.module.get_submodule(parent), name, nn.Identity())
        self._forward: Any = compiled(self.module)
        self.refresh()

    def refresh(self) -> nn.Module:
        """Take over the model's present weights and return the twin."""
        theirs: dict[str, torch.Tensor] = dict(self._model.named_parameters())
        theirs |= dict(self._model.named_buffers())
        with torch.no_grad():
            for conv_name, norm_name in self._pairs.items():
                conv, norm = (self._model.get_submodule(n) for n in (conv_name, norm_name))
                assert isinstance(conv, nn.Conv2d)
                assert isinstance(norm, nn.BatchNorm2d)
                assert norm.running_mean is not None
                assert norm.running_var is not None
                weight, bias = fuse_conv_bn_weights(
                    conv.weight,
                    conv.bias,
                    norm.running_mean,
                    norm.running_var,
                    norm.eps,
                    norm.weight,
                    norm.bias,
                )
                theirs |= {f"{conv_name}.weight": weight, f"{conv_name}.bias": bias}
            own: dict[str, torch.Tensor] = dict(self.module.named_parameters())
            own |= dict(self.module.named_buffers())
            for name, tensor in own.items():
                tensor.copy_(theirs[name])
        forward: nn.Module = self._forward
        return forward


def _conv_then_norm(model: nn.Module) -> dict[str, str]:
    """Name of each convolution whose output goes to one batch normalisation alone, and its name."""
    try:
        graph = _Tracer().trace(model)
    except Exception:
        # Tracing runs the model's own code on proxies, which fails in as many ways as there are
        # models (control flow on values, shapes as numbers); then nothing is folded.
        return {}
    modules = dict(model.named_modules())
    calls = [str(node.target) for node in graph.nodes if node.op == "call_module"]
    pairs: dict[str, str] = {}
    for node in graph.nodes:
        if node.op != "call_module" or not _is_foldable(modules[str(node.target)]):
            continue
        (before,) = node.all_input_nodes
        if (
            before.op == "call_module"
            and isinstance(modules[str(before.target)], nn.Conv2d)
            and len(before.users) == 1
            and calls.count(str(before.target)) == calls.count(str(node.target)) == 1
        ):
            pairs[str(before.target)] = str(node.target)
    return pairs


class _Tracer(fx.Tracer):
    """Takes every convolution for a layer, also one that is computed in a way of our own."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Is it one node of the graph, or are its own operations traced?"""
        return isinstance(m, nn.Conv2d) or super().is_leaf_module(m, module_qualified_name)


def _is_foldable(module: nn.Module) -> bool:
    return isinstance(module, nn.BatchNorm2d) and module.track_running_stats
