"""A set made anew: what it keeps, what it attacks again, and how old a report says it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from typer.testing import CliRunner

from ard.attacks.differential import pair_of
from ard.attacks.registry import parse_attack
from ard.attacks.victims import open_victim, weights_victim
from ard.cli import app
from ard.crafting.corrupt import corrupt_set
from ard.crafting.craft import craft_set
from ard.crafting.refresh import refresh_set
from ard.data.sources import SplitSource
from ard.data.splits import Dataset, as_float, take_limit
from ard.models.predict import predict
from edge_bench.core.errors import InputError
from edge_bench.core.spec import Source
from edge_bench.files.sets import AdversarialSet, open_set
from edge_bench.options.bench import BenchOptions
from edge_bench.report.doubts import doubts_in
from edge_bench.report.summary import threat_label
from edge_bench.runs.one_run import run as run_bench
from edge_bench.statistics.generations import generations

from ..conftest import EPSILON, SmallModels

SAMPLES = 60
QUICK = BenchOptions(
    threads=1, min_runs=2, min_seconds=0.0, warmup_runs=1, settle_seconds=0.0, idle_seconds=0.0
)


@pytest.fixture(scope="module")
def source(digits: Dataset) -> SplitSource:
    return SplitSource(take_limit(digits.test, SAMPLES), digits.name, digits.classes)


@pytest.fixture(scope="module")
def old(
    small_models: SmallModels, source: SplitSource, tmp_path_factory: pytest.TempPathFactory
) -> AdversarialSet:
    """Crafted on the teacher."""
    out = tmp_path_factory.mktemp("old") / "pgd4"
    spec = parse_attack("pgd4", epsilon=EPSILON)
    craft_set(weights_victim(small_models.teacher.weights), source, spec, out)
    return open_set(out)


def fools(weights: Path, images: AdversarialSet) -> NDArray[np.bool_]:
    victim = weights_victim(weights)
    stored = torch.from_numpy(np.array(images.images))
    found: NDArray[np.bool_] = predict(victim.module, as_float(stored)).numpy() != images.labels
    return found


def test_what_fools_the_new_model_is_kept_and_the_rest_attacked_from_where_it_was(
    small_models: SmallModels, old: AdversarialSet, source: SplitSource, tmp_path: Path
) -> None:
    student = small_models.student.weights
    refresh_set(weights_victim(student), old, tmp_path / "new", batch_size=25)
    new = open_set(tmp_path / "new")
    before, after = fools(student, old), fools(student, new)
    assert np.array_equal(new.images[before], old.images[before])
    assert after.sum() > before.sum()
    assert np.array_equal(new.source_success, after)
    # No worse than as many steps from a random start.
    spec = parse_attack("pgd4", epsilon=EPSILON)
    craft_set(weights_victim(student), source, spec, tmp_path / "fresh")
    assert after.sum() >= fools(student, open_set(tmp_path / "fresh")).sum() - 1
    manifest = new.manifest
    assert manifest.source_sha256 == weights_victim(student).sha256
    assert manifest.refreshed == (
        Source(sha256=old.manifest.source_sha256, name=old.manifest.source_name),
    )
    assert manifest.attack == old.manifest.attack


def test_the_first_start_is_the_stored_image(
    small_models: SmallModels, old: AdversarialSet, tmp_path: Path
) -> None:
    # One step so short that nothing moves on the grid: what stands stays as it was stored.
    spec = replace(old.manifest.attack, steps=1, step_size=1e-6)
    refresh_set(weights_victim(small_models.student.weights), old, tmp_path / "s", spec=spec)
    assert np.array_equal(open_set(tmp_path / "s").images, old.images)


def test_a_report_tells_how_old_the_source_of_a_set_is(
    small_models: SmallModels, small_int8: Path, old: AdversarialSet, tmp_path: Path
) -> None:
    weights = small_models.student.weights
    refresh_set(weights_victim(weights), old, tmp_path / "w")
    with open_victim(small_int8, parent=weights, threads=1) as victim:
        refresh_set(victim, open_set(tmp_path / "w"), tmp_path / "a")
        refresh_set(victim, open_set(tmp_path / "a"), tmp_path / "again")
    first, second = open_set(tmp_path / "w"), open_set(tmp_path / "a")
    assert [s.name for s in second.manifest.refreshed] == [
        "teacher.safetensors",
        "student.safetensors",
    ]
    assert open_set(tmp_path / "again").manifest.refreshed == second.manifest.refreshed
    report = run_bench(small_int8, [second, old, first], QUICK)
    assert generations(report) == {"a": 0, "pgd4": 2, "w": 1}
    assert threat_label(report.sets[0]) == "bpda on this artefact, refreshed 2 times"
    (doubt,) = [text for text in doubts_in(report) if "generations back" in text]
    assert "pgd4 (2 generations back)" in doubt
    # The card told that; where it does not, the sets that were refreshed do, and nobody else.
    bare = replace(report, artifact=replace(report.artifact, card=None))
    assert generations(bare) == {"a": 0, "pgd4": 2, "w": 1}
    assert generations(replace(bare, sets=report.sets[1:])) == {"pgd4": None, "w": None}


def test_what_cannot_be_refreshed_is_refused(
    small_models: SmallModels,
    small_int8: Path,
    old: AdversarialSet,
    source: SplitSource,
    tmp_path: Path,
) -> None:
    victim = weights_victim(small_models.student.weights)
    corrupt_set(victim, source, "fog", 1, tmp_path / "fog")
    with pytest.raises(InputError, match="is a corruption"):
        refresh_set(victim, open_set(tmp_path / "fog"), tmp_path / "new")
    square = replace(
        old, manifest=replace(old.manifest, attack=parse_attack("square9", epsilon=EPSILON))
    )
    with pytest.raises(InputError, match="made with square, which cannot start"):
        refresh_set(victim, square, tmp_path / "new")
    named = replace(old.manifest.attack, steps=None)
    brought = replace(old, manifest=replace(old.manifest, attack=named))
    with pytest.raises(InputError, match="made elsewhere with pgd, of which it tells no steps"):
        refresh_set(victim, brought, tmp_path / "new")
    diva = parse_attack("diva3", epsilon=EPSILON)
    with pytest.raises(InputError, match="expected no differential attack"):
        refresh_set(victim, old, tmp_path / "new", spec=diva)
    elsewhere = replace(old, manifest=replace(old.manifest, dataset="letters"))
    with pytest.raises(InputError, match="refresh a set of its own dataset"):
        refresh_set(victim, elsewhere, tmp_path / "new")
    with open_victim(small_int8, threads=1) as artefact:
        blind = artefact.blind("nobody reads its graph")
        with pytest.raises(InputError, match="but nobody reads its graph; give the weights"):
            refresh_set(blind, old, tmp_path / "new")
        # The gradients of its own graph are no parent's.
        with pytest.raises(InputError, match="compares an artefact with the weights"):
            pair_of(artefact)
    assert not (tmp_path / "new").exists()


def test_the_command_takes_the_model_either_way(
    small_models: SmallModels, old: AdversarialSet, tmp_path: Path
) -> None:
    weights, runner = str(small_models.student.weights), CliRunner()
    common = ["attack", "--refresh", str(old.path), "--out"]
    for name, how in (("a", ["--on", weights]), ("b", [weights])):
        ended = runner.invoke(app, [*common, str(tmp_path / name), *how])
        assert ended.exit_code == 0, ended.output
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    for how, sentence in (
        ([], "expected one model"),
        ([weights, "--on", weights], "expected one model"),
        (["--on", weights, "--epsilon", "8/255"], "--refresh takes it from the set"),
        (["--on", weights, "--norm", "l2"], "--norm l2: --refresh takes it from the set"),
        (["--on", weights, "--seed", "7"], "--seed 7: --refresh takes it from the set"),
        (["--on", weights, "--restarts", "5"], "--restarts 5: --refresh takes it from the set"),
    ):
        refused = runner.invoke(app, [*common, str(tmp_path / "c"), *how])
        assert refused.exit_code != 0
        assert sentence in " ".join(refused.stderr.split())


def test_another_attack_aims_at_the_class_that_the_set_aims_at(
    small_models: SmallModels, source: SplitSource, tmp_path: Path
) -> None:
    weights, runner = small_models.student.weights, CliRunner()
    spec = parse_attack("pgd2", epsilon=EPSILON, target="3")
    craft_set(weights_victim(weights), source, spec, tmp_path / "old")
    asked = ["attack", "--refresh", str(tmp_path / "old"), "--on", str(weights), "--out"]
    ended = runner.invoke(app, [*asked, str(tmp_path / "new"), "--attack", "pgd5"])
    assert ended.exit_code == 0, ended.output
    assert open_set(tmp_path / "new").manifest.attack == replace(spec, name="pgd", steps=5)
