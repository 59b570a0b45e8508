"""The same attacks by other libraries, called as their documentation says.

They are no dependencies of ardx: `pip install torchattacks foolbox` to run the comparison.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ard.attacks.autoattack import NORMS
from ard.evaluation.accuracy import BATCH_SIZE
from ard.models.predict import predict
from edge_bench.core.errors import CapabilityError
from edge_bench.core.spec import AttackSpec
from edge_bench.statistics.metrics import BoolArray

Rival = Callable[[nn.Module, Tensor, Tensor, AttackSpec], Tensor]
"""(model, images, labels, spec) to adversarial images; draws come from torch's own generator."""

# Our names of the parts and theirs.
REFERENCE_NAMES = {
    "apgd_ce": "apgd-ce",
    "apgd_t": "apgd-t",
    "fab_t": "fab-t",
    "square": "square",
}


def library(name: str) -> Any:
    """Import a rival.

    Raises:
        CapabilityError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise CapabilityError(
            f"{name} cannot be imported ({error}); pip install torchattacks foolbox"
        ) from error


def reference(model: nn.Module, images: Tensor, labels: Tensor, spec: AttackSpec) -> BoolArray:
    """(N,) booleans that pyautoattack itself comes to: still right under `spec`?

    The standard ensemble, or one attack of it with the options it has there.
    """
    package = library("pyautoattack")
    ensemble = package.AutoAttack(
        model, norm=NORMS[spec.norm], eps=spec.epsilon, version="standard", seed=spec.seed
    )
    if spec.name != "autoattack":
        ensemble.attacks_to_run = [REFERENCE_NAMES[spec.name]]
        if spec.steps is not None:
            ensemble.square.n_queries = spec.steps
    found, _ = ensemble.run_standard_evaluation(images, labels, batch_size=BATCH_SIZE)
    return still_right(model, found, labels)


def still_right(model: nn.Module, images: Tensor, labels: Tensor) -> BoolArray:
    """(N,) booleans from a forward pass of their own."""
    parts = [predict(model, x) == y for x, y in batches(images, labels)]
    return torch.cat(parts).cpu().numpy()


def batches(images: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Of the size that evaluations attack at once."""
    parts = torch.split(images, BATCH_SIZE), torch.split(labels, BATCH_SIZE)
    return zip(*parts, strict=True)


def with_torchattacks(model: nn.Module, images: Tensor, labels: Tensor, spec: AttackSpec) -> Tensor:
    """torchattacks; restarts by its MultiAttack, which leaves out what is fooled already."""
    package = library("torchattacks")

    def once() -> Any:
        chosen: dict[str, Any] = {"eps": spec.epsilon}
        if spec.name != "fgsm":
            chosen |= {"alpha": spec.step_size, "steps": spec.steps}
        names = {"fgsm": "FGSM", "mi_fgsm": "MIFGSM", "pgd": "PGD"}
        name = "PGDL2" if (spec.name, spec.norm) == ("pgd", "l2") else names[spec.name]
        return getattr(package, name)(model, **chosen)

    attack = once()
    if spec.restarts > 1:
        attack = package.MultiAttack([once() for _ in range(spec.restarts)])
    found: Tensor = attack(images, labels)
    return found


def with_foolbox(model: nn.Module, images: Tensor, labels: Tensor, spec: AttackSpec) -> Tensor:
    """foolbox; restarts by its `repeat`."""
    attacks = library("foolbox").attacks
    chosen: dict[str, Any] = {}
    if spec.name != "fgsm":
        chosen = {"abs_stepsize": spec.step_size, "steps": spec.steps}
    kinds = {
        ("fgsm", "linf"): attacks.LinfFastGradientAttack,
        ("mi_fgsm", "linf"): attacks.LinfMomentumIterativeFastGradientMethod,
        ("pgd", "linf"): attacks.LinfProjectedGradientDescentAttack,
        ("pgd", "l2"): attacks.L2ProjectedGradientDescentAttack,
    }
    # PGD starts at random and the momentum method at the clean image, as by default.
    attack = kinds[spec.name, spec.norm](**chosen)
    if spec.restarts > 1:
        attack = attack.repeat(spec.restarts)
    device = str(images.device)
    wrapped = library("foolbox").PyTorchModel(model, bounds=(0, 1), device=device)
    _, clipped, _ = attack(wrapped, images, labels, epsilons=spec.epsilon)
    found: Tensor = clipped
    return found


RIVALS: dict[str, Rival] = {"torchattacks": with_torchattacks, "foolbox": with_foolbox}
