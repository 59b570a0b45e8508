"""Pictures from file to logits, against a plain loop of Pillow and ONNX Runtime."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from edge_bench.core.errors import InputError
from edge_bench.core.pictures.preprocessing import preprocessing_of
from edge_bench.core.series import series_array
from edge_bench.core.spec import ModelCard, Report
from edge_bench.files.report_file import read_report
from edge_bench.statistics.path import path_gap, path_gaps, right, stage_ns, worst_gap

from .conftest import NAMES, QUICK, SIDE, Run, reference


@pytest.mark.parametrize("policy", [None, "crop:0.8"])
def test_answers_are_those_of_a_plain_loop(
    made: Callable[..., Path], walk: Run, tmp_path: Path, policy: str | None
) -> None:
    how = preprocessing_of(SIDE, policy)
    model = made(how)
    report = walk(model)
    walked = report.pictures
    assert walked is not None
    paths = [path for name in NAMES for path in sorted((tmp_path / "photos" / name).iterdir())]
    expected = [reference(model, path, how) for path in paths]
    assert series_array(walked.answers.predicted).tolist() == expected
    labels = [NAMES.index(path.parent.name) for path in paths]
    assert series_array(walked.labels).tolist() == labels
    assert np.mean(np.equal(labels, expected)) == pytest.approx(0.8)
    assert list(walked.stages) == ["read", "decode", "resize", "convert", "inference"]
    assert all((times > 0).all() and len(times) == 40 for times in stage_ns(walked).values())
    gap = path_gap(walked)
    assert gap is not None
    assert (gap.gap, gap.interval(), gap.changed, gap.p_value) == (0, (0, 0), 0, 1)


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize("function", ["same", "planes"])
def test_the_same_way_in_other_words_has_no_gap(
    made: Callable[..., Path], walk: Run, function: str, tmp_path: Path
) -> None:
    model = made()
    for path in (tmp_path / "photos").rglob("*.*"):
        with Image.open(path) as opened:
            upright = ImageOps.exif_transpose(opened)
        upright.save(path.with_suffix(".bmp"))
        path.unlink()
    walked = walk(model, f"mine:{function}").pictures
    assert walked is not None
    gap = path_gap(walked)
    assert gap is not None
    assert (gap.gap, gap.changed, gap.samples, gap.same_way) == (0, 0, 40, False)
    low, high = gap.interval()
    assert low == -high
    assert 0.02 < high < 0.1
    assert list(walked.stages) == ["pipeline", "convert", "inference"]
    assert walked.source_sha256 is not None


@pytest.mark.usefixtures("mine")
def test_swapped_colours_are_found_and_gated(
    made: Callable[..., Path],
    tmp_path: Path,
    invoke: Callable[..., tuple[int, str, str]],
) -> None:
    model, out = made(), tmp_path / "report.json"
    asked = ("--pictures", tmp_path / "photos", "--pipeline", "mine:swapped", "--out", out)
    code, said, warned = invoke("bench", model, *asked, *QUICK)
    assert code == 0
    assert "no --sets given: robustness was not measured" in " ".join(warned.split())
    words = " ".join(said.split())
    for word in ("from file to logits", "path gap", "worst class", "latency, pipeline"):
        assert word in words
    walked = read_report(out).pictures
    assert walked is not None
    gap, worst = path_gap(walked), worst_gap(walked)
    assert gap is not None
    assert worst is not None
    assert gap.gap < -0.3
    assert gap.p_value < 1e-3
    assert gap.interval()[1] < 0
    assert worst[1].gap <= gap.gap
    assert sum(each.samples for each in path_gaps(walked).values()) == gap.samples == 40
    code, said, _ = invoke("gate", out, "--max-path-gap", 0.05)
    assert code == 1
    assert "loses against the card's is" in said
    assert "above --max-path-gap 0.05" in said
    code, said, _ = invoke("gate", out, "--require", "path_gap <= 90%")
    assert code == 0
    pages = ("--html", tmp_path / "page.html", "--csv", tmp_path / "figures.csv")
    assert invoke("report", out, *pages)[0] == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert f"On the way of mine:swapped accuracy is {100 * gap.gap:+.1f} points away" in page
    assert "Path gap by class, worst first" in page
    share = f"{100 * right(walked).mean():.1f} %"
    assert f"is right on {share} of 40 pictures, from their files" in page
    assert "accuracy by mine:swapped " in words, "the card says nothing of that way"
    told = json.loads(invoke("bench", model, *asked, *QUICK, "--force", "--json")[1])["pictures"]
    assert told["path_gap"]["gap"] == gap.gap
    assert told["worst_class_path_gap"]["class"] == worst[0]
    assert told["latency_ms"]["in all"]["p95"] >= told["latency_ms"]["inference"]["p50"]


def test_a_gate_fails_where_no_pictures_were_walked(
    make_report: Callable[..., Report], tmp_path: Path, invoke: Callable[..., tuple[int, str, str]]
) -> None:
    from edge_bench.files.report_file import write_report

    write_report(tmp_path / "r.json", make_report(), False)
    code, said, _ = invoke("gate", tmp_path / "r.json", "--max-path-gap", 0.05)
    assert code == 1
    assert "was not measured" in said
    assert "run ardx bench with --pictures" in said


def test_models_of_bytes_and_channels_last_see_the_same(
    made: Callable[..., Path],
    make_model: Callable[..., Path],
    make_card: Callable[..., ModelCard],
    walk: Run,
    colours: NDArray[np.float32],
) -> None:
    first = walk(made()).pictures
    card = make_card(preprocessing=preprocessing_of(SIDE, None), class_names=NAMES)
    for how in ({"dtype": "uint8"}, {"channels_last": True}):
        other = walk(make_model("other.onnx", card=card, weight=colours, **how)).pictures
        assert first is not None
        assert other is not None
        assert other.answers.predicted == first.answers.predicted
        assert other.files_sha256 == first.files_sha256


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--pipeline", "opencv"), "--pipeline: belongs to pictures; give --pictures DIR, too"),
        (("--pictures", "photos", "--host", "pi@board"), "give the absolute path of a folder"),
        (
            ("--pictures", "/photos", "--host", "pi@board", "--pipeline", "mine:same"),
            "no code is sent; run ardx bench on the board itself",
        ),
    ],
)
def test_options_that_do_not_go_together_are_a_sentence(
    make_model: Callable[..., Path],
    invoke: Callable[..., tuple[int, str, str]],
    given: tuple[str, ...],
    told: str,
) -> None:
    code, _, said = invoke("bench", make_model(), *given)
    assert code == 2
    assert told in " ".join(said.split())


def test_a_model_bound_to_a_batch_is_refused(
    made: Callable[..., Path],
    make_model: Callable[..., Path],
    make_card: Callable[..., ModelCard],
    walk: Run,
) -> None:
    made()
    with pytest.raises(InputError, match="the model takes batches of 4 alone, but pictures come"):
        walk(make_model("bound.onnx", batch=4, card=make_card(class_names=NAMES)))


def test_every_backend_walks_the_same_pictures(
    made: Callable[..., Path], tmp_path: Path, invoke: Callable[..., tuple[int, str, str]]
) -> None:
    out = tmp_path / "report.json"
    asked = ("--pictures", tmp_path / "photos", "--backend", "all", "--out", out)
    assert invoke("bench", made(), *asked, *QUICK)[0] == 0
    reports = [
        read_report(path) for path in tmp_path.glob("report*.json") if "-all" not in path.name
    ]
    assert len(reports) >= 2
    digests = {r.pictures.files_sha256 for r in reports if r.pictures}
    assert len(digests) == 1
    assert all(r.pictures is not None for r in reports)
