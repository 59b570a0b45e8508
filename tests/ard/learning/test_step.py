"""One update: which network sees which images, and what becomes of the terms."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ard.data.splits import Dataset
from ard.learning import step
from ard.learning.learn import learn
from ard.learning.run_state import Run
from ard.learning.step import Teachers, update
from ard.methods.parts.base import Logits, LossOptions, Terms
from ard.methods.registry import METHODS
from ard.models.architectures import build_model

from ..conftest import small_config

TINY: dict[str, Any] = {"architecture": "resnet8:2", "inner_steps": 1, "batch_size": 8}
EVERYTHING = frozenset(Logits.__dataclass_fields__)


def network(seed: int) -> Any:
    torch.manual_seed(seed)
    return build_model("resnet8:2", 1, 10, torch.zeros(1), torch.ones(1))


def batch() -> tuple[Tensor, Tensor]:
    images = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(4))
    return images, torch.arange(8)


def step_on(run: Run, method: str, teachers: Teachers, progress: float = 0.5) -> Terms:
    images, labels = batch()
    config = small_config(**TINY, method=method)
    return update(config, run, teachers, images, labels, torch.Generator(), progress)


def predictions(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(images)
    return logits


def test_each_network_sees_the_images_that_the_method_asks_about(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images, _ = batch()
    adversarial = images + 0.05
    teachers = Teachers(robust=network(1).eval(), clean=network(2).eval())
    seen: list[Logits] = []

    def terms(logits: Logits, labels: Tensor, options: LossOptions) -> Terms:
        seen.append(logits)
        return {"ce": logits.student_clean.square().mean()}

    monkeypatch.setattr("ard.methods.igdm.terms", terms)
    monkeypatch.setitem(METHODS, "igdm", replace(METHODS["igdm"], needs=EVERYTHING))
    monkeypatch.setattr(step, "ascend", lambda *arguments, **options: adversarial)
    run = Run(small_config(**TINY, method="igdm"), network(0))
    # In training, where the statistics are those of the batch.
    student = copy.deepcopy(run.student).train()
    step_on(run, "igdm", teachers)
    assert teachers.robust is not None
    assert teachers.clean is not None
    mirrored = 2 * images - adversarial
    expected = {
        "student_clean": predictions(student, images),
        "student_adversarial": predictions(student, adversarial),
        "student_mirrored": predictions(student, mirrored),
        "teacher_clean": predictions(teachers.robust, images),
        "teacher_adversarial": predictions(teachers.robust, adversarial),
        "teacher_mirrored": predictions(teachers.robust, mirrored),
        "second_teacher_clean": predictions(teachers.clean, images),
    }
    assert expected.keys() == EVERYTHING
    for name, logits in expected.items():
        torch.testing.assert_close(getattr(seen[0], name).detach(), logits, msg=name)
    taught = {name for name in EVERYTHING if getattr(seen[0], name).requires_grad}
    assert taught == {"student_clean", "student_adversarial", "student_mirrored"}


def test_the_attack_is_on_the_student_as_it_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    attacked: list[Tensor] = []
    present: list[Tensor] = []
    run = Run(small_config(**TINY, method="pgd_at"), network(0))

    def watch(model: nn.Module, images: Tensor, *arguments: object, **options: object) -> Tensor:
        attacked.append(predictions(model, images))
        present.append(predictions(copy.deepcopy(run.student).eval(), images))
        return images

    monkeypatch.setattr(step, "ascend", watch)
    for _ in range(3):
        step_on(run, "pgd_at", Teachers())
    for found, expected in zip(attacked, present, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(attacked[0], attacked[2], atol=1e-3)


def test_terms_are_reweighed_by_what_the_method_remembers(monkeypatch: pytest.MonkeyPatch) -> None:
    teachers = Teachers(robust=network(1).eval(), clean=network(2).eval())
    memories: list[list[float]] = []

    def balance(memory: Tensor, terms: Terms) -> tuple[dict[str, float], Tensor]:
        memories.append(memory.tolist())
        return {"kl_adversarial": 3.0, "kl_clean": 0.25}, torch.tensor([float(len(memories))])

    def first_terms() -> dict[str, float]:
        run = Run(small_config(**TINY, method="mtard"), network(0))
        terms = step_on(run, "mtard", teachers)
        step_on(run, "mtard", teachers)
        return {name: float(term.detach()) for name, term in terms.items()}

    monkeypatch.setitem(METHODS, "mtard", replace(METHODS["mtard"], balances=False))
    plain = first_terms()
    monkeypatch.setitem(METHODS, "mtard", replace(METHODS["mtard"], balances=True))
    monkeypatch.setattr("ard.methods.mtard.balance", balance)
    found = first_terms()
    assert found == pytest.approx(
        {"kl_adversarial": 3 * plain["kl_adversarial"], "kl_clean": 0.25 * plain["kl_clean"]}
    )
    assert memories == [[], [1.0]]


def test_the_options_are_those_of_the_moment() -> None:
    teachers = Teachers(robust=network(1).eval())
    run = Run(small_config(**TINY, method="igdm"), network(0))
    assert float(step_on(run, "igdm", teachers, progress=0.0)["gradient"].detach()) == 0
    assert float(step_on(run, "igdm", teachers, progress=1.0)["gradient"].detach()) > 0


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags : fpu avx512f avx512_bf16 sse2", "bf16"),
        ("flags : fpu avx2 amx_bf16", "bf16"),
        ("Features : fp asimd bf16", "bf16"),
        ("flags : fpu avx512f avx512_vnni", "fp32"),
        (None, "fp32"),
    ],
)
def test_auto_precision_is_bf16_where_the_processor_multiplies_it(
    flags: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "read_text", lambda path: flags)
    assert step.fast_precision("cpu") == expected


def test_auto_precision_is_settled_when_the_run_begins(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "read_text", lambda path: "flags : amx_bf16")
    config = small_config(epochs=1, train_fraction=0.1, precision="auto")
    learned = learn(config, digits, None, tmp_path / "w.safetensors")
    assert learned.config.precision == "bf16"
    assert 'precision = "bf16"' in (tmp_path / "config.toml").read_text()
