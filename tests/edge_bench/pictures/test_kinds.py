"""Files and folders as people have them, walked or refused by a sentence."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_bench.core.errors import InputError
from edge_bench.core.pictures.preprocessing import preprocessing_of
from edge_bench.core.series import series_array
from edge_bench.core.spec import ModelCard
from edge_bench.statistics.path import path_gap, worst_gap

from .conftest import NAMES, SIDE, Run, draw, reference


def grey(path: Path) -> None:
    Image.fromarray(draw(1)).convert("L").save(path)


def palette(path: Path) -> None:
    Image.fromarray(draw(1)).convert("P").save(path)


def deep(path: Path) -> None:
    Image.fromarray(np.full((9, 9), 40_000, dtype=np.uint16)).save(path)


def truncated(path: Path) -> None:
    Image.fromarray(draw(1)).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:-200])


def words(path: Path) -> None:
    path.write_text("no picture at all")


@pytest.mark.parametrize("kind", [grey, palette])
def test_other_kinds_of_pictures_are_read_as_training_reads_them(
    made: Callable[..., Path], walk: Run, tmp_path: Path, kind: Callable[[Path], None]
) -> None:
    model, path = made(), tmp_path / "photos" / "ant" / "a.png"
    kind(path)
    walked = walk(model).pictures
    assert walked is not None
    expected = reference(model, path, preprocessing_of(SIDE, None))
    at = sorted((tmp_path / "photos" / "ant").iterdir()).index(path)
    assert series_array(walked.answers.predicted)[at] == expected


@pytest.mark.parametrize(
    ("name", "kind", "told"),
    [
        ("a.png", deep, "more than 8 bits a channel"),
        ("a.jpg", truncated, "not a readable picture"),
        ("a.png", words, r"not a readable picture \(it begins as none of JPEG, PNG, .*WEBP\)$"),
        ("a.png", os.mkfifo, "no file but a pipe, a socket or a device; take it out"),
    ],
)
@pytest.mark.parametrize("pipeline", ["pillow", "mine:same"])
@pytest.mark.usefixtures("mine")
def test_what_is_no_picture_is_a_sentence_that_names_it(
    made: Callable[..., Path],
    walk: Run,
    tmp_path: Path,
    name: str,
    kind: Callable[[Path], None],
    told: str,
    pipeline: str,
) -> None:
    model = made()
    kind(tmp_path / "photos" / "moth" / name)
    with pytest.raises(InputError, match=rf"photos/moth/{name}: {told}"):
        walk(model, pipeline)


def test_folders_of_other_classes_are_a_sentence(
    made: Callable[..., Path], walk: Run, tmp_path: Path
) -> None:
    model = made()
    (tmp_path / "photos" / "bee").rename(tmp_path / "photos" / "wasp")
    with pytest.raises(InputError, match="class 'wasp' is none of the model's; found"):
        walk(model)


def test_a_card_that_says_nothing_takes_pictures_of_the_model_s_size_alone(
    make_model: Callable[..., Path], make_card: Callable[..., ModelCard], walk: Run, tmp_path: Path
) -> None:
    model = make_model(card=make_card(class_names=NAMES))
    for name in NAMES:
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.fromarray(draw(3)).resize((8, 8)).save(tmp_path / "photos" / name / "a.png")
    walked = walk(model).pictures
    assert walked is not None
    expected = reference(model, tmp_path / "photos" / "ant" / "a.png", None)
    assert set(series_array(walked.answers.predicted).tolist()) == {expected}
    Image.fromarray(draw(3)).save(tmp_path / "photos" / "fly" / "a.png")
    with pytest.raises(InputError, match=r"fly/a\.png: .* expected 8x8x3 .* adopt the model with"):
        walk(model)


@pytest.mark.usefixtures("mine")
def test_without_a_way_of_the_card_s_the_gap_is_not_known(
    make_model: Callable[..., Path], walk: Run, tmp_path: Path
) -> None:
    for name in NAMES:
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.fromarray(draw(3)).save(tmp_path / "photos" / name / "a.png")
    walked = walk(make_model(), "mine:same").pictures
    assert walked is not None
    assert (walked.card_answers, path_gap(walked), worst_gap(walked)) == (None, None, None)
    (tmp_path / "photos" / "spare").mkdir()
    Image.fromarray(draw(3)).save(tmp_path / "photos" / "spare" / "a.png")
    with pytest.raises(InputError, match="expected 4 folders, one per class of the model, found 5"):
        walk(make_model())
