"""Architectures of the user's own: a function in a module, given as `PACKAGE.MODULE:FUNCTION`.

A weights file names its architecture, so that reading one could run whatever module it names. A
module is therefore found without running it, and of a file's card it is imported only where its
source has the digest that the card holds; what a user writes on the command line is theirs to run.
"""

from __future__ import annotations

import torch
from torch import nn

from edge_bench.core.errors import InputError, first_line
from edge_bench.files.code import own_function
from edge_bench.files.code.own_function import Source, Wanted, function_of, names_function


def is_imported(architecture: str) -> bool:
    """Whether a text is `PACKAGE.MODULE:FUNCTION`."""
    return names_function(architecture)


def source_of(architecture: str) -> Source:
    """Where the function of an architecture is written; nothing is run.

    Raises:
        InputError: no such module, or one that is not written in Python.
    """
    return own_function.source_of(_wanted(architecture))


def source_sha256(architecture: str) -> str | None:
    """The digest of the source of an architecture that is imported; None for all others."""
    return source_of(architecture).sha256 if is_imported(architecture) else None


def imported_network(architecture: str, classes: int) -> nn.Module:
    """What the user's function makes of the number of classes.

    Raises:
        InputError: it cannot be imported or called, or makes no `nn.Module`.
    """
    function, name = function_of(_wanted(architecture)), architecture.partition(":")[2]
    try:
        network = function(classes)
    # A function of the user's fails in any way; what it says is handed on.
    except Exception as error:
        raise InputError(
            f"architecture {architecture}: {name}({classes}) failed with "
            f"{type(error).__name__} ({first_line(error)}); it is called with the number of "
            "classes alone"
        ) from None
    if not isinstance(network, nn.Module):
        raise InputError(
            f"architecture {architecture}: {name}({classes}) gave a {type(network).__name__}, "
            "expected a torch.nn.Module from images to logits"
        )
    for module in network.modules():
        for attribute, value in vars(module).items():
            # Made of parameters by a hook (weight_norm, prune), at each call anew; until then torch
            # copies no network that holds it.
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                setattr(module, attribute, value.detach())
    return network


def check_source(origin: str, architecture: str, sha256: object) -> None:
    """Refuse to import, for a file that names it, a module that is not the one it was made with.

    Args:
        origin: the file.
        sha256: what its card says of the source.

    Raises:
        InputError: the module is not there, or its source is another.
    """
    renew = f"adopt the weights anew: ardx adopt {origin} --arch {architecture} --dataset ..."
    try:
        source = source_of(architecture)
    except InputError as error:
        raise InputError(f"{origin}: {error}") from None
    if not isinstance(sha256, str):
        raise InputError(
            f"{origin}: names {architecture}, but not the source that it was made with, so that "
            f"nothing is imported; if you trust it, {renew}"
        )
    if sha256 != source.sha256:
        raise InputError(
            f"{origin}: was made with another source of {architecture} than {source.files[-1]} is "
            f"now (sha256 {sha256[:12]}..., found {source.sha256[:12]}...), and is not imported; "
            f"bring that source back, or {renew}"
        )


def _wanted(architecture: str) -> Wanted:
    return Wanted(
        what="architecture",
        name=architecture,
        does="from the number of classes to a network",
    )
