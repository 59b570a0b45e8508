"""The steps of the GPU hour. Each writes a JSON line a finding, as soon as there is one."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ard.attacks.registry import parse_attack
from ard.data.splits import Dataset, as_float, take_limit
from ard.evaluation.accuracy import evaluate_attack
from ard.exporting.export import export
from ard.learning.config import TrainConfig
from ard.learning.step import Teachers, fast_precision
from ard.learning.train import timed_steps
from ard.methods.parts.base import Logits, LossOptions, total
from ard.methods.registry import METHODS
from ard.models.weight_files import load_model, save_model
from benchmarks.gpu.contest import training
from benchmarks.gpu.context import DEVICE, SMALL, Context, little
from benchmarks.methods.passes import Setting, network, noise
from edge_bench.backends import open_backend
from edge_bench.core.spec import ModelCard
from edge_bench.robustness.inference import stored_logits

TIMED = (
    Setting("resnet18", "resnet18", side=32, classes=10, inner_steps=10),
    Setting("mobilenet_v2", "resnet18", side=32, classes=10, inner_steps=10),
)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step; with less than `least_minutes` left it is not begun."""

    run: Callable[[Context], None]
    least_minutes: float


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
            config = replace(setting.config(method), precision=precision)
            found[f"{method}, {precision}"] = config
            if DEVICE == "cuda" and precision == fast_precision(DEVICE):
                config = replace(config, compile=True)
                found[f"{method}, {precision}, compiled"] = config
                found[f"{method}, {precision}, CUDA graphs"] = replace(config, cuda_graphs=True)
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
    """ONNX Runtime on CUDA, where its wheel is here: the masks of the CPU, and its own pace.

    Without that wheel the CPU is held against itself, so that the step is known to work.
    """
    providers = onnxruntime.get_available_providers()
    name = "ort-cuda" if "CUDAExecutionProvider" in providers else "ort"
    version = onnxruntime.__version__
    context.tell("runtime", what="providers", version=version, providers=providers)
    dataset = context.dataset()
    weights = context.teacher or _new_weights(dataset, context.work / "runtime")
    for precision in ("fp32", "fp16"):
        model = context.work / "runtime" / f"{precision}.onnx"
        export(weights, dataset, model, fp16=precision == "fp16", least_agreement=0.0, force=True)
        images = take_limit(dataset.test, 16 if context.dry_run else 2000).images.numpy()
        classes: dict[str, NDArray[np.int64]] = {}
        for backend in dict.fromkeys(("ort", name)):
            with open_backend(backend, model, None) as opened:
                stored_logits(opened, images[:1], dataset.classes)
                begin = time.perf_counter()
                logits = stored_logits(opened, images, dataset.classes)
                rate = len(images) / (time.perf_counter() - begin)
            classes[backend] = logits.argmax(axis=1)
            context.tell(
                "runtime",
                backend=backend,
                precision=precision,
                images_per_second=rate,
                same_classes=float((classes[backend] == classes["ort"]).mean()),
            )


def _new_weights(dataset: Dataset, folder: Path) -> Path:
    """Weights of a network that learnt nothing, for who has no teacher."""
    out = folder / "new.safetensors"
    card = ModelCard(
        architecture="resnet8",
        dataset=dataset.name,
        classes=dataset.classes,
        input_shape=dataset.image_shape,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    save_model(out, network("resnet8", dataset), card, force=True)
    return out


def processes(context: Context) -> None:
    """A training below torchrun with one process: NCCL where there is a GPU, gloo elsewhere."""
    out = context.work / "processes"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    training = ["teach", "--dataset", "digits", "--arch", "resnet8", "--epochs", "1", "--force"]
    training += ["--inner-steps", "1", "--method", "pgd_at", "--torch-device", DEVICE]
    command = [*launcher, "1", "-m", "ard", *training, "--out", str(out)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    said = (ended.stdout or ended.stderr).strip()[-300:]
    context.tell("processes", backend="nccl" if DEVICE == "cuda" else "gloo", said=said)
    if ended.returncode:
        sys.exit(f"torchrun ended with {ended.returncode}: {ended.stderr.strip()[-300:]}")


STEPS: dict[str, Step] = {
    "correctness": Step(run=correctness, least_minutes=1.0),
    "step_time": Step(run=step_time, least_minutes=2.0),
    "crafting": Step(run=crafting, least_minutes=1.0),
    "runtime": Step(run=runtime, least_minutes=0.3),
    "processes": Step(run=processes, least_minutes=0.5),
    "training": Step(run=training, least_minutes=3.0),
}
