"""What can be attacked: weights in torch, or a deployed artefact in its own runtime."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from ard.models.deployed import Deployed
from ard.models.folding import for_attack
from ard.models.weight_files import load_model
from deploy.quantization.twin import open_as_target
from edge_bench import devices
from edge_bench.backends import open_backend
from edge_bench.backends.base import Backend
from edge_bench.core.classes import require_same
from edge_bench.core.errors import InputError
from edge_bench.core.spec import ModelCard
from edge_bench.files.external_data import model_files
from edge_bench.files.kinds import Kind, kind_of
from edge_bench.files.store import identity, sha256_file


@dataclass(frozen=True, kw_only=True)
class Victim:
    """A model that was opened to be attacked.

    Attributes:
        module: images (B, C, H, W) in [0, 1] to logits, differentiable where `has_gradients`.
        threat: what an attack by gradients on it is called: `white-box` or `bpda`.
        surrogate_sha256: the parent, whose gradients an artefact borrows.
        runtime: name and version of what computes the logits, and its output where that was named.
    """

    path: Path
    sha256: str
    card: ModelCard
    module: nn.Module
    threat: str
    has_gradients: bool = True
    surrogate_sha256: str | None = None
    runtime: str = "torch"

    def cheapest(self) -> nn.Module:
        """The form of the same function that attacks by gradients climb on."""
        return self.module if isinstance(self.module, Deployed) else for_attack(self.module)


def is_artifact(path: Path) -> bool:
    """Is this a deployed artefact rather than weights?"""
    return kind_of(path) is Kind.ONNX


@contextmanager
def open_victim(
    path: Path,
    *,
    parent: Path | None = None,
    backend: str = "ort",
    threads: int | None = None,
    output: str | None = None,
    torch_device: str = "cpu",
    root: Path = devices.ROOT,
) -> Iterator[Victim]:
    """Open weights, or an artefact with the weights it was exported from (`parent`).

    ONNX Runtime computes what the artefact does on its target, whatever machine `root` is of.

    Raises:
        InputError: not a model, or `parent` is not what the artefact says it was made from.
    """
    if not is_artifact(path):
        if parent is not None:
            raise InputError(
                f"--parent {parent}: {path.name} is no artefact but weights, which have gradients "
                "of their own; leave --parent out"
            )
        if output is not None:
            raise InputError(
                f"--output {output}: {path.name} is no artefact but weights, whose output is their "
                "logits; leave --output out"
            )
        yield weights_victim(path, torch_device)
        return
    opening: AbstractContextManager[Backend]
    if backend == "ort" and output is None:
        opening = open_as_target(path, threads, root=root)
    else:
        opening = open_backend(backend, path, threads, output=output)
    with opening as opened:
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
            runtime=f"{opened.info.name} {opened.info.version}"
            + (f", output {output}" if output else ""),
        )


def weights_victim(path: Path, torch_device: str = "cpu") -> Victim:
    """Weights in torch, which hold nothing open.

    Example:
        victim = weights_victim(Path("student/student.safetensors"))
    """
    module, card = load_model(path)
    return Victim(
        path=path,
        sha256=sha256_file(path),
        card=card,
        module=module.to(torch_device),
        threat="white-box",
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


def threat_named(name: str | None, victim: Victim, source: Path | None) -> str:
    """The value of --threat as manifests write it; by default the victim's own.

    Raises:
        InputError: unknown, or one that the victim has no means for.
    """
    threat = {"blackbox": "black-box", "whitebox": "white-box"}.get(name or "", name)
    if threat is None and not victim.has_gradients:
        raise InputError(
            f"{victim.path}: an artefact has no gradients; give the weights that it was exported "
            "from as --parent, or --threat blackbox, or --threat transfer --from WEIGHTS"
        )
    threat = threat or victim.threat
    if threat not in ("white-box", "bpda", "black-box", "transfer", "differential"):
        raise InputError(
            f"--threat {name}: expected white-box, bpda, blackbox, transfer or differential"
        )
    if threat == "differential" and victim.surrogate_sha256 is None:
        raise InputError(
            "--threat differential: compares an artefact with the weights that it was exported "
            f"from, came {victim.path} alone; give an artefact (.onnx) and its --parent"
        )
    if threat in ("white-box", "bpda") and threat != victim.threat:
        needs = "weights" if threat == "white-box" else "an artefact and its --parent"
        raise InputError(f"--threat {threat}: needs {needs}, came {victim.path}")
    if (threat == "transfer") != (source is not None):
        raise InputError(
            f"--threat {threat}: {'needs' if source is None else 'has no use for'} --from, the "
            "weights that a transferred set is crafted on"
        )
    return threat


def attacked_for(victim: Victim, threat: str, source: Path | None, torch_device: str) -> Victim:
    """The model that a set for `victim` is crafted on: itself, or with `transfer` the source.

    Raises:
        InputError: a source of other images or classes.
    """
    if threat != "transfer" or source is None:
        return victim
    if is_artifact(source):
        raise InputError(
            f"--from {source}: expected weights, which have gradients, came an artefact; give the "
            "weights that it was exported from"
        )
    found = weights_victim(source, torch_device)
    ours, theirs = victim.card, found.card
    if (ours.classes, ours.input_shape) != (theirs.classes, theirs.input_shape):
        raise InputError(
            f"--from {source}: reads images {theirs.input_shape} of {theirs.classes} classes, but "
            f"{victim.path} has {ours.input_shape} of {ours.classes}; give a model of the same task"
        )
    require_same(ours.class_names, theirs.class_names, f"--from {source}", str(victim.path))
    return found
