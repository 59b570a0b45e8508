"""Differential sets: what they store, how they go on, and what a board says of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from ard.attacks.registry import parse_attack
from ard.attacks.victims import open_victim, threat_named, weights_victim
from ard.cli import app
from ard.crafting.craft import craft_set
from ard.data.sources import SplitSource
from ard.data.splits import Dataset, as_float, take_limit
from ard.evaluation.run import Evaluation
from ard.models.predict import predict
from ard.models.weight_files import load_model
from edge_bench.core.errors import InputError
from edge_bench.core.gate import Gate
from edge_bench.core.spec import Report
from edge_bench.files.bundle import pack
from edge_bench.files.sets import open_set, open_sets
from edge_bench.files.unpack import unpacked
from edge_bench.options.bench import BenchOptions
from edge_bench.policy.gate import check
from edge_bench.report.summary import compared_rows, summarise
from edge_bench.runs.one_run import run as run_bench
from edge_bench.statistics.apart import apart
from edge_bench.statistics.metrics import worst_case_mask

from ..conftest import EPSILON, SmallModels

SAMPLES, BATCH = 60, 25
QUICK = BenchOptions(
    threads=1, min_runs=2, min_seconds=0.0, warmup_runs=1, settle_seconds=0.0, idle_seconds=0.0
)


class Stopping(SplitSource):
    """Ends the process's work when it is asked for its second batch."""

    def read(self, begin: int, end: int):  # type: ignore[no-untyped-def]
        if begin:
            raise RuntimeError("stopped")
        return super().read(begin, end)


@pytest.fixture(scope="module")
def source(digits: Dataset) -> SplitSource:
    return SplitSource(take_limit(digits.test, SAMPLES), digits.name, digits.classes)


def craft(artefact: Path, parent: Path, source: SplitSource, out: Path, direction: str) -> None:
    spec = parse_attack("apgd_apart12", epsilon=EPSILON, direction=direction)
    with open_victim(artefact, parent=parent, threads=1) as victim:
        craft_set(victim, source, spec, out, threat="differential", batch_size=BATCH)


@pytest.fixture(scope="module")
def sets(
    small_models: SmallModels,
    small_int8: Path,
    source: SplitSource,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Both directions, and an ordinary attack beside them."""
    folder, weights = tmp_path_factory.mktemp("sets"), small_models.student.weights
    for direction in ("artefact", "parent"):
        craft(small_int8, weights, source, folder / direction, direction)
    spec = parse_attack("fgsm", epsilon=EPSILON)
    craft_set(weights_victim(weights), source, spec, folder / "fgsm")
    return folder


@pytest.fixture(scope="module")
def report(sets: Path, small_int8: Path) -> Report:
    return run_bench(small_int8, open_sets(sets), QUICK)


def test_a_set_says_what_the_parent_answers(
    sets: Path, small_models: SmallModels, small_int8: Path
) -> None:
    parent, _ = load_model(small_models.student.weights)
    with open_victim(small_int8, threads=1) as victim:
        for direction in ("artefact", "parent"):
            found = open_set(sets / direction)
            assert found.parent is not None
            images = [torch.from_numpy(np.array(a)) for a in (found.clean, found.images)]
            theirs = [predict(parent, as_float(a)).numpy() for a in images]
            assert np.array_equal(found.parent, np.stack(theirs, axis=1))
            ours = predict(victim.module, as_float(images[1])).numpy()
            right, wrong = (theirs[1], ours) if direction == "artefact" else (ours, theirs[1])
            won = (right == found.labels) & (wrong != found.labels)
            assert np.array_equal(found.source_success, won)
            assert won.any()
            assert found.manifest.parent_sha256 == found.manifest.surrogate_sha256


def test_the_board_counts_the_samples_told_apart_without_the_parent(
    sets: Path, report: Report
) -> None:
    found = apart(report)
    assert found is not None
    for direction, mask in (("artefact", found.artefact), ("parent", found.parent)):
        crafted = np.asarray(open_set(sets / direction).source_success)
        assert not (crafted & ~mask).any()
    assert found.either.mean() == summarise(report)["divergence"]["either"]["share"]
    assert [row[0] for row in compared_rows(report)] == [
        f"divergence, {name}" for name in ("unattacked", "either", "artefact", "parent")
    ]


def test_the_worst_case_is_that_of_the_attacks_on_it_alone(
    sets: Path, report: Report, small_int8: Path
) -> None:
    alone = run_bench(small_int8, [open_set(sets / "fgsm")], QUICK)
    assert worst_case_mask(report) == worst_case_mask(alone)
    assert "not in the worst case" in summarise(report)["threat"]["artefact"]


def test_a_gate_limits_divergence(report: Report) -> None:
    found = apart(report)
    assert found is not None
    share = float(found.either.mean())
    assert check(report, Gate(max_divergence=share)) == []
    (violation,) = check(report, Gate(max_divergence=share - 0.001))
    assert "divergence from the parent" in violation.sentence


def test_a_report_without_differential_sets_fails_a_limit_on_divergence(
    sets: Path, small_int8: Path
) -> None:
    alone = run_bench(small_int8, [open_set(sets / "fgsm")], QUICK)
    (violation,) = check(alone, Gate(max_divergence=1.0))
    assert "was not measured" in violation.sentence
    assert "--threat differential" in violation.sentence


def test_a_stopped_crafting_goes_on_and_ends_with_the_same_bytes(
    sets: Path, small_models: SmallModels, small_int8: Path, source: SplitSource, tmp_path: Path
) -> None:
    weights = small_models.student.weights
    stopping = Stopping(source.split, source.dataset, source.classes)
    with pytest.raises(RuntimeError, match="stopped"):
        craft(small_int8, weights, stopping, tmp_path / "s", "artefact")
    craft(small_int8, weights, source, tmp_path / "s", "artefact")
    for path in (sets / "artefact").iterdir():
        assert path.read_bytes() == (tmp_path / "s" / path.name).read_bytes()


def test_what_the_parent_answers_cannot_be_edited(sets: Path, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    for path in (sets / "artefact").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    content = bytearray((folder / "parent.npy").read_bytes())
    content[-8] ^= 1
    (folder / "parent.npy").write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"parent\.npy: its sha256 is not the manifest's"):
        open_set(folder)
    (folder / "parent.npy").unlink()
    with pytest.raises(InputError, match=r"parent\.npy: an array of the set is missing"):
        open_set(folder)


def test_weights_alone_and_other_attacks_are_refused(
    small_models: SmallModels, small_int8: Path, source: SplitSource, tmp_path: Path
) -> None:
    weights = small_models.student.weights
    with pytest.raises(InputError, match="give an artefact"):
        threat_named("differential", weights_victim(weights), None)
    spec = parse_attack("pgd2", epsilon=EPSILON)
    with (
        open_victim(small_int8, parent=weights, threads=1) as victim,
        pytest.raises(InputError, match="expected diva"),
    ):
        craft_set(victim, source, spec, tmp_path / "s", threat="differential")
    assert list(tmp_path.iterdir()) == []


def test_an_evaluation_prints_divergence_beside_the_worst_case(
    small_models: SmallModels, small_int8: Path, tmp_path: Path
) -> None:
    common = ["evaluate", str(small_int8), "--parent", str(small_models.student.weights)]
    common += ["--limit", "40", "--no-doubts"]
    runner = CliRunner(env={"COLUMNS": "200"})
    both = runner.invoke(app, [*common, "--attacks", "fgsm,apgd_apart5"])
    alone = runner.invoke(app, [*common, "--attacks", "fgsm"])
    assert both.exit_code == alone.exit_code == 0, both.output
    told = [line for line in both.stdout.splitlines() if "told apart by apgd_apart5" in line]
    assert ["artefact errs" in line for line in told] == [True, False]

    def worst(output: str) -> str:
        return " ".join(next(line for line in output.splitlines() if "worst case" in line).split())

    assert worst(both.stdout) == worst(alone.stdout)


def test_the_command_tells_a_share_told_apart_and_no_accuracy(
    small_models: SmallModels, small_int8: Path, tmp_path: Path
) -> None:
    common = ["attack", str(small_int8), "--parent", str(small_models.student.weights)]
    common += ["--threat", "differential", "--attack", "apgd_apart5", "--limit", "40", "--json"]
    ended = CliRunner().invoke(app, [*common, "--out", str(tmp_path / "s")])
    assert ended.exit_code == 0, ended.output
    told = json.loads(ended.stdout)
    assert told["told_apart"] == float(open_set(tmp_path / "s").source_success.mean())
    assert not {"source_accuracy", "class_accuracy", "worst_class"} & set(told)


def test_an_evaluation_of_weights_refuses_a_differential_attack(
    small_models: SmallModels, source: SplitSource
) -> None:
    with pytest.raises(InputError, match="compares an artefact"):
        Evaluation(
            victim=weights_victim(small_models.student.weights),
            split=source.split,
            dataset="digits",
            specs=[],
            differential=[parse_attack("diva5", epsilon=EPSILON)],
        )


def test_a_bundle_carries_what_the_parent_answers(
    sets: Path, small_int8: Path, tmp_path: Path
) -> None:
    out = tmp_path / "student.ardx"
    pack(small_int8, out, sets=sets, gate=Gate(max_divergence=0.9), baseline=None, force=False)
    with unpacked(out) as parts:
        assert parts.gate == Gate(max_divergence=0.9)
        assert parts.sets is not None
        for found in open_sets(parts.sets):
            before = open_set(sets / found.name)
            assert (found.parent is None) == (before.parent is None) == (found.name == "fgsm")
            if found.parent is not None and before.parent is not None:
                assert np.array_equal(found.parent, before.parent)
