"""Ranking distillation against its rivals on one card, several processes sharing it."""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import torch

from ard.attacks.registry import parse_attack
from ard.data.splits import take_limit
from ard.evaluation.accuracy import evaluate_attack
from ard.learning.config import TrainConfig
from ard.learning.learn import learn
from ard.learning.recipes import build_config
from ard.learning.step import fast_precision
from ard.learning.teacher import load_teacher
from ard.methods.registry import METHODS
from ard.models.weight_files import load_model
from benchmarks.gpu.context import DEVICE, Context

STUDENTS = ("resnet8", "resnet18")
SHARING = 3 if DEVICE == "cuda" else 1
"""Processes on one card: a small network alone leaves most of it idle."""
CONTENDERS: dict[str, dict[str, Any]] = {
    "ard": {"method": "ard", "inner": "adaad", "loss": {"anchor": "adaad"}},
    "adaad": {"method": "adaad"},
    "igdm": {"method": "igdm", "loss": {"alpha": 8.0}},
    "rslad": {"method": "rslad"},
    "pgd_at": {"method": "pgd_at"},
}
"""Ranking distillation and its rivals, in turns: what is cut off is cut off for all."""


def training(context: Context) -> None:
    """Each contender with each student: an epoch, then twice as many, until time is up.

    A run of more epochs begins anew, since its schedule is another; so every line is a whole run.
    """
    end, epochs, longest = time.monotonic() + 60 * context.minutes, 1, 0.0
    students = STUDENTS[:1] if context.dry_run else STUDENTS
    # Not forked: CUDA does not survive it.
    with ProcessPoolExecutor(SHARING, mp_context=get_context("spawn")) as pool:
        while time.monotonic() + 2 * longest < end:
            begin = time.monotonic()
            runs = [
                pool.submit(contest, context, name, student, epochs)
                for student in students
                for name in CONTENDERS
            ]
            for run in runs:
                run.result()
            longest = time.monotonic() - begin
            if context.dry_run:
                return
            epochs *= 2


def contest(context: Context, name: str, student: str, epochs: int) -> None:
    """One contender: train, judge on test images, and tell."""
    torch.set_num_threads(1)
    config = contender(context, CONTENDERS[name], student, epochs)
    dataset, distils = context.dataset(), METHODS[config.method].distils
    if distils and context.teacher is None:
        context.tell("training", label=name, skipped="no teacher was given")
        return
    teacher = load_teacher(context.teacher, None, dataset) if distils and context.teacher else None
    begin = time.monotonic()
    out = context.work / f"{name}-{student}-{epochs}" / "student.safetensors"
    learned = learn(config, dataset, teacher, out, force=True, torch_device=DEVICE)
    trained = time.monotonic() - begin
    model = load_model(learned.weights)[0].to(DEVICE)
    part = take_limit(dataset.test, 16 if context.dry_run else 2000)
    correct, found = None, {}
    for attack in (None, "pgd20", "cw30"):
        spec = None if attack is None else parse_attack(attack, epsilon=config.epsilon)
        correct = evaluate_attack(model, part, spec, correct=correct, torch_device=DEVICE)
        found[attack or "clean"] = float(correct.mean())
    context.tell(
        "training",
        label=name,
        student=student,
        epochs=epochs,
        seconds=round(trained, 1),
        sharing=SHARING,
        images=len(part),
        accuracy=found,
    )


def contender(context: Context, chosen: dict[str, Any], student: str, epochs: int) -> TrainConfig:
    """The settings of a run; all that is not the method's own is the same for all."""
    common = {
        "dataset": "noise" if context.data is None else "cifar10",
        "architecture": student,
        "epsilon": 8 / 255,
        "step_size": 2 / 255,
        "inner_steps": 1 if context.dry_run else 10,
        "epochs": epochs,
        "learning_rate": 0.1,
        "precision": fast_precision(DEVICE),
    }
    return build_config(common | chosen)
