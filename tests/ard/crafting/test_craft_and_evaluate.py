"""Masks and sets: what is crafted on a model is what its artefact shows when it is replayed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ard.attacks.registry import parse_attack
from ard.attacks.run import run_attack
from ard.attacks.steps.grid import round_to_grid
from ard.attacks.victims import open_victim, weights_victim
from ard.crafting.craft import craft_set
from ard.data.sources import SplitSource
from ard.data.splits import Dataset, as_float, take_limit
from ard.evaluation.accuracy import evaluate_all, evaluate_attack
from ard.models.weight_files import load_model
from edge_bench.core.errors import InputError
from edge_bench.core.spec import AttackSpec
from edge_bench.files.sets import open_set
from edge_bench.options.bench import BenchOptions
from edge_bench.runs.one_run import run as run_bench
from edge_bench.statistics.metrics import accuracy, decode_mask, worst_case_mask

from ..conftest import EPSILON, SmallModels


def craft(
    models: SmallModels, digits: Dataset, spec: AttackSpec, out: Path, *, on_grid: bool = True
) -> None:
    victim = weights_victim(models.student.weights)
    images = SplitSource(digits.test, victim.card.dataset, victim.card.classes)
    craft_set(victim, images, spec, out, on_grid=on_grid)


@pytest.fixture(scope="module")
def sets(
    small_models: SmallModels, digits: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("sets")
    for name in ("fgsm", "pgd5", "cw5"):
        craft(small_models, digits, parse_attack(name, epsilon=EPSILON), folder / name)
    return folder


@pytest.mark.parametrize("name", ["fgsm", "pgd5", "cw5"])
def test_a_crafted_set_lies_inside_the_ball_on_the_grid(sets: Path, name: str) -> None:
    crafted = open_set(sets / name)
    assert crafted.images.dtype == np.uint8
    distance = np.abs(crafted.images.astype(int) - crafted.clean.astype(int)).max()
    assert 0 < distance <= EPSILON * 255


def test_an_off_grid_set_keeps_floats_inside_the_ball(
    small_models: SmallModels, digits: Dataset, tmp_path: Path
) -> None:
    spec = parse_attack("pgd2", epsilon=0.01)
    craft(small_models, digits, spec, tmp_path / "s", on_grid=False)
    crafted = open_set(tmp_path / "s")
    assert crafted.images.dtype == np.float32
    distance = np.abs(crafted.images - crafted.clean.astype(np.float64) / 255).max()
    assert 0 < distance <= 0.01 + 1e-6
    assert crafted.images.min() >= 0
    assert crafted.images.max() <= 1


@pytest.mark.parametrize("epsilon", [8 / 255, 0.15, 0.0299, 1.5 / 255])
def test_rounding_never_leaves_the_ball_or_the_range(epsilon: float) -> None:
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(0, 256, (40, 1, 8, 8), dtype=torch.uint8, generator=generator)
    noise = (torch.rand(levels.shape, generator=generator) * 2 - 1) * epsilon
    adversarial = (as_float(levels) + noise).clamp(0, 1)
    rounded = round_to_grid(adversarial, levels, epsilon)
    distance = (rounded.int() - levels.int()).abs()
    assert float(distance.max()) <= epsilon * 255 + 1e-9
    assert float((rounded.double() / 255 - adversarial).abs().max()) <= 1 / 255


def test_whole_steps_of_the_grid_are_kept_by_rounding() -> None:
    levels = torch.full((1, 1, 1, 3), 100, dtype=torch.uint8)
    shift = torch.tensor([[[[8 / 255, -8 / 255, 0.0]]]])
    rounded = round_to_grid(as_float(levels) + shift, levels, 8 / 255)
    assert rounded.flatten().tolist() == [108, 92, 100]


def test_the_manifest_names_attack_and_source(sets: Path, small_models: SmallModels) -> None:
    manifest = open_set(sets / "pgd5").manifest
    assert manifest.attack == parse_attack("pgd5", epsilon=EPSILON)
    assert manifest.source_sha256 == small_models.student.sha256
    assert manifest.threat == "white-box"
    assert manifest.on_grid
    assert "torch" in manifest.versions


def test_an_attack_by_scores_is_told_as_one_whatever_the_victim_would_give(
    small_models: SmallModels, small_int8: Path, digits: Dataset, tmp_path: Path
) -> None:
    images = SplitSource(take_limit(digits.test, 8), digits.name, digits.classes)
    with open_victim(small_int8, parent=small_models.student.weights, threads=1) as victim:
        assert victim.threat == "bpda"
        for name in ("square5", "pgd2"):
            spec = parse_attack(name, epsilon=EPSILON)
            craft_set(victim, images, spec, tmp_path / name, threat=victim.threat)
    found = [open_set(tmp_path / name).manifest for name in ("square5", "pgd2")]
    assert [manifest.threat for manifest in found] == ["black-box", "bpda"]
    parent = small_models.student.sha256
    assert [manifest.surrogate_sha256 for manifest in found] == [None, parent]


def test_images_that_are_wrong_already_are_attacked_too(
    sets: Path, small_models: SmallModels, digits: Dataset
) -> None:
    model, _ = load_model(small_models.student.weights)
    wrong = ~evaluate_attack(model, digits.test, None)
    crafted = open_set(sets / "pgd5")
    moved = (crafted.images != crafted.clean).any(axis=(1, 2, 3))
    assert wrong.any()
    assert moved[wrong].all()


def test_crafting_and_replay_agree_on_every_sample_of_the_source(
    sets: Path, small_fp32: Path
) -> None:
    opened = [open_set(sets / name) for name in ("cw5", "fgsm", "pgd5")]
    options = BenchOptions(settle_seconds=0, min_runs=2, min_seconds=0, warmup_runs=0)
    report = run_bench(small_fp32, opened, options)
    assert len(report.sets) == 3
    for result, crafted in zip(report.sets, opened, strict=True):
        assert np.array_equal(decode_mask(result.mask), ~np.asarray(crafted.source_success))
        assert result.relation == "its parent"
    worst = worst_case_mask(report)
    assert worst is not None
    assert accuracy(worst) <= min(accuracy(result.mask) for result in report.sets)


def test_robust_accuracy_never_exceeds_clean_accuracy(
    small_models: SmallModels, digits: Dataset
) -> None:
    model, _ = load_model(small_models.teacher.weights)
    specs = [parse_attack(name, epsilon=EPSILON) for name in ("fgsm", "pgd3", "cw3")]
    masks = evaluate_all(model, take_limit(digits.test, 100), specs)
    assert list(masks) == ["clean", "fgsm", "pgd3", "cw3", "worst case"]
    for mask in masks.values():
        assert not (mask & ~masks["clean"]).any()
    both = masks["clean"] & masks["fgsm"] & masks["pgd3"] & masks["cw3"]
    assert np.array_equal(masks["worst case"], both)


def test_the_mask_is_that_of_the_attacked_images(
    small_models: SmallModels, digits: Dataset
) -> None:
    model, _ = load_model(small_models.student.weights)
    split = take_limit(digits.test, 60)
    spec = parse_attack("fgsm", epsilon=EPSILON)
    mask = evaluate_attack(model, split, spec)
    adversarial = run_attack(model, as_float(split.images), split.labels, spec, 0)
    with torch.no_grad():
        right = (model(adversarial).argmax(1) == split.labels).numpy()
    assert np.array_equal(mask, right & evaluate_attack(model, split, None))


def test_nan_logits_are_refused(digits: Dataset) -> None:
    head = nn.Linear(64, 10)
    nn.init.constant_(head.bias, float("nan"))
    model = nn.Sequential(nn.Flatten(), head)
    with pytest.raises(InputError, match="NaN"):
        evaluate_attack(model, take_limit(digits.test, 10), None)


def test_a_failed_crafting_leaves_the_old_set_alone(
    small_models: SmallModels, digits: Dataset, tmp_path: Path
) -> None:
    victim = weights_victim(small_models.student.weights)
    craft(small_models, digits, parse_attack("fgsm", epsilon=EPSILON), tmp_path / "s")
    before = {p.name: p.read_bytes() for p in (tmp_path / "s").iterdir()}
    nn.init.constant_(victim.module.get_parameter("network.fc.bias"), float("nan"))
    with pytest.raises(InputError, match="NaN"):
        craft_set(
            victim,
            SplitSource(digits.test, victim.card.dataset, victim.card.classes),
            parse_attack("fgsm", epsilon=EPSILON),
            tmp_path / "s",
            force=True,
        )
    assert {p.name: p.read_bytes() for p in (tmp_path / "s").iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["s"]
