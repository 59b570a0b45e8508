"""Settings that follow from what a run is given, and give way to what is asked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ard.learning.chosen import Given, chosen, was_hardened
from edge_bench.core.spec import ModelCard

PICTURES = Given(images=1800, image_shape=(3, 96, 96), trained=True, on_gpu=False)


def test_a_few_thousand_pictures_from_trained_weights_on_a_processor() -> None:
    assert chosen(PICTURES, {}) == {
        "learning_rate": 0.05,
        "loss.anchor": "rslad",
        "loss.ranking.k": 2.0,
        "loss.teacher_temperature": 1.0,
        "epsilon": 4 / 255,
        "inner_steps": 1,
        "step_size": pytest.approx(4 / 255),
        "batch_size": 32,
        "epochs": 27,
    }


def test_from_random_weights_the_rate_follows_the_batch_and_there_are_more_epochs() -> None:
    found = chosen(replace(PICTURES, trained=False), {})
    assert (found["learning_rate"], found["epochs"]) == (0.025, 100)
    more = chosen(replace(PICTURES, trained=False, images=8000), {})
    assert (more["learning_rate"], more["batch_size"], more["epochs"]) == (0.05, 64, 48)
    most = chosen(replace(PICTURES, images=10**6), {})
    assert (most["batch_size"], most["epochs"]) == (128, 5)


def test_an_epoch_is_as_long_as_all_its_pictures_are_many() -> None:
    # Fewer passes do where pictures without labels are a part of each.
    alone = chosen(replace(PICTURES, trained=False), {})
    more = chosen(replace(PICTURES, trained=False, unlabelled=3600), {})
    assert (alone["epochs"], more["epochs"]) == (100, 36)
    assert more["batch_size"] == alone["batch_size"]


def test_a_gpu_has_the_longer_attack() -> None:
    found = chosen(replace(PICTURES, on_gpu=True), {})
    assert "inner_steps" not in found
    assert "step_size" not in found
    assert "loss.anchor" not in found
    # The higher rate was found for few updates on a processor.
    assert found["learning_rate"] == 0.01


def test_small_images_keep_the_defaults_of_research() -> None:
    small = replace(PICTURES, image_shape=(3, 32, 32))
    assert chosen(small, {}) == {"learning_rate": 0.01}
    assert chosen(replace(small, trained=False), {}) == {}


def test_what_is_asked_wins_and_the_rest_follows_it() -> None:
    asked = {"epsilon": 2 / 255, "batch_size": 100, "minutes": 10.0}
    found = chosen(PICTURES, asked)
    assert not asked.keys() & found.keys()
    assert "epochs" not in found
    # A step of the usual budget would be longer than the whole of this one.
    assert found["step_size"] == pytest.approx(2 / 255)
    assert chosen(replace(PICTURES, trained=False), asked)["learning_rate"] == 0.1 * 100 / 128
    # Ten steps of the whole budget would be no attack that anybody means.
    assert "step_size" not in chosen(PICTURES, {"inner_steps": 10})
    # And a short step alone is one of the usual many.
    assert "inner_steps" not in chosen(PICTURES, {"step_size": 1 / 255})


@pytest.mark.parametrize(
    ("asked", "rest"),
    [
        ({"loss.anchor": "igdm"}, set()),
        ({"loss.anchor": "rslad"}, {"loss.ranking.k", "loss.teacher_temperature"}),
        ({"loss.ranking.k": 3.0}, {"loss.anchor", "loss.teacher_temperature"}),
    ],
)
def test_another_anchor_does_not_get_the_steepness_of_the_shortcut(
    asked: dict[str, object], rest: set[str]
) -> None:
    natural = ModelCard(
        architecture="x", dataset="y", classes=2, input_shape=(3, 32, 32), recipe={}
    )
    small = replace(PICTURES, image_shape=(3, 32, 32), teacher=natural)
    for given, more in ((PICTURES, set()), (small, {"loss.ranking.teacher_input"})):
        found = {name for name in chosen(given, asked) if name.startswith("loss.")}
        assert found == rest | more


def test_a_batch_is_no_larger_than_the_data() -> None:
    assert chosen(replace(PICTURES, images=20), {})["batch_size"] == 20
    assert chosen(replace(PICTURES, images=0), {})["batch_size"] == 2


@pytest.mark.parametrize(
    ("recipe", "hardened"),
    [({"method": "trades"}, True), ({"method": "natural"}, False), ({"adopted": {}}, False)],
)
def test_a_teacher_that_was_not_hardened_is_asked_about_clean_images(
    recipe: dict[str, object], hardened: bool
) -> None:
    card = ModelCard(
        architecture="x", dataset="y", classes=2, input_shape=(3, 32, 32), recipe=recipe
    )
    assert was_hardened(card) is hardened
    found = chosen(replace(PICTURES, teacher=card), {})
    assert ("loss.ranking.teacher_input" in found) is not hardened
    small = replace(PICTURES, image_shape=(3, 32, 32), teacher=card)
    assert chosen(small, {}).get("loss.anchor") == (None if hardened else "rslad")
    asked = {"loss.ranking.teacher_input": "adversarial"}
    assert "loss.ranking.teacher_input" not in chosen(replace(PICTURES, teacher=card), asked)
