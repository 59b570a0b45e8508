"""What changes while a run goes on: options, the learning rate, and when it stops."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ard.data.splits import Dataset, take_limit
from ard.learning import train as loop
from ard.learning.config import learning_rate
from ard.learning.learn import learn
from ard.learning.run_state import Run, Validation
from ard.methods.parts.base import Logits, LossOptions, total
from ard.methods.registry import METHODS
from ard.models.architectures import build_model
from ard.models.weight_files import load_model
from ard.ranking.levels import WEIGHTS, RankingOptions, ranking_losses
from edge_bench.core.errors import InputError

from ..commands.typed import ardx
from ..conftest import small_config
from ..ranking.test_levels import logits

WARMING = RankingOptions(
    weight_class=1.0,
    weight_sample=2.0,
    weight_discrepancy=0.5,
    weight_class_clean=3.0,
    weight_sample_clean=4.0,
    warm_up=0.4,
)


@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
def test_options_without_a_schedule_stay_as_they_are(progress: float) -> None:
    assert RankingOptions(k=3.0).at(progress) == RankingOptions(k=3.0)


@pytest.mark.parametrize(("progress", "k"), [(0.0, 2.0), (0.25, 4.0), (0.5, 8.0), (1.0, 32.0)])
def test_the_steepness_rises_by_equal_factors(progress: float, k: float) -> None:
    found = RankingOptions(k=2.0, k_end=32.0).at(progress)
    assert found.k == pytest.approx(k)
    assert found.k_end is None


def test_the_steepness_may_fall_too() -> None:
    assert RankingOptions(k=9.0, k_end=1.0).at(0.5).k == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("progress", "share"), [(0.0, 0.0), (0.1, 0.25), (0.3, 0.75), (0.4, 1.0), (0.9, 1.0)]
)
def test_all_ranking_weights_rise_linearly_in_the_warm_up(progress: float, share: float) -> None:
    found = WARMING.at(progress)
    for name in WEIGHTS:
        assert getattr(found, name) == pytest.approx(share * getattr(WARMING, name)), name
    assert found.k == WARMING.k


def test_at_the_start_of_a_warm_up_no_ranking_term_remains() -> None:
    s_clean, s_adv, t_clean, t_adv = logits(4, 5, 4)
    options = LossOptions(anchor="rslad", ranking=WARMING).at(0.0)
    assert ranking_losses(s_clean, s_adv, t_clean, t_adv, options.ranking) == {}
    given = Logits(s_clean, s_adv.requires_grad_(), t_clean, t_adv)
    terms = METHODS["ard"].terms(given, torch.tensor([0, 1, 2, 3, 0]), options)
    assert set(terms) == {"anchor"}
    (gradient,) = torch.autograd.grad(total(terms), s_adv)
    assert bool(torch.isfinite(gradient).all())


def test_options_at_a_moment_keep_every_other_setting() -> None:
    options = LossOptions(alpha=0.3, temperature=2.0, anchor="ce", ranking=WARMING)
    found = options.at(0.1)
    assert (found.alpha, found.temperature, found.anchor) == (0.3, 2.0, "ce")
    assert found.ranking == WARMING.at(0.1)


def test_options_know_the_progress_that_no_setting_holds() -> None:
    assert LossOptions().progress == 1.0
    assert LossOptions().at(0.25).progress == 0.25
    assert LossOptions().at(0.25).at(0.5).progress == 0.5
    assert "progress" not in asdict(LossOptions())


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"k_end": 0.0}, "ranking.k_end 0"),
        ({"k_end": float("nan")}, "ranking.k_end nan"),
        ({"warm_up": 1.5}, "ranking.warm_up 1.5"),
        ({"warm_up": -0.1}, "ranking.warm_up -0.1"),
    ],
)
def test_bad_schedules_of_the_ranking_are_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        RankingOptions(**changes)


def test_the_learning_rate_falls_tenfold_after_each_milestone() -> None:
    config = small_config(epochs=6, learning_rate=0.2, schedule="steps", milestones=(2, 5))
    rates = [learning_rate(config, step, 60) for step in range(60)]
    assert rates == pytest.approx([0.2] * 20 + [0.02] * 30 + [0.002] * 10)


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": "steps"},
        {"milestones": (2,)},
        {"schedule": "steps", "milestones": (3, 2)},
        {"schedule": "steps", "milestones": (0, 2)},
        {"schedule": "steps", "milestones": (2, 2)},
    ],
)
def test_bad_milestones_are_named(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="milestones"):
        small_config(**changes)


def test_a_milestone_that_the_run_never_reaches_is_refused(digits: Dataset, tmp_path: Path) -> None:
    config = small_config(epochs=3, schedule="steps", milestones=(2, 3))
    with pytest.raises(InputError, match=r"milestones \[2, 3\]: the run ends at epoch 3"):
        learn(config, digits, None, tmp_path / "w.safetensors")


def test_the_epochs_that_are_told_are_those_that_were_done(tmp_path: Path) -> None:
    diverging = ("--learning-rate", "5", "--set", "ema_decay=0", "--patience", "1")
    quick = ("--dataset", "digits", "--arch", "resnet8:2", "--inner-steps", "1", "--epochs", "20")
    command = ("teach", *quick, *diverging, "--train-fraction", "0.2", "--out", tmp_path)
    told = ardx(*command)
    done = len((tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    assert done < 20
    assert f"best of {done} epochs at {done - 1};" in told
    assert json.loads(ardx(*command, "--resume", "--json"))["epochs"] == done


def test_an_unknown_schedule_is_named() -> None:
    with pytest.raises(InputError, match="schedule cosine: expected one-cycle or steps"):
        small_config(schedule="cosine")


def test_each_step_gets_its_learning_rate_and_its_progress(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[float, float]] = []

    def watch(config: object, run: Run, *arguments: Any) -> dict[str, torch.Tensor]:
        seen.append((run.optimizer.param_groups[0]["lr"], arguments[-1]))
        return {"ce": torch.tensor(1.0)}

    monkeypatch.setattr(loop, "update", watch)
    config = small_config(
        architecture="resnet8:4",
        method="natural",
        epochs=2,
        batch_size=200,
        schedule="steps",
        milestones=(1,),
    )
    learn(config, digits, None, tmp_path / "w.safetensors")
    count = len(seen)
    assert [rate for rate, _ in seen] == pytest.approx([0.2] * (count // 2) + [0.02] * (count // 2))
    assert [progress for _, progress in seen] == pytest.approx([i / count for i in range(count)])


def validated(epoch: int, robust: float) -> Validation:
    return Validation(epoch=epoch, clean_accuracy=0.9, robust_accuracy=robust)


@pytest.mark.parametrize(
    ("patience", "epochs_done", "stops"),
    [(2, 7, False), (2, 8, True), (2, 9, True), (3, 8, False), (0, 99, False)],
)
def test_patience_counts_validations_since_the_best(
    patience: int, epochs_done: int, stops: bool
) -> None:
    config = small_config(patience=patience, validate_every=2, epochs=100)
    mean, std = torch.zeros(1), torch.ones(1)
    run = Run(config, build_model("resnet8:2", 1, 10, mean, std))
    run.epochs_done = epochs_done
    assert not run.overfits(config)
    run.offer(validated(4, 0.5))
    run.offer(validated(6, 0.5))
    assert run.overfits(config) is stops


def test_a_run_that_overfits_stops_with_its_best_weights_and_stays_stopped(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    falling = {1: 0.3, 2: 0.5, 3: 0.4, 4: 0.5, 5: 0.9}
    averages: dict[int, torch.Tensor] = {}

    def validate(config: object, run: Run, validation: object, epoch: int, *_: Any) -> Validation:
        averages[epoch] = run.average.module.state_dict()["network.fc.weight"].clone()
        return validated(epoch, falling[epoch])

    monkeypatch.setattr(loop, "_validate", validate)
    few = replace(digits, train=take_limit(digits.train, 400))
    config = small_config(
        architecture="resnet8:2", method="pgd_at", inner_steps=1, epochs=9, patience=2
    )
    said: list[str] = []

    def run(resume: bool) -> tuple[str, int, int]:
        said.clear()
        learned = learn(
            config,
            few,
            None,
            tmp_path / "w.safetensors",
            resume=resume,
            report_progress=lambda done, whole, text: said.append(text),
        )
        return learned.sha256, learned.validation.epoch, learned.epochs

    first = run(resume=False)
    lines = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3, 4]
    assert said[-1] == "stopped after epoch 4: robust overfitting"
    assert first[1:] == (2, 4)
    student, card = load_model(tmp_path / "w.safetensors")
    # What repeats it are nine epochs, of which its learning rate followed the first four.
    assert (card.recipe["epochs"], card.recipe["epochs_done"]) == (9, 4)
    assert torch.equal(student.state_dict()["network.fc.weight"], averages[2])
    assert run(resume=True) == first
    assert said == ["stopped after epoch 4: robust overfitting"]
    assert set(averages) == {1, 2, 3, 4}
