"""What can be attacked: weights in torch, or a deployed artefact in its own runtime."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from ard.models.deployed import Deployed
from ard.models.folding import for_attack
from ard.models.graphs import (
    NOTHING_SAID,
    Said,
    foreign_card,
    is_foreign,
    network_of,
    open_logits,
)
from ard.models.parents import parent_of
from ard.models.weight_files import load_model
from deploy.quantization.twin import open_as_target
from deploy.reading.graph import UnreadError
from deploy.reading.network import GraphNetwork
from edge_bench import devices
from edge_bench.backends import open_backend
from edge_bench.backends.base import Backend
from edge_bench.core.classes import require_same
from edge_bench.core.errors import InputError
from edge_bench.core.spec import ModelCard
from edge_bench.files.external_data import model_files
from edge_bench.files.kinds import Kind, kind_of
from edge_bench.files.store import identity, sha256_file

REMAINING = (
    "give the weights that it was exported from as --parent, or a set made on another model "
    "(--threat transfer --from FILE), or ask for scores alone (square, --threat blackbox)"
)
"""What is left to do where there are no gradients."""
GRADIENTS = "give weights of the same task, or an artefact in floats, which have gradients"


@dataclass(frozen=True, kw_only=True)
class Victim:
    """A model that was opened to be attacked.

    Attributes:
        module: images (B, C, H, W) in [0, 1] to logits, differentiable where `has_gradients`.
        threat: what an attack by gradients on it is called: `white-box` or `bpda`.
        why_blind: a sentence, where there are no gradients.
        own_graph: the artefact's own graph read into torch, where its gradients are those.
        surrogate_sha256: whose gradients an artefact borrows: its parent's, or its own where they
            pass through its roundings.
        runtime: name and version of what computes the logits, its output where that was named, and
            a normalisation that is outside of the graph.
        notes: what people should be told about it.
    """

    path: Path
    sha256: str
    card: ModelCard
    module: nn.Module
    threat: str
    why_blind: str | None = None
    own_graph: GraphNetwork | None = None
    surrogate_sha256: str | None = None
    runtime: str = "torch"
    notes: tuple[str, ...] = ()

    @property
    def has_gradients(self) -> bool:
        """Can it be attacked by gradients?"""
        return self.why_blind is None

    def blind(self, why: str) -> Victim:
        """The same artefact without the gradients of its own graph, and the reason."""
        assert isinstance(self.module, Deployed)
        return replace(
            self,
            module=self.module.without_gradients(),
            threat="black-box",
            why_blind=why,
            own_graph=None,
            surrogate_sha256=None,
        )

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
    said: Said = NOTHING_SAID,
    root: Path = devices.ROOT,
) -> Iterator[Victim]:
    """Open weights, or an artefact with the weights it was exported from (`parent`).

    Without a parent an artefact's gradients are read off its own graph, as far as its operators
    are covered. ONNX Runtime computes what the artefact does on its target, whatever machine
    `root` is of.

    Args:
        said: what is known of a file that has no card.

    Raises:
        InputError: not a model, or `parent` is not what the artefact says it was made from.
    """
    if not is_artifact(path):
        _refuse_beside_weights(path, parent, backend, output)
        yield weights_victim(path, torch_device)
        return
    if is_foreign(path):
        with _open_foreign(path, parent, backend, threads, output, said, torch_device) as victim:
            yield victim
        return
    if said.mean is not None:
        raise InputError(
            f"--mean: {path} has a model card, so that its normalisation is inside of its graph; "
            "leave --mean and --std out"
        )
    opening: AbstractContextManager[Backend]
    if backend == "ort" and output is None:
        opening = open_as_target(path, threads, root=root)
    else:
        opening = open_backend(backend, path, threads, output=output)
    with opening as opened:
        card = opened.card
        assert card is not None
        if parent is None:
            yield _by_its_graph(path, opened, card, output, said, torch_device)
            return
        network = _parent(path, card, parent).to(torch_device)
        yield Victim(
            path=path,
            sha256=identity(model_files(path))[0],
            card=card,
            module=Deployed(opened, network, card.classes),
            threat="bpda",
            surrogate_sha256=card.parent_sha256,
            runtime=_runtime(opened, output, said),
        )


def _refuse_beside_weights(
    path: Path, parent: Path | None, backend: str, output: str | None
) -> None:
    if parent is not None:
        raise InputError(
            f"--parent {parent}: {path.name} is no artefact but weights, which have gradients "
            "of their own; leave --parent out"
        )
    if backend != "ort":
        raise InputError(
            f"--backend {backend}: {path.name} is no artefact but weights, which torch computes; "
            "leave --backend out"
        )
    if output is not None:
        raise InputError(
            f"--output {output}: {path.name} is no artefact but weights, whose output is their "
            "logits; leave --output out"
        )


@contextmanager
def _open_foreign(
    path: Path,
    parent: Path | None,
    backend: str,
    threads: int | None,
    output: str | None,
    said: Said,
    torch_device: str,
) -> Iterator[Victim]:
    """An ONNX file that ardx did not write."""
    if parent is not None:
        raise InputError(
            f"--parent {parent}: {path.name} has no model card that names the weights it was "
            "exported from; leave --parent out, so that gradients are read off its graph, or use "
            "--threat transfer --from"
        )
    with open_logits(path, backend, threads, output) as (opened, took_off):
        card = foreign_card(path, opened, said, identity(model_files(path))[0])
        victim = _by_its_graph(path, opened, card, output, said, torch_device)
        note = f"{path.name} ends in a softmax; its logits are taken before it"
        yield replace(victim, notes=(note,) if took_off else ())


def _by_its_graph(
    path: Path,
    opened: Backend,
    card: ModelCard,
    output: str | None,
    said: Said,
    torch_device: str,
) -> Victim:
    """An artefact whose gradients are those of its own graph, or of which there are none."""
    network, why = None, None
    sha256 = identity(model_files(path))[0]
    try:
        shape = replace(said, image_shape=card.input_shape)
        network = network_of(path, output, shape).to(torch_device)
    except UnreadError as error:
        why = str(error)
    rounds = network is not None and network.rounds
    return Victim(
        path=path,
        sha256=sha256,
        card=card,
        module=Deployed(opened, network, card.classes, said.options()),
        threat="black-box" if network is None else "bpda" if rounds else "white-box",
        why_blind=why,
        own_graph=network,
        surrogate_sha256=sha256 if rounds else None,
        runtime=_runtime(opened, output, said),
    )


def _runtime(opened: Backend, output: str | None, said: Said) -> str:
    named = f", output {output}" if output else ""
    return f"{opened.info.name} {opened.info.version}{named}{said.told()}"


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
    opened = parent_of(parent, card)
    found = opened.sha256
    if found != card.parent_sha256:
        raise InputError(
            f"--parent {parent}: expected the weights that {path} was exported from (sha256 "
            f"{(card.parent_sha256 or 'unknown')[:12]}), came {found[:12]}; give those, or use "
            "--threat transfer --from for another model's gradients"
        )
    return opened.module


def threat_named(name: str | None, victim: Victim, source: Path | None) -> str:
    """The value of --threat as manifests write it; by default the victim's own.

    Raises:
        InputError: unknown, or one that the victim has no means for.
    """
    threat = {"blackbox": "black-box", "whitebox": "white-box"}.get(name or "", name)
    if threat is None and victim.why_blind is not None:
        raise InputError(f"{victim.why_blind}; {REMAINING}")
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
        if victim.why_blind is not None:
            raise InputError(f"--threat {threat}: {victim.why_blind}; {REMAINING}")
        needs = (
            "weights, or an ONNX file in floats without --parent"
            if threat == "white-box"
            else "an artefact and its --parent, or an artefact in integers"
        )
        raise InputError(f"--threat {threat}: needs {needs}, came {victim.path}")
    if (threat == "transfer") != (source is not None):
        raise InputError(
            f"--threat {threat}: {'needs' if source is None else 'has no use for'} --from, the "
            "model that a transferred set is crafted on"
        )
    return threat


@contextmanager
def attacked_for(
    victim: Victim,
    threat: str,
    source: Path | None,
    torch_device: str,
    said: Said = NOTHING_SAID,
    threads: int | None = None,
) -> Iterator[Victim]:
    """The model that a set for `victim` is crafted on: itself, or with `transfer` the source.

    Args:
        source: weights or an artefact, whose gradients are then read off its graph.
        said: the normalisation outside of both, where the source has no card either.

    Raises:
        InputError: a source without gradients, or of other images or classes.
    """
    if threat != "transfer" or source is None:
        yield victim
        return
    ours = victim.card
    if is_artifact(source) and is_foreign(source):
        said = replace(said, dataset=ours.dataset, image_shape=ours.input_shape)
    else:
        said = NOTHING_SAID
    with open_victim(source, threads=threads, torch_device=torch_device, said=said) as found:
        if not found.has_gradients:
            raise InputError(f"--from {source}: {found.why_blind}; {GRADIENTS}")
        theirs = found.card
        if (ours.classes, ours.input_shape) != (theirs.classes, theirs.input_shape):
            raise InputError(
                f"--from {source}: reads images {theirs.input_shape} of {theirs.classes} classes, "
                f"but {victim.path} has {ours.input_shape} of {ours.classes}; give a model of the "
                "same task"
            )
        require_same(ours.class_names, theirs.class_names, f"--from {source}", str(victim.path))
        yield found
