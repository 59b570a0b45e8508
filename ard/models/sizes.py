"""Which image sizes a network takes, found by trying it without weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ard.models.architectures import SizeError, build_model, has_sizes
from ard.models.imported import is_imported
from edge_bench.core.errors import InputError, first_line

LARGEST = 512
"""Side in pixels up to which a size is looked for that a network takes."""


class _WithoutWeights(TorchFunctionMode):
    """Weights made inside have shapes and no values, so that a network of any size costs nothing.

    Not `torch.device("meta")`, under which a constructor cannot compute with the tensors it makes,
    as torchvision's RegNet does.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.empty and kwargs.get("device") is None:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def check_fits(
    architecture: str,
    image_shape: tuple[int, int, int],
    option: str = "architecture",
    *,
    trains: bool = True,
) -> None:
    """Refuse images (C, H, W) that a network does not take; `option` named the architecture.

    Raises:
        InputError: with the sizes that it takes.
    """
    reason = why_not(architecture, image_shape, trains=trains)
    if reason is None:
        return
    raise InputError(
        f"{option} {architecture}: does not take images of {_text(image_shape[1:])} pixels "
        f"({reason}); {_sizes_text(architecture, image_shape, trains)}; choose another "
        "architecture, or another --image-size for an image folder"
    )


def why_not(
    architecture: str, image_shape: tuple[int, int, int], *, trains: bool = True
) -> str | None:
    """What stands against a forward pass on images (C, H, W), in training or not; None: nothing.

    Computed on shapes alone, but for functions of the user's; torch's random state is as before.

    Raises:
        InputError: no such architecture, or of other channels.
    """
    # Two of each: the least batch that can be normalised, which is also the least to train on, and
    # the least classes, which change no shape before the last layer.
    batch_size = classes = 2
    try:
        model = shapes_of(architecture, image_shape, classes).train(trains)
        state = iter(model.state_dict().values())
        device = next(state, torch.zeros(0)).device
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            logits = model(torch.zeros(batch_size, *image_shape, device=device))
    except _unfit(architecture) as error:
        if isinstance(error, InputError) and not isinstance(error, SizeError):
            raise  # No such network at all, whatever the images.
        return first_line(error).removeprefix(f"architecture {architecture}: ")
    if not isinstance(logits, Tensor):
        return f"it gives a {type(logits).__name__}, expected a tensor of logits"
    if logits.shape != (batch_size, classes):
        return (
            f"its output is not one logit per class: {tuple(logits.shape)} for {batch_size} images "
            f"and {classes} classes"
        )
    return None


def _unfit(architecture: str) -> tuple[type[Exception], ...]:
    """What a network raises on images that it does not take; one of the user's raises anything."""
    if is_imported(architecture):
        return (Exception,)
    return (RuntimeError, ValueError, AssertionError, SizeError)


def shapes_of(architecture: str, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """The classifier for images (C, H, W) without weights, on the device `meta`.

    What a function of the user's makes is made as it is: it may compute with its weights.

    Raises:
        InputError: as `build_model` does.
    """
    channels, height, width = image_shape
    statistics = torch.zeros(channels), torch.ones(channels)
    if is_imported(architecture):
        with torch.random.fork_rng(devices=[]):
            return build_model(architecture, channels, classes, *statistics, (height, width))
    with torch.random.fork_rng(devices=[]), _WithoutWeights():
        model = build_model(architecture, channels, classes, *statistics, (height, width))
    return model.to("meta")


def smallest_size(
    architecture: str, channels: int, above: int = 0, *, trains: bool = True
) -> int | None:
    """The smallest side in pixels, over `above`, of square images that a network takes.

    None where it takes none up to LARGEST. A network is taken to fail below a size and to work
    from there on, except where its constructor is told the size: those are tried one by one.
    """

    def works(side: int) -> bool:
        return why_not(architecture, (channels, side, side), trains=trains) is None

    if has_sizes(architecture):
        return next((side for side in range(above + 1, LARGEST + 1) if works(side)), None)
    if works(above + 1):
        return above + 1
    fails, high = above + 1, max(2 * above, 32)
    while not works(high):
        fails, high = high, 2 * high
        if high > LARGEST:
            return None
    while high - fails > 1:
        middle = (fails + high) // 2
        fails, high = (fails, middle) if works(middle) else (middle, high)
    return high


def _sizes_text(architecture: str, image_shape: tuple[int, int, int], trains: bool) -> str:
    channels, height, width = image_shape
    smallest = smallest_size(architecture, channels, trains=trains)
    if smallest is None:
        return f"it takes none up to {_text((LARGEST, LARGEST))}"
    text = f"the smallest that it takes is {_text((smallest, smallest))}"
    if smallest <= (shorter := min(height, width)):
        larger = smallest_size(architecture, channels, shorter, trains=trains)
        text += f", and the next above {_text((larger, larger))}" if larger else ""
    return text


def _text(size: tuple[int, ...]) -> str:
    return "x".join(str(side) for side in size)
