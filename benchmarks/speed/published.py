"""A step of training as published code writes it: fp32, channels first, one network for both.

RSLAD (Zi et al. 2021) and AdaAD (Huang et al. 2023). Nothing is left out that slows it: the student
that is attacked is the one that learns, in eval mode meanwhile. Augmentation is, since theirs runs
in other processes, and ours is in our step.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

START = 1e-3
"""Deviation of the noise from which the attack starts."""
ALPHA = 5 / 6
"""Weight of the adversarial term of RSLAD."""


@dataclass(frozen=True, kw_only=True)
class Loop:
    """What a step needs."""

    student: nn.Module
    teacher: nn.Module
    optimizer: torch.optim.Optimizer
    images: Tensor
    epsilon: float
    step_size: float
    steps: int


def loop(
    student: nn.Module,
    teacher: nn.Module,
    images: Tensor,
    *,
    epsilon: float,
    step_size: float,
    steps: int,
) -> Loop:
    """Of SGD with momentum; weights and images in torch's default layout."""
    student.to(memory_format=torch.contiguous_format).train()
    teacher.to(memory_format=torch.contiguous_format).eval()
    optimizer = torch.optim.SGD(student.parameters(), lr=1e-3, momentum=0.9, weight_decay=2e-4)
    return Loop(
        student=student,
        teacher=teacher,
        optimizer=optimizer,
        images=images.contiguous(),
        epsilon=epsilon,
        step_size=step_size,
        steps=steps,
    )


def rslad(of: Loop) -> None:
    """Attack by KL from the teacher's clean answer, then descend on it for both kinds of images."""
    with torch.no_grad():
        taught = F.softmax(of.teacher(of.images), dim=1)
    attacked = _attacked(of, lambda images: _kl(of.student(images), taught))
    of.student.train()
    of.optimizer.zero_grad()
    adversarial, clean = of.student(attacked), of.student(of.images)
    loss = ALPHA * _kl(adversarial, taught) + (1 - ALPHA) * _kl(clean, taught)
    loss.backward()  # type: ignore[no-untyped-call]
    of.optimizer.step()


def adaad(of: Loop) -> None:
    """Attack where student and teacher differ most, through both; then descend there."""

    def apart(images: Tensor) -> Tensor:
        return _kl(of.student(images), F.softmax(of.teacher(images), dim=1))

    attacked = _attacked(of, apart)
    of.student.train()
    of.optimizer.zero_grad()
    with torch.no_grad():
        taught = F.softmax(of.teacher(attacked), dim=1)
    _kl(of.student(attacked), taught).backward()  # type: ignore[no-untyped-call]
    of.optimizer.step()


STEPS: dict[str, Callable[[Loop], None]] = {"rslad": rslad, "adaad": adaad}


def seconds(of: Loop, name: str) -> float:
    """Of one step of the method `name`."""
    begin = time.perf_counter()
    STEPS[name](of)
    return time.perf_counter() - begin


def _attacked(of: Loop, objective: Callable[[Tensor], Tensor]) -> Tensor:
    of.student.eval()
    found = of.images + START * torch.randn_like(of.images)
    for _ in range(of.steps):
        found.requires_grad_()
        (gradient,) = torch.autograd.grad(objective(found), [found])
        found = found.detach() + of.step_size * gradient.sign()
        found = torch.min(torch.max(found, of.images - of.epsilon), of.images + of.epsilon)
        found = found.clamp(0, 1)
    return found


def _kl(logits: Tensor, taught: Tensor) -> Tensor:
    return F.kl_div(F.log_softmax(logits, dim=1), taught, reduction="batchmean")
