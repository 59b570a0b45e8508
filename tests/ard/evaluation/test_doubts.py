"""Doubts: what was planted is found, what is sound is left in peace."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ard.attacks.registry import named_parts, parse_attack
from ard.attacks.victims import weights_victim
from ard.crafting.craft import craft_set
from ard.data.sources import SplitSource
from ard.data.splits import Dataset, Split, take_limit
from ard.evaluation import doubts
from ard.evaluation.accuracy import evaluate_all
from ard.evaluation.doubts import (
    above_parent,
    black_box_wins,
    doubts_about,
    looks,
    not_converged,
    rounded_away,
    vanished,
)
from edge_bench.core.spec import AttackSpec
from edge_bench.files.sets import open_set
from edge_bench.statistics.metrics import BoolArray

from ..conftest import EPSILON, SmallModels


@pytest.fixture(scope="module")
def student(dense: nn.Module) -> nn.Module:
    return dense


@pytest.fixture(scope="module")
def split(digits: Dataset) -> Split:
    return take_limit(digits.test, 100)


class Rounded(nn.Module):
    """The model behind activations of eight levels: a step function, flat almost everywhere."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model((images * 8).round() / 8)
        return logits


class Saturated(nn.Module):
    """The model with logits so large that the softmax is 0 or 1 to the last bit."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = 1e4 * self.model(images)
        return logits


def judged(
    model: nn.Module, split: Split, *names: str, each: bool = False
) -> tuple[list[AttackSpec], dict[str, BoolArray]]:
    specs = [parse_attack(name, epsilon=EPSILON) for name in names]
    return specs, evaluate_all(model, split, specs, each=each)


def names_of(found: list[doubts.Doubt]) -> set[str]:
    return {doubt.name for doubt in found}


def test_a_sound_evaluation_raises_no_doubt(student: nn.Module, split: Split) -> None:
    specs, masks = judged(student, split, "apgd_ce", "apgd_t", "square300")
    assert 0.1 < masks["worst case"].mean() < masks["clean"].mean()
    assert doubts_about(student, split, specs, masks) == []


@pytest.mark.parametrize("masking", [Rounded, Saturated])
def test_planted_masking_is_reported_and_square_brings_it_down(
    masking: type[nn.Module], student: nn.Module, split: Split
) -> None:
    model = masking(student)
    specs, masks = judged(model, split, "pgd20")
    sound = judged(student, split, "pgd20")[1]["worst case"].mean()
    assert masks["worst case"].mean() > sound + 0.1
    found = doubts_about(model, split, specs, masks)
    assert {"zero gradients", "black box"} <= names_of(found)
    assert "add square" in next(d.sentence for d in found if d.name == "zero gradients")
    with_square = judged(model, split, "square500")[1]["worst case"].mean()
    assert with_square < masks["worst case"].mean() - 0.1


def test_square_in_the_list_is_compared_with_what_gradients_left(
    student: nn.Module, split: Split
) -> None:
    model = Rounded(student)
    specs, masks = judged(model, split, "pgd5", "square200")
    (found,) = black_box_wins(model, split, specs, masks)
    broken = int((masks["pgd5"] & ~masks["square200"]).sum())
    assert f"Square breaks {broken} of {len(split)} images" in found.sentence


def test_square_before_the_gradients_is_compared_with_what_they_would_leave(
    student: nn.Module, split: Split
) -> None:
    sound = ("square20", "pgd20", "cw20")
    for model, names, doubted in (
        (Rounded(student), ("square200", "pgd20"), True),
        (student, sound, False),
    ):
        for each in (False, True):
            specs, masks = judged(model, split, *names, each=each)
            found = black_box_wins(model, split, specs, masks)
            assert names_of(found) == ({"black box"} if doubted else set())
    specs, masks = judged(Rounded(student), split, "pgd5", "square200", "cw5")
    assert black_box_wins(Rounded(student), split, specs, masks)


def test_the_square_of_the_ensemble_is_compared_with_its_other_parts(
    student: nn.Module, split: Split
) -> None:
    ensemble = parse_attack("autoattack", epsilon=EPSILON)
    left = np.arange(len(split)) < 40
    masks = {name: left.copy() for name in named_parts(ensemble)} | {"worst case": left}
    masks["clean"] = np.ones(len(split), dtype=np.bool_)
    # Nothing is attacked anew: the ensemble's Square asked more than a probe would.
    assert black_box_wins(student, split, [ensemble], masks) == []
    masks["autoattack: square5000"][:15] = False
    (found,) = black_box_wins(student, split, [ensemble], masks)
    assert f"Square breaks 15 of {len(split)} images" in found.sentence


def test_too_few_steps_are_reported_with_about_the_points_that_are_missing(
    student: nn.Module, split: Split
) -> None:
    weak = parse_attack("pgd1", epsilon=EPSILON, step_size=EPSILON / 50)
    masks = evaluate_all(student, split, [weak])
    left = masks["worst case"]
    (found,) = not_converged(student, split, weak, left)
    assert found.name == "not converged"
    more, strong = judged(student, split, "pgd100", "cw100")
    assert more
    missing = 100 * (left.mean() - strong["worst case"].mean())
    said = float(found.sentence.split("about ")[1].split(" points")[0])
    # The probe's attack and sample are others than those of the reference here.
    assert said == pytest.approx(missing, abs=6)


def test_probabilities_are_no_logits(student: nn.Module, split: Split) -> None:
    model = nn.Sequential(student, nn.Softmax(dim=1))
    assert names_of(looks(model, split)) == {"probabilities"}
    assert looks(student, split) == []


def test_a_randomised_model_is_noticed(student: nn.Module, split: Split) -> None:
    class Noisy(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = student(images + 0.01 * torch.randn_like(images))
            return logits

    assert names_of(looks(Noisy(), split)) == {"randomised"}


def test_a_gradient_of_zero_is_counted(student: nn.Module, split: Split) -> None:
    assert vanished(student, split) == []
    (found,) = vanished(Rounded(student), split)
    assert f"{len(split)} of {len(split)} images" in found.sentence


def test_an_artefact_above_its_parent_is_suspicious(student: nn.Module, split: Split) -> None:
    specs, masks = judged(Rounded(student), split, "pgd20")
    (found,) = above_parent(student, split, specs, masks)
    assert found.name == "above its parent"
    assert f"the artefact keeps {int(masks['pgd20'].sum())} of {len(split)}" in found.sentence
    specs, masks = judged(student, split, "pgd20")
    assert above_parent(student, split, specs, masks) == []


def test_a_parent_is_asked_on_its_own_device(
    student: nn.Module, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No such device is here, so what would be computed there is written down instead."""
    specs, masks = judged(student, split, "pgd5")
    asked: list[object] = []

    def noted(*_: object, **options: object) -> BoolArray:
        asked.append(options.get("torch_device"))
        return masks["clean"]

    monkeypatch.setattr(doubts, "evaluate_attack", noted)
    above_parent(student, split, specs, masks, "cuda")
    assert asked == ["cuda", "cuda"]


def test_a_model_that_is_never_right_has_nothing_to_doubt(student: nn.Module, split: Split) -> None:
    wrong = Split(split.images, (student(split.images.float() / 255).argmax(1) + 1) % 10)
    specs, masks = judged(student, wrong, "pgd5")
    assert not masks["clean"].any()
    assert doubts_about(student, wrong, specs, masks) == []


def test_few_images_are_probed_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doubts, "PROBED", 10)
    mask = np.arange(1000) % 2 == 0
    chosen = doubts._some(mask, 0).numpy()
    assert len(chosen) == 10
    assert mask[chosen].all()
    assert len(doubts._some(mask[:12], 0)) == 6


@pytest.mark.parametrize(
    ("norm", "epsilon", "doubtful"),
    [("l2", 0.0015, True), ("l2", 1.0, False), ("linf", 0.15, False)],
)
def test_a_budget_that_the_grid_rounds_away_is_noticed(
    small_models: SmallModels,
    digits: Dataset,
    tmp_path: Path,
    norm: str,
    epsilon: float,
    doubtful: bool,
) -> None:
    # No pixel can move by half a level within a length of 0.38 levels.
    source = SplitSource(take_limit(digits.test, 20), digits.name, digits.classes)
    spec = parse_attack("pgd5", epsilon=epsilon, norm=norm)
    craft_set(weights_victim(small_models.student.weights), source, spec, tmp_path / "s")
    assert names_of(rounded_away(open_set(tmp_path / "s"))) == (
        {"rounded away"} if doubtful else set()
    )
