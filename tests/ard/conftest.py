"""A teacher and a student that took seconds to train, on real digits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ard.data.datasets import load_dataset
from ard.data.splits import Dataset, as_float
from ard.exporting.export import export
from ard.learning.config import TrainConfig
from ard.learning.learn import Learned, learn
from ard.learning.teacher import load_teacher
from ard.methods.parts.base import LossOptions
from ard.ranking.levels import RankingOptions

EPSILON = 0.15
IN_SECONDS = LossOptions(anchor="rslad", ranking=RankingOptions(k=2.0))
"""ARD at half the time of its step."""


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load_dataset("digits", Path("unused"))


def small_config(**changes: object) -> TrainConfig:
    """A few seconds of adversarial training on digits."""
    settings: dict[str, object] = {
        "dataset": "digits",
        "architecture": "resnet8:8",
        "method": "pgd_at",
        "epsilon": EPSILON,
        "step_size": EPSILON / 2,
        "inner_steps": 2,
        "epochs": 3,
        "batch_size": 64,
        "learning_rate": 0.2,
        "ema_decay": 0.9,
    }
    return TrainConfig(**(settings | changes))  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def dense(digits: Dataset) -> nn.Module:
    """Two dense layers, trained against FGSM: each of an attack's many steps takes next to nothing.

    About half of what it gets right it loses to an attack of EPSILON.
    """
    images, labels = as_float(digits.train.images), digits.train.labels
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        optimizer = torch.optim.Adam(model.parameters(), 0.02)
        for _ in range(5):
            for part in torch.split(torch.randperm(len(labels)), 64):
                clean = images[part].requires_grad_()
                loss = F.cross_entropy(model(clean), labels[part])
                (gradient,) = torch.autograd.grad(loss, clean)
                attacked = (clean.detach() + EPSILON * gradient.sign()).clamp(0, 1)
                optimizer.zero_grad()
                F.cross_entropy(model(attacked), labels[part]).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
    optimizer.zero_grad()
    return model.eval().requires_grad_(False)


class FirstClasses(nn.Module):
    """The first four classes of a network alone: targeted attacks aim at three, not at nine."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)[:, :4]
        return logits


@dataclass(frozen=True)
class SmallModels:
    """A teacher and the student distilled from it."""

    teacher: Learned
    student: Learned


@pytest.fixture(scope="session")
def small_models(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> SmallModels:
    folder = tmp_path_factory.mktemp("models")
    teacher = learn(small_config(), digits, None, folder / "teacher" / "teacher.safetensors")
    student = learn(
        small_config(method="ard", loss=IN_SECONDS),
        digits,
        load_teacher(teacher.weights, None, digits),
        folder / "student" / "student.safetensors",
    )
    return SmallModels(teacher, student)


@pytest.fixture(scope="session")
def small_fp32(
    small_models: SmallModels, digits: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The student as an FP32 artefact."""
    out = tmp_path_factory.mktemp("artifacts") / "student.onnx"
    export(small_models.student.weights, digits, out)
    return out


@pytest.fixture(scope="session")
def small_int8(
    small_models: SmallModels, digits: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The student as an INT8 artefact."""
    out = tmp_path_factory.mktemp("artifacts") / "student-int8.onnx"
    export(small_models.student.weights, digits, out, int8_target="x86")
    return out
