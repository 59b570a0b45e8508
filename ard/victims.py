"""What can be attacked: weights in torch, or a deployed artefact in its own runtime."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from ard.checkpoint import load_model
from ard.deployed import Deployed
from edge_bench.backends import open_backend
from edge_bench.errors import InputError
from edge_bench.spec import ModelCard
from edge_bench.store import identity, model_files, sha256_file


@dataclass(frozen=True, kw_only=True)
class Victim:
    """A model that was opened to be attacked.

    Attributes:
        module: images (B, C, H, W) in [0, 1] to logits, differentiable where `has_gradients`.
        threat: what an attack by gradients on it is called: `white-box` or `bpda`.
        surrogate_sha256: the parent, whose gradients an artefact borrows.
        runtime: name and version of what computes the logits.
    """

    path: Path
    sha256: str
    card: ModelCard
    module: nn.Module
    threat: str
    has_gradients: bool = True
    surrogate_sha256: str | None = None
    runtime: str = "torch"


def is_artifact(path: Path) -> bool:
    """Is this a deployed artefact rather than weights?"""
    return path.suffix == ".onnx"


@contextmanager
def open_victim(
    path: Path,
    *,
    parent: Path | None = None,
    backend: str = "ort",
    threads: int | None = None,
    torch_device: str = "cpu",
) -> Iterator[Victim]:
    """Open weights, or an artefact with the weights it was exported from (`parent`).

    Raises:
        InputError: not a model, or `parent` is not what the artefact says it was made from.
    """
    if not is_artifact(path):
        if parent is not None:
            raise InputError(
                f"--parent {parent}: {path.name} is no artefact but weights, which have gradients "
                "of their own; leave --parent out"
            )
        module, card = load_model(path)
        yield Victim(
            path=path,
            sha256=sha256_file(path),
            card=card,
            module=module.to(torch_device),
            threat="white-box",
        )
        return
    with open_backend(backend, path, threads) as opened:
        if opened.card is None:
            raise InputError(
                f"{path}: expected an artefact with a model card, which tells its dataset and its "
                "parent, and found none; export it with ardx export"
            )
        network = None if parent is None else _parent(path, opened.card, parent).to(torch_device)
        yield Victim(
            path=path,
            sha256=identity(model_files(path))[0],
            card=opened.card,
            module=Deployed(opened, network, opened.card.classes),
            threat="black-box" if parent is None else "bpda",
            has_gradients=parent is not None,
            surrogate_sha256=None if parent is None else sha256_file(parent),
            runtime=f"{opened.info.name} {opened.info.version}",
        )


def _parent(path: Path, card: ModelCard, parent: Path) -> nn.Module:
    """The weights that the artefact was exported from, and no others."""
    found = sha256_file(parent) if parent.is_file() else ""
    module, _ = load_model(parent)
    if found != card.parent_sha256:
        raise InputError(
            f"--parent {parent}: expected the weights that {path} was exported from (sha256 "
            f"{(card.parent_sha256 or 'unknown')[:12]}), came {found[:12]}; give those, or use "
            "--threat transfer --from for another model's gradients"
        )
    return module
