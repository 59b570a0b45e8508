"""The standard AutoAttack (Croce and Hein 2020) and its parts, through pyautoattack.

They are taken from an ensemble that the package itself sets up as `standard`, so that no option of
theirs can be weaker than the reference; what is changed is said below.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ard.attacks.attempt import Attempt
from ard.attacks.registry import expand
from ard.attacks.steps.norms import project
from edge_bench.core.errors import InputError
from edge_bench.core.spec import AttackSpec

ATTRIBUTES: dict[str, str] = {
    "apgd_ce": "apgd",
    "apgd_t": "apgd_targeted",
    "fab_t": "fab",
    "square": "square",
}
"""Our names of the parts, and their attributes in the package."""

TARGETED = ("apgd_t", "fab_t")
NORMS = {"linf": "Linf", "l2": "L2"}


def autoattack(attempt: Attempt) -> Tensor:
    """Croce and Hein 2020: the parts of the standard ensemble, each on what the earlier ones left.

    Evaluation runs the parts one by one over the whole set instead (see `expand`), as the
    reference implementation does.
    """
    require_classes(attempt.spec.name, attempt.model, attempt.images)
    found = attempt.images.clone()
    for part in expand(attempt.spec):
        with torch.no_grad():
            left = (attempt.model(found).argmax(dim=1) == attempt.labels).nonzero().squeeze(1)
        if len(left) == 0:
            break
        rest = replace(attempt, spec=part, images=attempt.images[left], labels=attempt.labels[left])
        found[left] = run_part(rest)
    return found


def run_part(attempt: Attempt) -> Tensor:
    """Run the part of the ensemble that `attempt.spec` names, on a batch.

    Samples that are misclassified already are returned as they are.

    Raises:
        InputError: fewer than the 4 classes that the targeted DLR loss needs.
    """
    spec = attempt.spec
    part = configured(attempt.model, attempt.images, spec)
    cuda = [attempt.images.device] if attempt.images.is_cuda else []
    # The package seeds torch's own generators, which is nobody else's business. It is run without
    # gradients, as it runs itself: it asks for those that it needs, and would otherwise hang the
    # best images so far on a graph that grows with every step.
    with torch.random.fork_rng(devices=cuda), torch.no_grad():
        # It also takes views of gradients, which channels_last does not allow.
        found = part.perturb(attempt.images.contiguous(), attempt.labels)
    return project(found.detach(), attempt.images, spec.epsilon, spec.norm)


def require_classes(name: str, model: nn.Module, images: Tensor) -> int:
    """The number of the model's classes, which the attack `name` can work with.

    Raises:
        InputError: fewer than the 4 classes that the targeted DLR loss needs.
    """
    with torch.no_grad():
        classes = int(model(images[:1]).shape[1])
    if classes < 4 and name in (*TARGETED, "autoattack"):
        raise InputError(
            f"attack {name}: needs 4 classes or more, the model has {classes}; use pgdN and cwN"
        )
    return classes


def configured(model: nn.Module, images: Tensor, spec: AttackSpec) -> Any:
    """The package's own attack object, set as in version `standard`.

    Two options may differ: the targeted attacks try every other class where there are fewer than
    the standard's nine, and Square asks `spec.steps` queries where they were chosen.
    """
    from pyautoattack import AutoAttack

    # It warns of zero gradients and points to a file that users do not have; `doubts` says it
    # with a remedy.
    logging.getLogger("auto-attack").setLevel(logging.ERROR)
    ensemble = AutoAttack(
        model,
        norm=NORMS[spec.norm],  # type: ignore[arg-type, unused-ignore]
        eps=spec.epsilon,
        version="standard",
        seed=spec.seed,
        device=images.device,
    )
    ensemble.apgd.loss = "ce"
    ensemble.fab.targeted = True
    part = getattr(ensemble, ATTRIBUTES[spec.name])
    # The reference gives every batch the same seed.
    part.seed = spec.seed
    if spec.name in TARGETED:
        classes = require_classes(spec.name, model, images)
        part.n_target_classes = min(part.n_target_classes, classes - 1)
    if spec.name == "square" and spec.steps is not None:
        part.n_queries = spec.steps
    return part
