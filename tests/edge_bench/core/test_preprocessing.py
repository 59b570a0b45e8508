"""How a picture becomes an image: read from options, and kept on a card."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edge_bench.core.errors import InputError
from edge_bench.core.pictures.preprocessing import Preprocessing, preprocessing_of
from edge_bench.core.spec import ModelCard
from edge_bench.files.store import from_json, to_json


@pytest.mark.parametrize("text", ["stretch", "pad", "crop", "crop:0.875"])
def test_an_option_reads_as_it_is_written(text: str) -> None:
    assert preprocessing_of(64, text).resize == text
    assert preprocessing_of(64, None) == Preprocessing(side=64, policy="stretch")


@pytest.mark.parametrize(
    "text",
    ["", "squash", "crop:", "crop:0", "crop:1.5", "crop:nan", "pad:0.5", "crop:0.5:1", "Crop"],
)
def test_an_option_that_means_nothing_is_told_the_grammar(text: str) -> None:
    if text == "":
        # Nothing after --resize= is no choice.
        assert preprocessing_of(8, text) == Preprocessing(side=8)
        return
    with pytest.raises(InputError, match=f"--resize {text}: expected stretch, pad, crop, or crop:"):
        preprocessing_of(64, text)


@pytest.mark.parametrize(
    "values",
    [
        {"side": 0},
        {"side": 8, "policy": "squash"},
        {"side": 8, "policy": "crop", "crop_share": 0.0},
        {"side": 8, "crop_share": 0.5},
        {"side": 8, "interpolation": "nearest"},
    ],
)
def test_a_card_with_another_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="preprocessing: expected"):
        Preprocessing(**values)


def test_it_travels_on_a_card_and_fits_its_images() -> None:
    how = Preprocessing(side=96, policy="crop", crop_share=0.875)
    card = ModelCard(
        architecture="x", dataset="y", classes=2, input_shape=(3, 96, 96), preprocessing=how
    )
    again = from_json(json.loads(to_json(card)), ModelCard, "here", "a card")
    assert again.preprocessing == how
    assert str(how) == "96x96 pixels, cropped to the middle 87.5 %"
    with pytest.raises(InputError, match="pictures to become images of"):
        ModelCard(
            architecture="x", dataset="y", classes=2, input_shape=(3, 96, 80), preprocessing=how
        )
