"""Which layer of a network the exporter refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from edge_bench.core.errors import first_line

Inputs = dict[nn.Module, tuple[Tensor, ...]]


def refusal(model: nn.Module, example: Tensor, error: Exception, opset: int) -> str:
    """One sentence on why `model` could not be exported: the innermost layer that cannot.

    Args:
        model: in eval mode.
        example: (B, C, H, W).
        error: what the exporter raised for the whole.
    """
    inputs = _inputs(model, example)
    name, layer, reason = "", model, error
    found: tuple[str, nn.Module, Exception] | None = (name, layer, error)
    while found is not None:
        name, layer, reason = found
        found = next(_failing(name, layer, inputs, opset), None)
    where = f"the layer {name} ({type(layer).__name__})" if name else f"{type(layer).__name__}"
    return (
        f"export: {where} cannot be written as ONNX ({_told(reason)}); compute it by torch's own "
        "operators, without numpy, .item() or branches on what tensors hold, or replace it"
    )


def _inputs(model: nn.Module, example: Tensor) -> Inputs:
    """What every layer reads that is called with tensors alone, where it is called first."""
    found: Inputs = {}

    def note(layer: nn.Module, read: tuple[Any, ...]) -> None:
        if layer not in found and read and all(isinstance(each, Tensor) for each in read):
            found[layer] = read

    handles = [layer.register_forward_pre_hook(note) for layer in model.modules()]
    try:
        with torch.no_grad():
            model(example)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _failing(
    prefix: str, layer: nn.Module, inputs: Inputs, opset: int
) -> Iterator[tuple[str, nn.Module, Exception]]:
    """The layers directly inside, or in a list inside, that the exporter refuses by themselves."""
    for name, child in layer.named_children():
        path = f"{prefix}.{name}" if prefix else name
        if child not in inputs:
            yield from _failing(path, child, inputs, opset)
            continue
        try:
            with torch.no_grad():
                torch.onnx.export(
                    child, inputs[child], dynamo=True, verbose=False, opset_version=opset
                )
        except Exception as error:
            yield path, child, error


def first_cause(error: BaseException) -> BaseException:
    """What was wrong at first: the exporter wraps it in pages of its own."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _told(error: BaseException) -> str:
    first = first_cause(error)
    return f"{type(first).__name__}: {first_line(first)}"
