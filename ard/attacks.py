"""Adversarial attacks on torch models with inputs in [0, 1], by name.

An attack never grades itself: callers re-evaluate what it returns. To add one: a function and an
entry in ATTACKS. What training ascends is in `inner`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Literal

import torch
from torch import Tensor, nn

from ard.inner import cross_entropy, gradient_and_logits, project
from edge_bench.errors import InputError
from edge_bench.spec import AttackSpec

AutoAttackName = Literal["apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square"]


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Largest other logit minus the label's, (B,): positive exactly where misclassified.

    The L-infinity form of Carlini and Wagner 2017, f_6 without its floor.
    """
    true = logits.gather(1, labels.unsqueeze(1)).squeeze(1)
    others = logits.scatter(1, labels.unsqueeze(1), -torch.inf)
    return others.amax(dim=1) - true


def fgsm(
    model: nn.Module, images: Tensor, labels: Tensor, spec: AttackSpec, generator: torch.Generator
) -> Tensor:
    """Goodfellow et al. 2015: one signed step of length epsilon from the clean image."""
    gradient, _ = gradient_and_logits(model, images, lambda z: cross_entropy(z, labels))
    return project(images + spec.epsilon * gradient.sign(), images, spec.epsilon)


def pgd(
    model: nn.Module, images: Tensor, labels: Tensor, spec: AttackSpec, generator: torch.Generator
) -> Tensor:
    """Madry et al. 2018: projected signed steps on cross-entropy from uniform random starts."""
    return _strongest_iterate(model, images, labels, spec, generator, cross_entropy)


def cw(
    model: nn.Module, images: Tensor, labels: Tensor, spec: AttackSpec, generator: torch.Generator
) -> Tensor:
    """Carlini and Wagner's margin loss ascended by projected signed steps (CW-inf)."""
    return _strongest_iterate(model, images, labels, spec, generator, margin)


def autoattack(
    model: nn.Module, images: Tensor, labels: Tensor, spec: AttackSpec, generator: torch.Generator
) -> Tensor:
    """Croce and Hein 2020: the standard ensemble, through pyautoattack.

    APGD-CE, APGD-T, FAB-T and Square with 5,000 queries, each on what the earlier ones left; with
    fewer than 10 classes the targeted attacks try every other class instead of nine.

    Raises:
        InputError: fewer than the 4 classes that the targeted DLR loss needs.
    """
    parts: list[AutoAttackName] = ["apgd-ce", "apgd-t", "fab-t", "square"]
    return _from_autoattack(model, images, labels, spec, generator, parts)


def apgd_ce(
    model: nn.Module, images: Tensor, labels: Tensor, spec: AttackSpec, generator: torch.Generator
) -> Tensor:
    """Auto-PGD on cross-entropy, 100 steps, as it is in the standard ensemble."""
    return _from_autoattack(model, images, labels, spec, generator, ["apgd-ce"])


def apgd_t(
    model: nn.Module, images: Tensor, labels: Tensor, spec: AttackSpec, generator: torch.Generator
) -> Tensor:
    """Targeted Auto-PGD on the DLR loss, 9 targets of 100 steps, as in the standard ensemble."""
    return _from_autoattack(model, images, labels, spec, generator, ["apgd-t"])


def square(
    model: nn.Module, images: Tensor, labels: Tensor, spec: AttackSpec, generator: torch.Generator
) -> Tensor:
    """Andriushchenko et al. 2020: random search with scores alone; `steps` are the queries."""
    return _from_autoattack(model, images, labels, spec, generator, ["square"])


def _from_autoattack(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    spec: AttackSpec,
    generator: torch.Generator,
    parts: list[AutoAttackName],
) -> Tensor:
    """Run attacks of pyautoattack with the settings of its version `standard`."""
    from pyautoattack import AutoAttack

    with torch.no_grad():
        classes = model(images[:1]).shape[1]
    targeted = {"apgd-t", "fab-t"} & set(parts)
    if targeted and classes < 4:
        raise InputError(
            f"attack {spec.name}: needs 4 classes or more, the model has {classes}; use pgdN and "
            "cwN"
        )
    seed = int(torch.randint(2**31, (1,), generator=generator))
    runner = AutoAttack(
        model,
        norm="Linf",
        eps=spec.epsilon,
        version="custom",
        attacks=parts,
        seed=seed,
        device=images.device,
    )
    runner.apgd.n_restarts = runner.apgd_targeted.n_restarts = runner.fab.n_restarts = 1
    targets = min(9, classes - 1)
    runner.apgd_targeted.n_target_classes = runner.fab.n_target_classes = targets
    runner.square.n_queries = spec.steps or SQUARE_QUERIES
    # The package takes views of gradients, which channels_last does not allow.
    adversarial, _ = runner.run_standard_evaluation(
        images.contiguous(), labels, batch_size=len(images)
    )
    return project(adversarial.detach(), images, spec.epsilon)


def _strongest_iterate(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    spec: AttackSpec,
    generator: torch.Generator,
    loss: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Projected ascent that returns, per sample, the iterate with the largest margin.

    The last iterate is the usual choice, but an earlier one may fool the model where the last
    does not, and a set that is replayed on another model should be as far over the boundary as
    it can.
    """
    assert spec.steps is not None
    assert spec.step_size is not None
    best = images.clone()
    best_margin = torch.full(labels.shape, -torch.inf, device=images.device)
    for _ in range(spec.restarts):
        noise = torch.rand(images.shape, generator=generator).to(images.device) * 2 - 1
        adversarial = project(images + spec.epsilon * noise, images, spec.epsilon)
        for _ in range(spec.steps):
            gradient, logits = gradient_and_logits(model, adversarial, lambda z: loss(z, labels))
            best, best_margin = _keep_larger(best, best_margin, adversarial, logits, labels)
            adversarial = project(
                adversarial + spec.step_size * gradient.sign(), images, spec.epsilon
            )
        with torch.no_grad():
            logits = model(adversarial).float()
        best, best_margin = _keep_larger(best, best_margin, adversarial, logits, labels)
    return best


def _keep_larger(
    best: Tensor, best_margin: Tensor, candidate: Tensor, logits: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    candidate_margin = margin(logits, labels)
    larger = candidate_margin > best_margin
    mask = larger.view(-1, *[1] * (candidate.dim() - 1))
    return torch.where(mask, candidate, best), torch.where(larger, candidate_margin, best_margin)


Attack = Callable[[nn.Module, Tensor, Tensor, AttackSpec, torch.Generator], Tensor]
"""(model, images in [0, 1], labels, spec, CPU generator) to adversarial images."""

ATTACKS: dict[str, Attack] = {
    "fgsm": fgsm,
    "pgd": pgd,
    "cw": cw,
    "apgd_ce": apgd_ce,
    "apgd_t": apgd_t,
    "square": square,
    "autoattack": autoattack,
}
MOST_DIGITS = 5
SQUARE_QUERIES = 5000
DEFAULT_STEPS = {"pgd": 20, "cw": 30, "square": SQUARE_QUERIES}


def parse_attack(
    text: str, *, epsilon: float, step_size: float | None = None, restarts: int = 1, seed: int = 0
) -> AttackSpec:
    """Read `fgsm`, `pgd20`, `cw30`, `square5000`, `apgd_ce` and so on into a specification.

    The step size defaults to epsilon / 4, the field's 2/255 at 8/255.

    Raises:
        InputError: no such attack, or a number of steps where there are none to choose.
    """
    match = re.fullmatch(r"([a-z_]+)(\d*)", text)
    if match is None or match[1] not in ATTACKS or (match[2] and match[1] not in DEFAULT_STEPS):
        raise InputError(
            f"attack {text}: expected fgsm, pgdN, cwN (N steps, such as pgd20), apgd_ce, apgd_t, "
            "squareN (N queries) or autoattack"
        )
    name, steps = match[1], match[2]
    if len(steps) > MOST_DIGITS:
        raise InputError(f"attack {text}: expected fewer than {10**MOST_DIGITS} steps")
    if name not in DEFAULT_STEPS:
        return AttackSpec(name=name, epsilon=epsilon, step_size=None, steps=None, seed=seed)
    if name == "square":
        queries = int(steps) if steps else SQUARE_QUERIES
        return AttackSpec(name=name, epsilon=epsilon, step_size=None, steps=queries, seed=seed)
    return AttackSpec(
        name=name,
        epsilon=epsilon,
        step_size=step_size or float(Fraction(epsilon) / 4),
        steps=int(steps) if steps else DEFAULT_STEPS[name],
        restarts=restarts,
        seed=seed,
    )


def attack_label(spec: AttackSpec) -> str:
    """The inverse of `parse_attack`: name and steps."""
    return spec.name if spec.steps is None else f"{spec.name}{spec.steps}"


def run_attack(
    model: nn.Module, images: Tensor, labels: Tensor, spec: AttackSpec, batch_index: int
) -> Tensor:
    """Attack one batch (model in eval mode); the draws depend on the seed and batch alone."""
    generator = torch.Generator().manual_seed(spec.seed * 1_000_003 + batch_index)
    return ATTACKS[spec.name](model, images, labels, spec, generator)
