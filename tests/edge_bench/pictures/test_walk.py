"""Pictures from file to logits, against a plain loop of Pillow and ONNX Runtime."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from edge_bench.core.errors import CapabilityError, InputError
from edge_bench.core.pictures.preprocessing import Preprocessing, preprocessing_of
from edge_bench.core.series import series_array
from edge_bench.core.spec import ModelCard, Report
from edge_bench.files.report_file import read_report
from edge_bench.options.bench import BenchOptions
from edge_bench.options.pictures import PictureOptions
from edge_bench.pictures.pipelines import PIPELINES, Wish, open_way
from edge_bench.runs.one_run import run
from edge_bench.statistics.path import path_gap, path_gaps, stage_ns, worst_gap

NAMES = ("ant", "bee", "fly", "moth")
SIDE, EACH = 8, 10
QUICK = (
    *("--runs", "3", "--seconds", "0", "--warmup", "0", "--settle-seconds", "0"),
    *("--threads", "1"),
)
SWAPPED = """
import numpy as np
from PIL import Image

def same(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB").resize((8, 8), Image.Resampling.BILINEAR))

def swapped(path):
    return same(path)[..., ::-1]

def planes(path):
    return (same(path).transpose(2, 0, 1) / np.float32(255)).astype(np.float32)

def wide(path):
    return np.zeros((8, 9, 3), dtype=np.uint8)

def broken(path):
    raise KeyError("lens\\ncap")
"""

Run = Callable[..., Report]


def draw(seed: int) -> NDArray[np.uint8]:
    """Smooth colours of any size, so that resizing leaves something of them."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    size = int(rng.integers(20, 40)), int(rng.integers(20, 40))
    return np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC))


@cache
def session_of(model: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


def reference(model: Path, path: Path, how: Preprocessing | None) -> int:
    """The class of a picture by Pillow and ONNX Runtime alone."""
    with Image.open(path) as opened:
        picture = ImageOps.exif_transpose(opened).convert("RGB")
    if how is not None and how.policy == "crop":
        side = how.crop_share * min(picture.size)
        left, top = (picture.width - side) / 2, (picture.height - side) / 2
        box = (left, top, left + side, top + side)
        picture = picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box)
    elif how is not None:
        picture = picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    image = np.asarray(picture).transpose(2, 0, 1)[None] / np.float32(255)
    session = session_of(model)
    return int(session.run(None, {"images": image.astype(np.float32)})[0].argmax())


@pytest.fixture
def colours(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weights that look at colours, and give every class its share of them."""
    tints = np.array([[2, -1, -1], [-1, 2, -1], [-1, -1, 2], [1, 1, -2]], dtype=np.float32)
    spread = np.broadcast_to(tints[:, :, None], (len(weight), 3, SIDE * SIDE))
    found: NDArray[np.float32] = spread.reshape(len(weight), -1) + 0.3 * weight
    return found.astype(np.float32)


@pytest.fixture
def made(
    tmp_path: Path,
    make_model: Callable[..., Path],
    make_card: Callable[..., ModelCard],
    colours: NDArray[np.float32],
) -> Callable[..., Path]:
    """A model whose card says how pictures become images, and the folder `photos` beside it."""

    def make(how: Preprocessing | None = None, **fields: Any) -> Path:
        how = how or preprocessing_of(SIDE, None)
        card = make_card(preprocessing=how, class_names=NAMES, **fields)
        model = make_model(card=card, weight=colours)
        counts = dict.fromkeys(NAMES, 0)
        for seed in range(400):
            path = tmp_path / f"{seed}.{'jpg' if seed % 3 else 'png'}"
            exif = Image.Exif()
            exif[0x0112] = 1 + seed % 8
            Image.fromarray(draw(seed)).save(path, exif=exif)
            name = NAMES[reference(model, path, how)]
            if counts[name] == EACH:
                path.unlink()
                continue
            # Every fifth lies in another folder than the model would put it.
            wrong = counts[name] % 5 == 0
            folder = NAMES[(NAMES.index(name) + 1) % len(NAMES)] if wrong else name
            (tmp_path / "photos" / folder).mkdir(parents=True, exist_ok=True)
            path.rename(tmp_path / "photos" / folder / path.name)
            counts[name] += 1
        assert set(counts.values()) == {EACH}
        return model

    return make


@pytest.fixture
def walk(tmp_path: Path, quick: Callable[..., BenchOptions]) -> Run:
    def go(model: Path, pipeline: str = "pillow", folder: str = "photos") -> Report:
        asked = PictureOptions(folder=tmp_path / folder, pipeline=pipeline)
        return run(model, [], quick(pictures=asked))

    return go


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of the user's in the working folder."""
    (tmp_path / "mine.py").write_text(SWAPPED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)


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


def test_opencv_decodes_and_resizes_otherwise(made: Callable[..., Path], walk: Run) -> None:
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    walked = walk(made(), "opencv").pictures
    assert walked is not None
    assert walked.versions["opencv"] == cv2.__version__
    gap = path_gap(walked)
    assert gap is not None
    # Other pixels, and yet the same pictures the right way up, in the right colours.
    assert -0.3 < gap.gap < 0.3
    assert gap.changed < 20


@pytest.mark.parametrize("policy", ["stretch", "pad", "crop", "crop:0.8"])
@pytest.mark.parametrize("channels", [1, 3])
def test_opencv_makes_all_but_the_same_image_of_a_smooth_picture(
    tmp_path: Path, policy: str, channels: int
) -> None:
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    slope = np.linspace(0, 200, 40)[:, None, None] * np.ones((40, 30, 3)) + [0, 20, 50]
    Image.fromarray(slope.astype(np.uint8)).save(tmp_path / "p.png")
    wish = Wish(preprocessing=preprocessing_of(16, policy), channels=channels)
    images = []
    for name in PIPELINES:
        value: Any = None
        for _, step in open_way(name, wish).steps:
            value = step(value, tmp_path / "p.png")
        images.append(np.asarray(value).astype(int))
    assert images[0].shape == images[1].shape
    # A whole pixel of the picture is what a crop may differ by.
    assert np.abs(images[0] - images[1]).max() <= 8


def test_libraries_that_are_missing_are_named(
    made: Callable[..., Path], walk: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = made()
    for module, mend in (("cv2", "headless"), ("PIL", r"ardx\[pictures")):
        pipeline = "opencv" if module == "cv2" else "pillow"
        monkeypatch.setattr(
            "edge_bench.backends.packages.find_spec",
            lambda name, gone=module: None if name == gone else object(),
        )
        with pytest.raises(
            CapabilityError, match=f"--pipeline {pipeline}: .*; pip install .*{mend}"
        ):
            walk(model, pipeline)


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize(
    ("pipeline", "told"),
    [
        ("libvips", "--pipeline libvips: expected pillow, opencv, or MODULE:FUNCTION of yours"),
        ("yours:load", "--pipeline yours:load: there is no module yours in the working folder"),
        ("mine:load", "mine.py has no function load; expected one of same, swapped, planes"),
        ("json:load", "--pipeline json:load: json is a module of Python itself"),
        ("mine:broken", r"failed on .*\.(png|jpg) with KeyError \('lens"),
        ("mine:wide", r"expected 8x8x3 .* came \(8, 9, 3\) of uint8; resize it to that"),
    ],
)
def test_a_pipeline_that_cannot_be_is_a_sentence(
    made: Callable[..., Path], walk: Run, pipeline: str, told: str
) -> None:
    with pytest.raises(InputError, match=told):
        walk(made(), pipeline)


def grey(path: Path) -> None:
    Image.fromarray(draw(1)).convert("L").save(path)


def palette(path: Path) -> None:
    Image.fromarray(draw(1)).convert("P").save(path)


def deep(path: Path) -> None:
    Image.fromarray(np.full((9, 9), 40_000, dtype=np.uint16)).save(path)


def truncated(path: Path) -> None:
    Image.fromarray(draw(1)).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:-200])


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
