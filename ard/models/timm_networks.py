"""Networks of timm, `timm:NAME`, by their shapes alone: nothing is downloaded here.

timm reads a name with a colon or a slash as one of a hub's, and fetches what it describes; only
names that it has itself are handed to it.
"""

from __future__ import annotations

import difflib
import warnings
from typing import TYPE_CHECKING, Any

from torch import nn

from edge_bench.core.errors import CapabilityError, InputError, first_line

if TYPE_CHECKING:
    from types import ModuleType

PREFIX = "timm:"


def is_timm(architecture: str) -> bool:
    """Whether a text is `timm:NAME`."""
    return architecture.startswith(PREFIX)


def timm_network(
    architecture: str, channels: int, classes: int, image_size: tuple[int, int] | None
) -> nn.Module:
    """A network of timm's with random weights.

    Args:
        image_size: (height, width), for the networks that are built for one; None is timm's own.

    Raises:
        CapabilityError: timm is not installed.
        InputError: it has no such network.
        ValueError, AssertionError, RuntimeError, TypeError: there is none for `image_size`.
    """
    timm, name = _known(architecture)
    sized = {"img_size": image_size} if image_size and has_size(architecture) else {}
    network: nn.Module = timm.create_model(
        name, pretrained=False, num_classes=classes, in_chans=channels, **sized
    )
    return network


def has_size(architecture: str) -> bool:
    """Whether the weights of a network of timm's depend on the image size."""
    return bool(_description(architecture).fixed_input_size)


def normalisation_of(architecture: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Channel means and deviations that timm states for a network's published weights."""
    found = _description(architecture)
    return tuple(found.mean), tuple(found.std)


def _description(architecture: str) -> Any:
    timm, name = _known(architecture)
    return timm.models.get_pretrained_cfg(name)


def _known(architecture: str) -> tuple[ModuleType, str]:
    """timm, and the name of a network that it has itself."""
    name = architecture.removeprefix(PREFIX)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of its own parts that moved, to its own users.
            import timm
    except ImportError as error:
        raise CapabilityError(
            f"architecture {architecture}: needs timm ({first_line(error)}); pip install "
            "'ardx[timm]'"
        ) from None
    bare = name.partition(".")[0]
    if any(sign in name for sign in ":/") or not timm.is_model(bare):
        close = difflib.get_close_matches(bare, timm.list_models(), n=3)
        hint = f"did you mean {' or '.join(close)}" if close else "timm.list_models() names them"
        raise InputError(f"architecture {architecture}: timm has no network {name}; {hint}")
    return timm, name
