"""Every method through the loop: it learns, resumes, and asks for the teachers it needs."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ard.data.splits import Dataset, as_float
from ard.learning.config import TrainConfig
from ard.learning.learn import learn
from ard.learning.run_state import Run
from ard.learning.step import Teachers, update
from ard.learning.teacher import load_teacher
from ard.learning.train import CHECKPOINT
from ard.methods.parts.base import LossOptions, total
from ard.methods.registry import METHODS, constants_read
from ard.models.architectures import build_model
from ard.models.weight_files import load_tensors
from ard.ranking.levels import RankingOptions
from edge_bench.core.errors import InputError

from ..conftest import SmallModels, small_config

TINY: dict[str, Any] = {"architecture": "resnet8:4", "inner_steps": 1, "batch_size": 32}


def new_run(config: TrainConfig) -> Run:
    torch.manual_seed(0)
    return Run(config, build_model(config.architecture, 1, 10, torch.zeros(1), torch.ones(1)))


def digits_batch(digits: Dataset, begin: int = 0, count: int = 32) -> tuple[Tensor, Tensor]:
    batch = digits.train.at(torch.arange(begin, begin + count))
    return as_float(batch.images), batch.labels


@pytest.fixture(scope="module")
def few(digits: Dataset) -> Dataset:
    """144 digits, of which 129 are trained on: 4 batches of 32."""
    return replace(digits, train=digits.train.part(0, 144), test=digits.test.part(0, 40))


@pytest.fixture(scope="module")
def teachers(small_models: SmallModels, digits: Dataset) -> Teachers:
    """The robust one, and another that stands for the clean one."""
    robust = load_teacher(small_models.teacher.weights, None, digits).model
    clean = load_teacher(small_models.student.weights, None, digits).model
    return Teachers(robust=robust.eval(), clean=clean.eval())


def weights_of(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("method", METHODS)
def test_every_method_lowers_its_own_loss_on_a_batch(
    method: str, digits: Dataset, teachers: Teachers
) -> None:
    config = small_config(**TINY, method=method, momentum=0.0, nesterov=False, learning_rate=0.02)
    run = new_run(config)
    before = weights_of(run.student)
    assert teachers.robust is not None
    teacher = weights_of(teachers.robust)
    images, labels = digits_batch(digits, count=16)
    losses = []
    for _ in range(6):
        generator = torch.Generator().manual_seed(0)
        terms = update(config, run, teachers, images, labels, generator, 0.5)
        losses.append(float(total(terms).detach()))
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[-1] < losses[0]
    assert not torch.equal(weights_of(run.student), before)
    assert torch.equal(weights_of(teachers.robust), teacher)


@pytest.mark.parametrize(
    ("method", "reads_labels"),
    [("ard", False), ("igdm", False), ("adaad", False), ("rslad", False), ("trades", True)],
)
def test_which_objectives_read_a_label(
    method: str, reads_labels: bool, digits: Dataset, teachers: Teachers
) -> None:
    """As they come, their attack in training included."""
    config = small_config(**TINY, method=method)
    images, labels = digits_batch(digits)
    learnt = []
    for given in (labels, labels.roll(1)):
        run = new_run(config)
        generator = torch.Generator().manual_seed(0)
        update(config, run, teachers, images, given, generator, 0.5)
        learnt.append(weights_of(run.student))
    assert torch.equal(*learnt) is not reads_labels


def test_an_attack_by_ranking_reads_how_to_rank(digits: Dataset, teachers: Teachers) -> None:
    images, labels = digits_batch(digits)
    learnt = []
    for k in (0.5, 5.0):
        loss = LossOptions(ranking=RankingOptions(k=k))
        config = small_config(**TINY, method="rslad", inner="ranking", loss=loss)
        run, generator = new_run(config), torch.Generator().manual_seed(0)
        update(config, run, teachers, images, labels, generator, 0.5)
        learnt.append(weights_of(run.student))
    assert not torch.equal(*learnt)
    assert "ranking" in constants_read("rslad", "igdm", "ranking")
    assert "ranking" not in constants_read("rslad", "igdm", None)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_a_short_run(
    method: str, few: Dataset, small_models: SmallModels, tmp_path: Path
) -> None:
    config = small_config(**TINY, method=method, epochs=1)
    robust = load_teacher(small_models.teacher.weights, None, few)
    learned = learn(
        config,
        few,
        robust if METHODS[method].distils else None,
        tmp_path / "w.safetensors",
        clean_teacher=robust if METHODS[method].needs_second_teacher else None,
    )
    assert learned.weights.is_file()
    assert 0 <= learned.validation.clean_accuracy <= 1


class KilledError(Exception):
    """Stands for the process's end."""


def test_a_run_of_mtard_resumes_with_the_weights_of_its_teachers(
    few: Dataset, small_models: SmallModels, tmp_path: Path
) -> None:
    config = small_config(**TINY, method="mtard", epochs=2)
    robust = load_teacher(small_models.teacher.weights, None, few)
    clean = load_teacher(small_models.student.weights, None, few)

    def run(folder: str, **options: Any) -> dict[str, Tensor]:
        """The state at the end: the best weights may be those of the first epoch."""
        weights = tmp_path / folder / "w.safetensors"
        learn(config, few, robust, weights, clean_teacher=clean, **options)
        return load_tensors(weights.parent / CHECKPOINT, "a checkpoint")[0]

    def kill_in_second_epoch(done: int, whole: int, text: str) -> None:
        if done > whole // 2:
            raise KilledError

    whole = run("whole")
    with pytest.raises(KilledError):
        run("cut", report_progress=kill_in_second_epoch)
    resumed = run("cut", resume=True)
    assert whole["memory/values"].numel() == 4
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())


@pytest.mark.parametrize(
    ("method", "has_clean", "sentence"),
    [
        ("mtard", False, "--clean-teacher: mtard needs the weights of a teacher trained on clean"),
        ("rslad", True, "--clean-teacher: rslad has one teacher only; leave it out"),
    ],
)
def test_a_second_teacher_is_asked_for_exactly_where_it_is_needed(
    method: str,
    has_clean: bool,
    sentence: str,
    digits: Dataset,
    small_models: SmallModels,
    tmp_path: Path,
) -> None:
    teacher = load_teacher(small_models.teacher.weights, None, digits)
    clean = teacher if has_clean else None
    with pytest.raises(InputError, match=sentence):
        learn(
            small_config(**TINY, method=method),
            digits,
            teacher,
            tmp_path / "run" / "w.safetensors",
            clean_teacher=clean,
        )
    assert not (tmp_path / "run").exists()


def one_step(digits: Dataset, **changes: Any) -> Tensor:
    """How one step of plain gradient descent moves the weights."""
    config = small_config(
        **TINY,
        method="natural",
        momentum=0.0,
        nesterov=False,
        weight_decay=0.0,
        learning_rate=0.5,
        **changes,
    )
    run = new_run(config)
    before = weights_of(run.student)
    images, labels = digits_batch(digits)
    update(config, run, Teachers(), images, labels, torch.Generator(), 0.0)
    return weights_of(run.student) - before


def test_a_gradient_is_scaled_down_to_the_norm_that_is_allowed(digits: Dataset) -> None:
    free = one_step(digits)
    norm = float(free.norm()) / 0.5
    torch.testing.assert_close(one_step(digits, clip_norm=norm / 4), free / 4, rtol=1e-4, atol=1e-7)
    assert torch.equal(one_step(digits, clip_norm=2 * norm), free)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"clip_norm": -1.0}, "--clip-norm -1"),
        ({"patience": -1}, "--patience -1"),
        ({"momentum": 1.0}, "momentum 1"),
        ({"momentum": 0.0}, "set nesterov to false"),
        ({"cuda_graphs": True}, "--cuda-graphs: records compiled passes"),
    ],
)
def test_bad_settings_of_the_optimiser_are_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        small_config(**changes)


def test_cuda_graphs_need_their_device(digits: Dataset, tmp_path: Path) -> None:
    config = small_config(method="pgd_at", compile=True, cuda_graphs=True)
    with pytest.raises(InputError, match=r"--cuda-graphs: .* on cpu; .*--no-cuda-graphs"):
        learn(config, digits, None, tmp_path / "w.safetensors")
    assert not list(tmp_path.iterdir())


def three_steps(digits: Dataset, *, compiled: bool = False, graphs: bool = False) -> Tensor:
    config = small_config(**TINY, method="trades", compile=compiled, cuda_graphs=graphs)
    run = new_run(config)
    for step in range(3):
        images, labels = digits_batch(digits, 32 * step)
        generator = torch.Generator().manual_seed(step)
        update(config, run, Teachers(), images, labels, generator, 0.5)
    return weights_of(run.student)


@pytest.mark.parametrize(("graphs", "mode"), [(False, None), (True, "reduce-overhead")])
def test_a_compiled_run_learns_the_same_weights(
    graphs: bool, mode: str | None, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Captured and differentiated ahead of time; without C++, which would take half a minute."""
    expected = three_steps(digits)
    modes: list[str | None] = []
    compile_module = torch.compile

    def without_code(module: nn.Module, mode: str | None) -> Any:
        modes.append(mode)
        return compile_module(module, backend="aot_eager")

    marks: list[None] = []
    monkeypatch.setattr(torch, "compile", without_code)
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: marks.append(None))
    found = three_steps(digits, compiled=True, graphs=graphs)
    # The student, and the twin that is attacked.
    assert modes == [mode, mode]
    # Only from a mark on may a recorded pass write over what an earlier one returned.
    assert len(marks) == (3 if graphs else 0)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
