"""A frozen twin of a network with batch normalisation folded into the convolutions before it.

In eval mode a batch normalisation is an affine map with constant coefficients, so the inner
maximisation, which needs gradients to the input alone, can skip it: the same function, less work.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from deploy.qat.strided import StridedConv2d

TRIED_ON = 2
"""Images of the batch that a twin is tried on."""
ROUNDING = 1e-2
"""What rounding changes of the largest logit at most: GPUs multiply with 10 bits of each value."""

Compiler = Callable[[nn.Module], Any]
"""Gives what is called instead of a module, and computes the same."""


def as_it_is(module: nn.Module) -> Any:
    """The compiler that compiles nothing."""
    return module


def for_attack(model: nn.Module) -> nn.Module:
    """The cheapest form of a frozen model in eval mode for attacks that ask for many gradients.

    Its logits are the model's up to rounding errors, so what it finds is judged by the model.
    """
    return _Cheapest(FoldedTwin(model)).eval()


def for_attack_in_bf16(model: nn.Module) -> nn.Module:
    """`for_attack` whose convolutions are computed in bf16, which some processors do twice as fast.

    Its logits (fp32) are the model's up to bf16's 8 significant bits.
    """
    return _InBf16(for_attack(model)).eval()


def in_fastest_format(model: nn.Module, images: Tensor) -> torch.memory_format:
    """Lay out a network's weights as it is fastest, channels last, where it runs so; gives how.

    A network of the user's may count on the other layout (`x.view(...)`), and fails with this one.

    Args:
        images: (B, C, H, W), which the network is tried on; where it trains, copies of it.
    """
    model.to(memory_format=torch.channels_last)
    images = images.detach().contiguous(memory_format=torch.channels_last)
    # Layers hand on another layout in training than in eval mode.
    tried = [_copy(model), _frozen_copy(model)] if _trains(model) else [model]
    try:
        with _aside(images):
            for each in tried:
                each(images)
    except RuntimeError:
        model.to(memory_format=torch.contiguous_format)
        return torch.contiguous_format
    return torch.channels_last


def laid_out(images: Tensor, memory_format: torch.memory_format) -> Tensor:
    """Images (B, C, H, W) in a layout, those of one channel too, which lie in both ways at once."""
    images = images.contiguous(memory_format=memory_format)
    if memory_format is torch.channels_last:
        return images
    return images.as_strided(images.shape, torch.empty(images.shape, device="meta").stride())


class _Cheapest(nn.Module):
    """A twin that is checked, and its layout chosen, on the first images that it is given."""

    def __init__(self, twin: FoldedTwin) -> None:
        super().__init__()
        self.network = twin.module
        self._unchecked: FoldedTwin | None = twin
        self._contiguous = False

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) of images (B, C, H, W)."""
        if self._unchecked is not None:
            some = laid_out(images.detach()[:TRIED_ON], torch.contiguous_format)
            self._unchecked.check(some)
            self.network, self._unchecked = self._unchecked.module, None
            self._contiguous = in_fastest_format(self.network, some) is torch.contiguous_format
        if self._contiguous:
            images = laid_out(images, torch.contiguous_format)
        logits: Tensor = self.network(images)
        return logits


class _InBf16(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) in fp32 of images (B, C, H, W)."""
        with torch.autocast(images.device.type, dtype=torch.bfloat16):
            logits: Tensor = self.network(images)
        return logits.float()


class FoldedTwin:
    """Computes what `model` computes in eval mode, from weights of its own without gradients.

    Pairs are found by tracing; a network that cannot be traced, or has none, is copied as it is.
    """

    def __init__(self, model: nn.Module, *, compiled: Compiler = as_it_is) -> None:
        self._model, self._compiled = model, compiled
        self.module = _frozen_copy(model)
        self._pairs = _conv_then_norm(self.module)
        for conv_name, norm_name in self._pairs.items():
            conv = self.module.get_submodule(conv_name)
            assert isinstance(conv, nn.Conv2d)
            if conv.bias is None:
                conv.bias = nn.Parameter(conv.weight.new_zeros(conv.out_channels), False)
            parent, _, name = norm_name.rpartition(".")
            setattr(self.module.get_submodule(parent), name, nn.Identity())
        self._forward: Any = compiled(self.module)
        self.refresh()

    def check(self, images: Tensor) -> None:
        """Fold nothing where that changes the logits of images (B, C, H, W) by more than rounding.

        A network can use its layers in ways that tracing does not see.
        """
        if not self._pairs:
            return
        plain = _frozen_copy(self._model) if _trains(self._model) else self._model
        with _aside(images):
            expected: Tensor = plain(images)
        try:
            with _aside(images):
                change = (self.module(images) - expected).abs().max()
            same = bool(change <= ROUNDING * expected.abs().max())
        except Exception:
            # A forward pass of anyone's, which may miss what folding took away in any way.
            same = False
        if not same:
            self._pairs, self.module = {}, _frozen_copy(self._model)
            self._forward = self._compiled(self.module)

    def refresh(self) -> nn.Module:
        """Take over the model's present weights and return the twin."""
        # By all their names: the twin may know what two layers share by another than the model.
        theirs: dict[str, Tensor] = dict(self._model.named_parameters(remove_duplicate=False))
        theirs |= dict(self._model.named_buffers(remove_duplicate=False))
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
            own: dict[str, Tensor] = dict(self.module.named_parameters())
            own |= dict(self.module.named_buffers())
            for name, tensor in own.items():
                tensor.copy_(theirs[name])
        forward: nn.Module = self._forward
        return forward


def _frozen_copy(model: nn.Module) -> nn.Module:
    return _copy(model).eval().requires_grad_(False)


def _copy(model: nn.Module) -> nn.Module:
    # What hooks make of parameters at each call (weight_norm, prune) torch does not copy.
    made = (v for module in model.modules() for v in vars(module).values() if isinstance(v, Tensor))
    return copy.deepcopy(model, {id(v): v.detach().clone() for v in made if not v.is_leaf})


def _trains(model: nn.Module) -> bool:
    """Would a forward pass change the model?"""
    return any(module.training for module in model.modules())


@contextmanager
def _aside(images: Tensor) -> Iterator[None]:
    """Passes that leave no trace: the same random numbers each time, full precision, no graph."""
    devices = [images.device] if images.device.type == "cuda" else []
    full_precision = torch.autocast(images.device.type, enabled=False)
    with torch.random.fork_rng(devices=devices), torch.no_grad(), full_precision:
        yield


def _conv_then_norm(model: nn.Module) -> dict[str, str]:
    """Name of each convolution whose output goes to one batch normalisation alone, and its name.

    Both are torch's own layers as they are: one that is computed in another way (a subclass, a
    hook, a weight made of others) or whose weights another layer reads as well is left alone.
    """
    try:
        graph = _Tracer().trace(model)
    except Exception:
        # Tracing runs the model's own code on proxies, which fails in as many ways as there are
        # models (control flow on values, shapes as numbers); then nothing is folded.
        return {}
    modules = dict(model.named_modules(remove_duplicate=False))
    names = Counter(modules.values())
    owners = Counter(p for module in set(names) for p in module._parameters.values())
    calls = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
    # A forward pass that reads a layer's weights itself.
    calls.update(str(n.target).rpartition(".")[0] for n in graph.nodes if n.op == "get_attr")

    def is_foldable(node: fx.Node, kinds: tuple[type[nn.Module], ...]) -> bool:
        if node.op != "call_module" or calls[str(node.target)] != 1:
            return False
        layer = modules[str(node.target)]
        own = [parameter for parameter in layer._parameters.values() if parameter is not None]
        return (
            type(layer) in kinds
            and {"weight", "bias"} == set(layer._parameters)
            and names[layer] == 1
            and all(owners[parameter] == 1 for parameter in own)
            and not _is_hooked(layer)
        )

    pairs: dict[str, str] = {}
    for node in graph.nodes:
        if not is_foldable(node, (nn.BatchNorm2d,)) or len(node.all_input_nodes) != 1:
            continue
        norm, (before,) = modules[str(node.target)], node.all_input_nodes
        if (
            norm.running_mean is not None
            and norm.running_var is not None
            and len(before.users) == 1
            and is_foldable(before, (nn.Conv2d, StridedConv2d))
        ):
            pairs[str(before.target)] = str(node.target)
    return pairs


def _is_hooked(layer: nn.Module) -> bool:
    """Does calling the layer do more than its class says?"""
    hooks = (
        *(layer._forward_hooks, layer._forward_pre_hooks),
        *(layer._backward_hooks, layer._backward_pre_hooks),
    )
    return any(hooks) or "forward" in vars(layer)


class _Tracer(fx.Tracer):
    """Takes every convolution for a layer, also one that is computed in a way of our own."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Is it one node of the graph, or are its own operations traced?"""
        return isinstance(m, nn.Conv2d) or super().is_leaf_module(m, module_qualified_name)
