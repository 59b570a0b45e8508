"""One update of the student, whatever the method: attack the batch, compute, descend."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ard.learning.config import TrainConfig
from ard.learning.run_state import Run
from ard.methods import registry
from ard.methods.parts.base import NOTHING, Logits, LossOptions, Terms, total
from ard.methods.parts.inner import Attacked, ascend
from ard.methods.registry import INNER, METHODS, climbed, logits_needed
from ard.processes.world import World
from edge_bench.core.errors import InputError
from edge_bench.devices.generic import read_text


class DivergedError(InputError):
    """Training with these settings led nowhere.

    Args:
        found: what became of it, to which the remedies are added.
    """

    def __init__(self, config: TrainConfig, found: str) -> None:
        super().__init__(
            f"{found}; lower --learning-rate (now {config.learning_rate:g}), set --clip-norm, or "
            "use --precision fp32"
        )


@dataclass(frozen=True, kw_only=True)
class Teachers:
    """Who teaches: frozen networks in eval mode; the clean one only where a method has two."""

    robust: nn.Module | None = None
    clean: nn.Module | None = None


def update(
    config: TrainConfig,
    run: Run,
    teachers: Teachers,
    images: Tensor,
    labels: Tensor,
    generator: torch.Generator,
    progress: float,
) -> Terms:
    """Attack the batch, update the weights once, update the average.

    Args:
        images: (B, C, H, W) in [0, 1]; of several processes, each has the whole batch, attacks its
            part of it, and computes the loss on the logits of all.
        generator: a CPU generator, for the attack's start.
        progress: share of the training that is done, from 0 to 1.

    Returns:
        the weighted terms of the loss.

    Raises:
        DivergedError: the loss is no longer finite.
    """
    method, needs = METHODS[config.method], logits_needed(config.method, config.loss)
    options = config.loss.at(progress)
    images, own_labels = run.world.part(images), run.world.part(labels)
    if config.cuda_graphs:
        # From here on recorded passes may write over what those of the last update returned.
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
    with _autocast(config, images):
        teacher_clean = NOTHING
        if registry.TEACHER_CLEAN in needs or _reads_teacher_clean(config):
            teacher_clean = _without_gradient(teachers.robust, images)
        adversarial = _attack(
            config, options, run, teachers, images, own_labels, teacher_clean, generator
        )
        logits = _logits(needs, run, teachers, images, adversarial, teacher_clean)
    terms = method.terms(_of_the_whole_batch(run.world, logits), labels, options)
    if method.balance is not None:
        weights, run.memory = method.balance(run.memory, terms)
        terms = {name: weights[name] * term for name, term in terms.items()}
    loss = total(terms)
    if not math.isfinite(float(loss.detach())):
        raise DivergedError(config, f"the training loss became {float(loss.detach())}")
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    if config.clip_norm:
        torch.nn.utils.clip_grad_norm_(run.student.parameters(), config.clip_norm)
    run.optimizer.step()
    run.average.update_parameters(run.student)
    return terms


def _attack(
    config: TrainConfig,
    options: LossOptions,
    run: Run,
    teachers: Teachers,
    images: Tensor,
    labels: Tensor,
    teacher_clean: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Adversarial images (B, C, H, W) for the student as it is now."""
    if config.objective is None:
        return images
    # Batch statistics stay frozen in the attack: it is not training data.
    model = run.twin.refresh()
    model, objective = climbed(
        config.objective,
        Attacked(
            student=model,
            images=images,
            labels=labels,
            teacher=teachers.robust,
            teacher_clean=teacher_clean,
            ranking=options.ranking,
        ),
    )
    # Drawn for the whole batch, so that the number of processes does not change a sample's start.
    shape = (run.world.size * len(images), *images.shape[1:])
    return ascend(
        model,
        images,
        objective,
        noise=run.world.part(torch.randn(shape, generator=generator)),
        epsilon=config.epsilon,
        step_size=config.step_size,
        steps=config.inner_steps,
    )


def _reads_teacher_clean(config: TrainConfig) -> bool:
    """Whether the attack needs the teacher's logits of the clean images."""
    return config.objective is not None and INNER[config.objective].needs_teacher_clean


def _logits(
    needs: frozenset[str],
    run: Run,
    teachers: Teachers,
    images: Tensor,
    adversarial: Tensor,
    teacher_clean: Tensor,
) -> Logits:
    """What the loss needs, and no more: every forward pass costs."""
    robust, clean = teachers.robust, teachers.clean
    wanted: dict[str, Callable[[], Tensor]] = {
        registry.STUDENT_CLEAN: lambda: run.forward(images).float(),
        registry.STUDENT_ADVERSARIAL: lambda: run.forward(adversarial).float(),
        registry.STUDENT_MIRRORED: lambda: run.forward(2 * images - adversarial).float(),
        registry.TEACHER_CLEAN: lambda: teacher_clean,
        registry.TEACHER_ADVERSARIAL: lambda: _without_gradient(robust, adversarial),
        registry.TEACHER_MIRRORED: lambda: _without_gradient(robust, 2 * images - adversarial),
        registry.SECOND_TEACHER_CLEAN: lambda: _without_gradient(clean, images),
    }
    return Logits(**{name: compute() for name, compute in wanted.items() if name in needs})


def _of_the_whole_batch(world: World, logits: Logits) -> Logits:
    """The logits of every process's part; rankings and correlations compare samples."""
    if world.size == 1:
        return logits
    present = {name: part for name, part in vars(logits).items() if part.numel()}
    whole = world.whole(torch.cat(list(present.values()), dim=1))
    widths = [part.shape[1] for part in present.values()]
    return Logits(**dict(zip(present, torch.split(whole, widths, dim=1), strict=True)))


def _without_gradient(model: nn.Module | None, images: Tensor) -> Tensor:
    """Logits (B, C) in fp32."""
    assert model is not None
    with torch.no_grad():
        logits: Tensor = model(images).float()
        return logits


def fast_precision(torch_device: str) -> str:
    """`bf16` where the device multiplies it in hardware, else `fp32`."""
    if torch_device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    # AVX512-BF16 and AMX, or BF16 on Arm; elsewhere bf16 is emulated, and slower than fp32.
    words = set((read_text(Path("/proc/cpuinfo")) or "").split())
    return "bf16" if words & {"avx512_bf16", "amx_bf16", "bf16"} else "fp32"


def _autocast(config: TrainConfig, images: Tensor) -> AbstractContextManager[object]:
    if config.precision == "bf16":
        return torch.autocast(images.device.type, dtype=torch.bfloat16)
    return nullcontext()
