"""A run that is given a time ends in it, with weights that were validated."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ard.data.splits import Dataset
from ard.learning import pace as pacing
from ard.learning import step
from ard.learning import train as training
from ard.learning.config import TrainConfig, learning_rate
from ard.learning.learn import learn
from ard.learning.pace import Clock, Pace, epochs_left, first_pace, planned, too_short
from ard.learning.run_state import Run, read_checkpoint
from ard.models.weight_files import load_model, save_tensors
from edge_bench.core.errors import InputError

WHOLE = 18
"""Updates of a pass over the digits below."""


class Time:
    """A clock that steps and validations move, by as many seconds as they are said to take."""

    def __init__(self) -> None:
        self.now, self.step, self.validation = 1000.0, 1.0, 3.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    """Time stands still but for updates and validations."""
    found = Time()
    update, validate = step.update, training._validate
    rates: list[float] = []
    found.rates = rates  # type: ignore[attr-defined]

    def slow_update(config: TrainConfig, run: Run, *more: object) -> object:
        found.now += found.step
        rates.append(run.optimizer.param_groups[0]["lr"])
        return update(config, run, *more)  # type: ignore[arg-type]

    def slow_validate(*given: object) -> object:
        found.now += found.validation
        return validate(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(training, "update", slow_update)
    monkeypatch.setattr(training, "_validate", slow_validate)
    for module in (pacing, training):
        monkeypatch.setattr(module, "time", found)
    return found


def config() -> TrainConfig:
    return TrainConfig(
        dataset="digits",
        architecture="resnet8:2",
        method="pgd_at",
        epsilon=0.1,
        step_size=0.05,
        inner_steps=1,
        batch_size=16,
        learning_rate=0.05,
    )


def run(few: Dataset, out: Path, minutes: float, clock: Time, **more: object) -> float:
    """Seconds that a run with so many minutes took."""
    begun = clock.now
    learn(
        config(),
        few,
        None,
        out / "w.safetensors",
        minutes=minutes,
        begun=begun,
        **more,  # type: ignore[arg-type]
    )
    return clock.now - begun


def lines(out: Path) -> list[dict[str, object]]:
    text = (out / "metrics.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("minutes", [1.0, 2.0])
def test_a_steady_machine_uses_its_time_and_no_more(
    few: Dataset, tmp_path: Path, clock: Time, minutes: float
) -> None:
    took = run(few, tmp_path, minutes, clock)
    assert 0.7 * 60 * minutes < took <= 60 * minutes
    rates = clock.rates[-len(lines(tmp_path)) * 3 :]  # type: ignore[attr-defined]
    assert rates[-1] < 0.1 * 0.05, "the rate comes down with the end"
    card = load_model(tmp_path / "w.safetensors")[1]
    assert card.recipe["epochs"] == len(lines(tmp_path))
    assert "validation" in lines(tmp_path)[-1]


@pytest.mark.parametrize(("minutes", "factor"), [(3, 4.0), (1.25, 0.5)])
def test_a_machine_that_changes_its_speed_is_followed(
    few: Dataset,
    tmp_path: Path,
    clock: Time,
    monkeypatch: pytest.MonkeyPatch,
    minutes: float,
    factor: float,
) -> None:
    restored = training._trained_epoch

    def changed(*given: object) -> object:
        line = restored(*given)  # type: ignore[arg-type]
        if line["epoch"] == 1:
            clock.step, clock.validation = factor, 3 * factor
        return line

    monkeypatch.setattr(training, "_trained_epoch", changed)
    told: list[str] = []
    took = run(few, tmp_path, minutes, clock, tell=told.append)
    assert 30 * minutes < took <= 60 * minutes + 4 * factor
    (plan,) = told
    planned_epochs = int(plan.split(": ")[1].split()[0])
    assert (len(lines(tmp_path)) < planned_epochs) == (factor > 1)
    # From the top on the rate never rises, whatever became of the plan, and ends low.
    rates = clock.rates[6:]  # type: ignore[attr-defined]
    top = rates.index(max(rates))
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] < 0.25 * max(rates)


def test_an_epoch_is_cut_off_where_the_time_ends_in_it(
    few: Dataset, tmp_path: Path, clock: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = vars(training)["update"]
    count = 0

    def slowing(*given: object) -> object:
        nonlocal count
        count += 1
        if count > 30:
            clock.now += 9
        return update(*given)

    monkeypatch.setattr(training, "update", slowing)
    took = run(few, tmp_path, 2, clock)
    assert took <= 120 + 10
    assert "validation" in lines(tmp_path)[-1]
    terms = [line["loss"] for line in lines(tmp_path)]
    assert all(0.5 < float(str(loss)) < 10 for loss in terms), "means are of the steps that ran"


def test_too_short_a_time_is_told_and_still_gives_weights(
    few: Dataset, tmp_path: Path, clock: Time
) -> None:
    told: list[str] = []
    took = run(few, tmp_path, 0.05, clock, tell=told.append)
    assert "this will take longer; give" in told[-1]
    # Six steps are timed, or two where they take too long; then one step and its validation.
    assert took <= 2 + 1 + 3
    assert load_model(tmp_path / "w.safetensors")[1].recipe["validation"]["epoch"] == 1


def test_a_resumed_run_has_what_is_left_of_its_time(
    few: Dataset, tmp_path: Path, clock: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = training._save

    def cut_off(run: Run, *more: object) -> None:
        save(run, *more)  # type: ignore[arg-type]
        if run.epochs_done == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "_save", cut_off)
        with pytest.raises(KeyboardInterrupt):
            run(few, tmp_path, 2, clock)
    begun = clock.now
    saved = json.loads(read_checkpoint(tmp_path / "checkpoint.safetensors")[1]["pace"])
    assert 0 < saved["position"] < 1
    clock.now += 5000  # Nobody worked on it for so long, and that does not count.
    took = run(few, tmp_path, 2, clock, resume=True)
    assert begun > 1000
    assert 0.7 * 120 < saved["elapsed"] + took <= 120
    assert [line["epoch"] for line in lines(tmp_path)] == list(range(1, len(lines(tmp_path)) + 1))
    # One that has ended stays as it is.
    before = (tmp_path / "w.safetensors").read_bytes()
    assert run(few, tmp_path, 2, clock, resume=True) == 0
    assert (tmp_path / "w.safetensors").read_bytes() == before


class CutOffError(Exception):
    """Stands for the process's end."""


def cut_off(
    few: Dataset, out: Path, after: int, monkeypatch: pytest.MonkeyPatch, **more: object
) -> None:
    """A run of a config that ends after so many epochs, not by itself."""
    save = training._save

    def last(run: Run, *given: object) -> None:
        save(run, *given)  # type: ignore[arg-type]
        if run.epochs_done == after:
            raise CutOffError

    with monkeypatch.context() as patch:
        patch.setattr(training, "_save", last)
        with pytest.raises(CutOffError):
            learn(*(more.pop("config"), few, None, out / "w.safetensors"), **more)  # type: ignore[arg-type]


def test_a_resumed_run_without_time_or_validation_ends_with_weights_all_the_same(
    few: Dataset, tmp_path: Path, clock: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    rare = replace(config(), validate_every=50)
    cut_off(few, tmp_path, 2, monkeypatch, config=rare, minutes=3.0, begun=clock.now)
    begun, trained = clock.now, (tmp_path / "metrics.jsonl").read_bytes()
    weights = tmp_path / "w.safetensors"
    found = learn(rare, few, None, weights, minutes=0.5, begun=begun, resume=True)
    assert clock.now - begun == clock.validation
    assert (found.validation.epoch, found.epochs, found.config.epochs) == (2, 2, 2)
    assert (tmp_path / "metrics.jsonl").read_bytes() == trained
    assert load_model(weights)[1].recipe["validation"]["epoch"] == 2


def test_a_run_that_slowed_down_before_its_milestones_goes_on(
    few: Dataset, tmp_path: Path, clock: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = replace(config(), schedule="steps", milestones=(7,))
    save = training._save

    def slower(run: Run, *given: object) -> None:
        clock.step, clock.validation = 3.0, 9.0
        save(run, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(training, "_save", slower)
    cut_off(few, tmp_path, 2, monkeypatch, config=late, minutes=3.0, begun=clock.now)
    weights = tmp_path / "w.safetensors"
    found = learn(late, few, None, weights, minutes=3.0, begun=clock.now, resume=True)
    assert 2 < found.epochs < 7


def test_a_time_is_refused_for_a_run_that_was_begun_without_one(
    few: Dataset, tmp_path: Path, clock: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = replace(config(), epochs=2)
    cut_off(few, tmp_path, 1, monkeypatch, config=two)
    path, weights = tmp_path / "checkpoint.safetensors", tmp_path / "w.safetensors"
    given = {"minutes": 5.0, "begun": clock.now, "resume": True}
    with pytest.raises(InputError, match=r"--minutes 5: .* is of a run of so many epochs, which"):
        learn(two, few, None, weights, **given)  # type: ignore[arg-type]
    tensors, metadata = read_checkpoint(path)
    for damaged in ("{}", "[1]", "{"):
        save_tensors(path, tensors, metadata | {"pace": damaged}, force=True)
        with pytest.raises(InputError, match="expected the pace of a run"):
            learn(two, few, None, weights, **given)  # type: ignore[arg-type]
    # Of before checkpoints kept a pace: nobody knows, and it ends as it was planned.
    del metadata["pace"]
    save_tensors(path, tensors, metadata, force=True)
    assert learn(two, few, None, weights, **given).epochs == 2  # type: ignore[arg-type]


def test_a_minute_that_is_none_is_refused(few: Dataset, tmp_path: Path, clock: Time) -> None:
    for minutes in (0.0, -1.0, float("nan"), float("inf"), 1e308):
        with pytest.raises(InputError, match="--minutes"):
            run(few, tmp_path, minutes, clock)


def test_positions_are_those_of_a_run_without_a_time_while_the_plan_holds() -> None:
    whole = replace(config(), epochs=5)
    pace = Pace(
        clock=Clock(seconds=1, begun=0), step_seconds=1, validation_seconds=1, robust_seconds=1
    )
    for epoch in range(5):
        left = (5 - epoch) * WHOLE
        for each in range(WHOLE):
            at = 5 * WHOLE * pace.at(each, left)
            done = epoch * WHOLE + each
            assert learning_rate(whole, at, 5 * WHOLE) == pytest.approx(
                learning_rate(whole, done, 5 * WHOLE)
            )
        pace = replace(pace, position=pace.at(WHOLE, left))
    assert pace.position == pytest.approx(1)


def test_a_plan_spends_a_quarter_on_validation_at_most_where_it_can(clock: Time) -> None:
    pace = Pace(
        clock=Clock(seconds=200, begun=1000),
        step_seconds=1,
        validation_seconds=10,
        robust_seconds=10,
    )
    assert pace.clock.left() == 197
    found = planned(config(), pace, 500, starts=False)
    assert (found.epochs, found.epoch_steps, found.validate_every) == (8, 19, 2)
    long = replace(pace, validation_seconds=40)
    found = planned(config(), long, 500, starts=True)
    assert (found.epochs, found.epoch_steps, found.validate_every) == (8, 14, 8)
    # Parts of a pass that are passes, where so many fit.
    found = planned(config(), long, 10, starts=True)
    assert (found.epochs, found.epoch_steps, found.validate_every) == (11, 10, 8)
    found = planned(config(), pace, 5, starts=False)
    assert (found.epochs, found.epoch_steps, found.validate_every) == (13, 0, 1)
    assert too_short(long, starts=True) is None
    assert "give" in (too_short(replace(long, validation_seconds=99), starts=True) or "")
    assert epochs_left(found, pace, 500) == 0
    ended = replace(pace, position=1.0)
    assert epochs_left(found, pace, 1) > 0
    assert epochs_left(found, ended, 1) == 0


def test_a_validation_of_a_network_that_survives_nothing_says_little_of_the_next() -> None:
    clock = Clock(seconds=1, begun=0)
    pace = Pace(clock=clock, step_seconds=1, validation_seconds=20, robust_seconds=20)
    assert pace.after_validation(2).validation_seconds == 11
    assert pace.after_validation(20).validation_seconds == 25


def test_a_pass_can_be_cut_into_epochs_by_hand(few: Dataset, tmp_path: Path) -> None:
    short = replace(config(), epochs=2, epoch_steps=3)
    learn(short, few, None, tmp_path / "w.safetensors")
    _, metadata = read_checkpoint(tmp_path / "checkpoint.safetensors")
    assert json.loads(metadata["config"])["epoch_steps"] == 3
    assert json.loads(metadata["pace"]) is None
    with pytest.raises(InputError, match="--epoch-steps -1: expected 0 or more"):
        replace(short, epoch_steps=-1)


def test_a_pace_before_any_validation_counts_every_image_as_robust() -> None:
    clock = Clock(seconds=60, begun=0)
    found = first_pace(clock, config(), step_seconds=2.5, validation_images=32)
    # 2.5 passes of 16 images took 2.5 s; 11 passes of 32 images take 22 s.
    assert found.validation_seconds == pytest.approx(22)
    natural = replace(config(), method="natural")
    assert first_pace(clock, natural, 1.5, 16).validation_seconds == pytest.approx(11)
