"""The steps of the GPU hour. Each writes a JSON line a finding, as soon as there is one."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ard.attacks.registry import parse_attack
from ard.data.splits import Dataset, as_float, take_limit
from ard.evaluation.accuracy import evaluate_attack
from ard.learning.config import TrainConfig
from ard.learning.learn import learn
from ard.learning.recipes import build_config
from ard.learning.step import Teachers, fast_precision
from ard.learning.teacher import load_teacher
from ard.learning.train import timed_steps
from ard.methods.parts.base import Logits, LossOptions, total
from ard.methods.registry import METHODS
from ard.models.weight_files import load_model
from benchmarks.gpu.pack import read
from benchmarks.lines import Line, append
from benchmarks.methods.passes import Setting, network, noise

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SMALL = Setting("resnet8", "resnet8", side=32, classes=10, inner_steps=2, batch=16)
TIMED = (
    Setting("resnet18", "resnet18", side=32, classes=10, inner_steps=10),
    Setting("mobilenet_v2", "resnet18", side=32, classes=10, inner_steps=10),
)
CONTENDERS: dict[str, dict[str, Any]] = {
    "ard": {"method": "ard", "inner": "adaad", "loss": {"anchor": "adaad"}},
    "adaad": {"method": "adaad"},
    "igdm": {"method": "igdm", "loss": {"alpha": 8.0}},
    "rslad": {"method": "rslad"},
    "pgd_at": {"method": "pgd_at"},
}
"""Ranking distillation and its rivals, in turns: what is cut off is cut off for all."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a step is given."""

    data: Path | None
    teacher: Path | None
    lines: Path
    work: Path
    dry_run: bool
    minutes: float

    def options(self, minutes: float) -> list[str]:
        """The same as options of `run`, with so many minutes."""
        given = {"--data": self.data, "--teacher": self.teacher, "--lines": self.lines}
        words = [word for name, value in given.items() if value for word in (name, str(value))]
        words += ["--work", str(self.work), "--minutes", f"{minutes:.2f}"]
        return [*words, *(["--dry-run"] if self.dry_run else [])]

    def tell(self, step: str, **found: Any) -> None:
        """Write a finding."""
        line: Line = {"step": step, "device": device_name(), **found}
        append(self.lines, line)

    def dataset(self) -> Dataset:
        """The packed one, or noise."""
        return little() if self.data is None else read(self.data)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step; with less than `least_minutes` left it is not begun."""

    run: Callable[[Context], None]
    least_minutes: float


def device_name() -> str:
    """The card, or the processor's share of the work."""
    return torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu"


def little() -> Dataset:
    """Noise, and so little of it that every step is done in seconds."""
    split = noise(SMALL).train.part(0, 200)
    return Dataset(name="noise", train=split, test=split, classes=SMALL.classes, flips=True)


# --- correctness -------------------------------------------------------------------------------


def correctness(context: Context) -> None:
    """The tests marked `cuda`; then losses and attacks of the device against the CPU."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "cuda", "tests/ard/test_cuda.py"]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    last = ended.stdout.strip().splitlines()[-1:] or [ended.stderr.strip()[-300:]]
    context.tell("correctness", what="tests", exit=ended.returncode, said=last[0])
    for name, difference in loss_differences():
        context.tell("correctness", what="loss", method=name, relative_difference=difference)
    dataset = context.dataset()
    images = take_limit(dataset.test, 16 if context.dry_run else 1000)
    model = network("resnet8", dataset).eval()
    if context.teacher is not None:
        model = load_model(context.teacher)[0]
    for name in ("fgsm", "pgd20", "cw30"):
        spec = parse_attack(name, epsilon=8 / 255)
        masks = [
            evaluate_attack(model.to(device), images, spec, torch_device=device)
            for device in ("cpu", DEVICE)
        ]
        same = float((masks[0] == masks[1]).mean())
        accuracies = [float(mask.mean()) for mask in masks]
        context.tell(
            "correctness", what="attack", attack=name, same_masks=same, accuracies=accuracies
        )


def loss_differences() -> Iterator[tuple[str, float]]:
    """Each method's loss on the device in float32 against the CPU in float64, relative."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(7, 64, 10, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 10, (64,), generator=generator)
    for name, method in METHODS.items():
        if method.balances:
            continue  # What it weighs depends on earlier steps.
        exact = total(method.terms(Logits(*drawn), labels, LossOptions()))
        on_device = drawn.to(DEVICE, torch.float32)
        found = total(method.terms(Logits(*on_device), labels.to(DEVICE), LossOptions()))
        yield name, abs(float(found) - float(exact)) / max(abs(float(exact)), 1e-12)


# --- time --------------------------------------------------------------------------------------


def step_time(context: Context) -> None:
    """Images a second of a training step, beside the loop as published code writes it."""
    for setting in (SMALL,) if context.dry_run else TIMED:
        dataset = little() if context.dry_run else noise(setting)
        teacher = network(setting.teacher, dataset).eval().requires_grad_(False)
        times: dict[str, list[float]] = {}
        for turn in range(1 if context.dry_run else 3):
            for name, config in variants(setting).items():
                count = 1 if context.dry_run else 10
                if config is None:
                    measured = published_loop(setting, dataset, teacher, count)
                else:
                    teachers = Teachers(robust=teacher)
                    measured = timed_steps(config, dataset, teachers, count, DEVICE)
                times.setdefault(name, []).extend(measured)
                rate = setting.batch / statistics.median(times[name])
                context.tell(
                    "step_time",
                    setting=str(setting),
                    variant=name,
                    turn=turn,
                    images_per_second=rate,
                )


def variants(setting: Setting) -> dict[str, TrainConfig | None]:
    """What takes turns: our step in each way that the device has, and None for the plain loop."""
    found: dict[str, TrainConfig | None] = {"published loop, fp32": None}
    for method in ("rslad", "ard"):
        for precision in dict.fromkeys(("fp32", fast_precision(DEVICE))):
            for is_compiled in (False, *([True] if DEVICE == "cuda" else [])):
                name = f"{method}, {precision}{', compiled' if is_compiled else ''}"
                config = setting.config(method)
                found[name] = replace(config, precision=precision, compile=is_compiled)
    return found


def published_loop(
    setting: Setting, dataset: Dataset, teacher: nn.Module, count: int
) -> list[float]:
    """RSLAD's step (Zi et al. 2021) as a plain loop: float32, NCHW, nothing folded or shared."""
    student = network(setting.student, dataset).to(DEVICE).train()
    teacher = teacher.to(DEVICE)
    optimizer = torch.optim.SGD(student.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4)
    images = as_float(dataset.train.part(0, setting.batch).images).to(DEVICE)
    times = []
    for _ in range(count + 1):
        synchronise()
        begin = time.perf_counter()
        with torch.no_grad():
            target = teacher(images).softmax(dim=1)
        student.eval()
        attacked = images + 0.001 * torch.randn_like(images)
        for _ in range(setting.inner_steps):
            attacked = attacked.detach().requires_grad_()
            loss = F.kl_div(student(attacked).log_softmax(dim=1), target, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, attacked)
            moved = attacked.detach() + 2 / 255 * gradient.sign()
            attacked = (images + (moved - images).clamp(-8 / 255, 8 / 255)).clamp(0, 1)
        student.train()
        losses = [
            weight * F.kl_div(student(each).log_softmax(dim=1), target, reduction="batchmean")
            for weight, each in ((5 / 6, attacked.detach()), (1 / 6, images))
        ]
        optimizer.zero_grad()
        _backward(losses[0] + losses[1])
        optimizer.step()
        synchronise()
        times.append(time.perf_counter() - begin)
    return times[1:]


def _backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]


def synchronise() -> None:
    """Wait for what a GPU still computes."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def crafting(context: Context) -> None:
    """Images a second of PGD-20 and of AutoAttack's first part."""
    dataset = little() if context.dry_run else noise(TIMED[0])
    images = take_limit(dataset.test, 16 if context.dry_run else 2000)
    model = network("resnet8" if context.dry_run else "resnet18", dataset).eval().to(DEVICE)
    for name in ("pgd20", "apgd_ce"):
        spec = parse_attack(name, epsilon=8 / 255)
        synchronise()
        begin = time.perf_counter()
        evaluate_attack(model, images, spec, torch_device=DEVICE)
        seconds = time.perf_counter() - begin
        context.tell("crafting", attack=name, images_per_second=len(images) / seconds)


def runtime(context: Context) -> None:
    """ONNX Runtime on CUDA, where its wheel is here: the same masks as on the CPU."""
    import onnxruntime

    providers = onnxruntime.get_available_providers()
    context.tell("runtime", what="providers", version=onnxruntime.__version__, providers=providers)


# --- training ----------------------------------------------------------------------------------


def training(context: Context) -> None:
    """Ranking distillation against its rivals: an epoch each in turns, then more, until time is up.

    A run of more epochs begins anew, since its schedule is another; so every line is a whole run.
    """
    dataset, end = context.dataset(), time.monotonic() + 60 * context.minutes
    part = take_limit(dataset.test, 16 if context.dry_run else 2000)
    teacher = None
    if context.teacher is not None:
        teacher = load_teacher(context.teacher, None, dataset)
    epochs, longest = 1, 0.0
    while time.monotonic() + 2 * longest * len(CONTENDERS) < end:
        for name, chosen in CONTENDERS.items():
            config = contender(context, chosen, epochs)
            if METHODS[config.method].distils and teacher is None:
                context.tell("training", label=name, skipped="no teacher was given")
                continue
            begin = time.monotonic()
            out = context.work / f"{name}-{epochs}" / "student.safetensors"
            kept = teacher if METHODS[config.method].distils else None
            learned = learn(config, dataset, kept, out, force=True, torch_device=DEVICE)
            longest = max(longest, time.monotonic() - begin)
            model = load_model(learned.weights)[0].to(DEVICE)
            correct, found = None, {}
            for attack in (None, "pgd20", "cw30"):
                spec = None if attack is None else parse_attack(attack, epsilon=config.epsilon)
                correct = evaluate_attack(model, part, spec, correct=correct, torch_device=DEVICE)
                found[attack or "clean"] = float(correct.mean())
            context.tell(
                "training",
                label=name,
                epochs=epochs,
                seconds=round(time.monotonic() - begin, 1),
                images=len(part),
                accuracy=found,
            )
        if context.dry_run:
            return
        epochs *= 2


def contender(context: Context, chosen: dict[str, Any], epochs: int) -> TrainConfig:
    """The settings of a run; all that is not the method's own is the same for all."""
    common = {
        "dataset": "noise" if context.data is None else "cifar10",
        "architecture": "resnet8" if context.dry_run else "resnet18",
        "epsilon": 8 / 255,
        "step_size": 2 / 255,
        "inner_steps": 1 if context.dry_run else 10,
        "epochs": epochs,
        "learning_rate": 0.1,
        "precision": fast_precision(DEVICE),
    }
    return build_config(common | chosen)


STEPS: dict[str, Step] = {
    "correctness": Step(run=correctness, least_minutes=1.0),
    "step_time": Step(run=step_time, least_minutes=2.0),
    "crafting": Step(run=crafting, least_minutes=1.0),
    "runtime": Step(run=runtime, least_minutes=0.3),
    "training": Step(run=training, least_minutes=3.0),
}
