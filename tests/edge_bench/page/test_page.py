"""What the page tells is what masks, answers and pictures say, and nothing in it runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from base64 import b64decode
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from edge_bench.core.series import Samples, Series, Telemetry, encode_series, series_array
from edge_bench.core.spec import Report
from edge_bench.files.report_file import write_report
from edge_bench.files.seals.content import content_sha256
from edge_bench.files.sets import open_sets
from edge_bench.page.facts import WORST, accuracies, per_class
from edge_bench.page.parts import Page, listed, shown
from edge_bench.page.render import as_html, as_markdown, page_of
from edge_bench.page.robust import turned
from edge_bench.page.speed import throttle_times
from edge_bench.statistics.metrics import decode_mask

from .conftest import HOSTILE, Seen, Written, sensors

MakeReport = Callable[..., Report]
OLD = Path(__file__).parents[2] / "data" / "formats" / "0.1.0"
ORDER = [
    *("verdict", "threats", "attacks", "classes", "speed", "changes", "gallery", "lineage"),
    "doubts",
]


@pytest.fixture(scope="module")
def drawn_once() -> list[Page]:
    """The page of `written`, which is the same for every test, once one has drawn it."""
    return []


@pytest.fixture
def page(written: Written, drawn_once: list[Page]) -> Page:
    if not drawn_once:
        drawn_once.append(page_of([written.report], open_sets(written.sets)))
    return drawn_once[0]


# --- what is told ----------------------------------------------------------------------------


def test_sections_come_in_the_order_of_a_reader_s_questions(page: Page) -> None:
    assert [section.key for section in page.sections] == ORDER
    html = as_html(page)
    assert [html.index(f'<section id="{key}"') for key in ORDER] == sorted(
        html.index(f'<section id="{key}"') for key in ORDER
    )


def test_accuracies_are_those_of_the_masks_and_classes_those_of_the_labels(
    written: Written, labels: NDArray[np.int64]
) -> None:
    report = written.report
    masks = {s.name: np.array(list(s.mask)) == "1" for s in report.sets}
    clean = np.array(list(report.clean_mask or "")) == "1"
    worst = np.logical_and.reduce([clean, *masks.values()])
    expected = {"clean": clean, **masks, WORST: worst}
    found = {fact.name: fact.value for fact in accuracies(report)}
    assert found == {name: pytest.approx(mask.mean()) for name, mask in expected.items()}
    for label, (of_clean, of_worst) in zip(np.unique(labels), per_class(report), strict=True):
        assert of_clean.name == HOSTILE[label]
        assert of_clean.value == pytest.approx(clean[labels == label].mean())
        assert of_worst is not None
        assert of_worst.value == pytest.approx(worst[labels == label].mean())
        assert of_worst.samples == (labels == label).sum()


def test_the_worst_class_is_named(page: Page, written: Written) -> None:
    worst = [fact for _, fact in per_class(written.report) if fact is not None]
    least = min((fact.value, fact.name) for fact in worst)
    sentence = page.sections[ORDER.index("classes")].paragraphs[0]
    named = next(fact for fact in worst if shown(fact.name) in sentence)
    assert named.value == least[0]


def test_an_attack_on_survivors_turned_only_what_it_tried(make_report: MakeReport) -> None:
    report = make_report("1111100", {"pgd": "1110000", "square": "1000000"})
    square = report.sets[1]
    manifest = replace(square.manifest, attacked="survivors")
    report = replace(report, sets=(report.sets[0], replace(square, manifest=manifest)))
    assert np.flatnonzero(turned(report)["pgd"]).tolist() == [3, 4]
    assert np.flatnonzero(turned(report)["square"]).tolist() == [1, 2]
    told = page_of([report], []).sections[ORDER.index("attacks")].paragraphs
    assert told[1].endswith("counted together with them: square.")


@pytest.mark.parametrize(
    ("relation", "threat", "has_gradients"),
    [
        ("its parent", "white-box", False),
        ("this artefact", "white-box", True),
        ("this artefact", "bpda", True),
        ("another model", "bpda", False),
    ],
)
def test_scores_of_this_very_artefact_are_no_gradients_of_it(
    make_report: MakeReport, relation: str, threat: str, has_gradients: bool
) -> None:
    report = make_report("1111", {"pgd": "1110", "square": "1100"})
    kinds = ((relation, threat), ("this artefact", "black-box"))
    sets = tuple(
        replace(s, relation=relation, manifest=replace(s.manifest, threat=threat))
        for s, (relation, threat) in zip(report.sets, kinds, strict=True)
    )
    points = page_of([replace(report, sets=sets)], []).sections[ORDER.index("threats")].points
    assert ("none of the sets was crafted so" in " ".join(points)) != has_gradients
    assert "by scores alone" not in " ".join(points)
    assert "another model" not in " ".join(points)


def test_figures_are_told_in_full(page: Page) -> None:
    """No power of ten for a small uncertainty, and no row of rails where there is one alone."""
    (energy,) = (h for h in page.sections[0].headlines if h.name == "Energy an image")
    assert re.fullmatch(r"[\d.]+ to [\d.]+ mJ, above idle", energy.note)
    rows = [row for table in page.sections[ORDER.index("speed")].tables for row in table.rows]
    assert [row for row in rows if "" in row] == []


def test_a_tile_shows_the_pictures_of_the_set_and_the_words_of_the_report(
    page: Page, written: Written
) -> None:
    opened = {one.name: one for one in open_sets(written.sets)}
    tiles = page.sections[ORDER.index("gallery")].tiles
    flips = sum(int(mask.sum()) for mask in turned(written.report).values())
    assert 0 < len(tiles) == min(60, flips)
    for tile in tiles:
        name, index = re.fullmatch(r"(.*), sample (\d+)", tile.title).groups()  # type: ignore[union-attr]
        at = int(index)
        for address, image in (
            (tile.clean, opened[name].clean[at]),
            (tile.perturbed, opened[name].images[at]),
        ):
            stored = np.asarray(Image.open(BytesIO(b64decode(address.partition(",")[2]))))
            assert (stored.transpose(2, 0, 1) == image).all()
        # Grey where nothing changed, white where the perturbed one is brighter by the most.
        change = opened[name].images[at].astype(float) - opened[name].clean[at]
        drawn = np.asarray(Image.open(BytesIO(b64decode(tile.difference.partition(",")[2]))))
        expected = 127.5 + 127.5 * change / np.abs(change).max()
        assert np.abs(drawn.transpose(2, 0, 1) - expected).max() <= 1
        result = next(s for s in written.report.sets if s.name == name)
        assert decode_mask(written.report.clean_mask or "")[at]
        assert not decode_mask(result.mask)[at]
        assert result.answers is not None
        assert tile.after is not None
        assert tile.after.name == shown(HOSTILE[series_array(result.answers.predicted)[at]])
        sure = series_array(result.answers.confidence)[at] / 100
        assert tile.after.confidence == f"{sure:.0f} %"
        assert tile.before is not None
        assert tile.label == tile.before.name != tile.after.name


def test_throttling_is_marked_when_it_begins() -> None:
    assert throttle_times(sensors()) == [5.0]


@pytest.mark.parametrize(
    ("flags", "began"),
    [
        ([0, 8, 8, 4, 4, 0], [1.0, 3.0]),
        ([0, 2, 1, 3], [1.0, 2.0, 3.0]),
        ([0, 0, 0x40000, 0x40000], [2.0]),
        ([0, 0x80008, 0x80000, 0x80008], [1.0, 3.0]),
        ([0, 8, 0x80008, 0x80000], [1.0]),
        ([0xF0000, 0xF0000, 0xF0004], [2.0]),
        ([5, 5], [0.0]),
    ],
)
def test_each_bit_that_is_new_marks_a_moment(flags: list[int], began: list[float]) -> None:
    """Also one that says that it has occurred, between two readings; not since boot."""
    times = encode_series(1_000_000 * index for index in range(len(flags)))
    series = Series(quantity="flags", name="throttled", values=encode_series(flags))
    samples = Samples(period_us=1_000_000, time_us=times, series=(series,))
    assert throttle_times(Telemetry(samples=(samples,), phases=())) == began


@pytest.mark.parametrize(
    ("quantity", "values", "began"),
    [
        # What was counted before the first reading is of any time since boot; a state is of now.
        ("events", [3, 3, 5, 5, 6], [2.0, 4.0]),
        ("state", [1, 1, 0, 2, 3, 1], [0.0, 3.0, 4.0]),
    ],
)
def test_more_events_and_a_higher_state_mark_a_moment(
    quantity: str, values: list[int], began: list[float]
) -> None:
    times = encode_series(1_000_000 * index for index in range(len(values)))
    series = Series(quantity=quantity, name="oc1", values=encode_series(values))
    samples = Samples(period_us=1_000_000, time_us=times, series=(series,))
    assert throttle_times(Telemetry(samples=(samples,), phases=())) == began


def test_every_figure_has_a_title_a_description_and_a_table(page: Page) -> None:
    seen = Seen(as_html(page))
    figures = [figure for section in page.sections for figure in section.figures]
    assert {f.title for f in figures} >= {"Power over the run", "Clocks over the run"}
    for figure in figures:
        assert figure.table.rows
        assert all(len(row) == len(figure.table.header) for row in figure.table.rows)
        assert re.match(r'<svg role="img" aria-labelledby="\S+ \S+" [^>]*><title ', figure.svg)
        assert "<desc " in figure.svg
    assert seen.elements["svg"] == len(figures)
    names = [value for name, value in seen.attributes if name == "id"]
    assert len(names) == len(set(names))


def test_what_was_not_tried_is_said(page: Page) -> None:
    points = " ".join(page.sections[ORDER.index("threats")].points)
    for missing in ("adapts to this very file", "by scores alone", "L2", "above L-inf 16/255"):
        assert missing in points


def test_markdown_holds_the_same_tables(page: Page) -> None:
    text = as_markdown(page)
    assert text.count("\n## ") == len(ORDER)
    assert "<script" not in text
    tables = [t for s in page.sections for t in s.tables]
    tables += [figure.table for section in page.sections for figure in section.figures]
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == sum(len(t.rows) + 2 for t in tables) + 2 + len(page.sections[0].headlines)


# --- safe and the same -----------------------------------------------------------------------


def test_names_that_are_markup_stay_text(page: Page) -> None:
    html = as_html(page)
    seen = Seen(html)
    assert not {"script", "iframe", "object", "embed", "b>", "base", "form"} & set(seen.elements)
    for name, value in seen.attributes:
        assert not name.startswith("on")
        assert name != "style"
        if name in ("src", "href"):
            assert value.startswith(("data:", "#"))
    assert "<script>alert(1)</script>" in seen.text
    assert not [c for c in html if not c.isprintable() and c != "\n"]
    policy = next(v for n, v in seen.attributes if n == "content" and "default-src" in v)
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("a\x1b[2J", "a\\x1b[2J"),
        ("a\nb", "a\\nb"),
        ("\u202eevil", "\\u202eevil"),
        ("x" * 99, "x" * 71 + "…"),
    ],
)
def test_a_name_is_shown_without_characters_that_act(text: str, safe: str) -> None:
    assert shown(text) == safe


def test_a_long_list_of_samples_is_cut() -> None:
    assert listed([]) == "none"
    assert listed([3, 5]) == "3, 5"
    assert listed(list(range(1041))).endswith("39 and 1,001 more")


def test_the_same_report_gives_the_same_bytes(written: Written, tmp_path: Path) -> None:
    texts = set()
    for seed in ("1", "2"):
        out = tmp_path / f"{seed}.html"
        files = map(str, (written.path, "--sets", written.sets, "--html", out))
        command = [sys.executable, "-m", "edge_bench", "report", *files]
        environment = {"PYTHONHASHSEED": seed, "PATH": "", "HOME": str(tmp_path)}
        environment["MPLCONFIGDIR"] = str(tmp_path)
        subprocess.run(command, check=True, env=environment, capture_output=True)
        texts.add(out.read_bytes())
    assert len(texts) == 1


# --- sizes -----------------------------------------------------------------------------------


def test_a_page_with_sixty_tiles_of_noise_stays_below_a_megabyte(
    make_report: MakeReport, make_set: Callable[..., Path]
) -> None:
    rng = np.random.default_rng(0)
    clean = rng.integers(8, 248, (80, 3, 32, 32), dtype=np.uint8)
    moved = (clean + rng.integers(-8, 9, clean.shape)).astype(np.uint8)
    labels = np.zeros(80, dtype=np.int64)
    (opened,) = open_sets(make_set("noise", images=moved, clean=clean, labels=labels))
    report = make_report("1" * 80, {"noise": "0" * 80}, images_sha256=opened.images_sha256)
    result = replace(report.sets[0], manifest=opened.manifest)
    page = page_of([replace(report, sets=(result,))], [opened])
    assert len(page.sections[ORDER.index("gallery")].tiles) >= 50
    assert len(as_html(page).encode()) < 10**6


def test_a_report_of_a_million_samples_is_shown_within_its_limits(
    make_report: MakeReport, tmp_path: Path
) -> None:
    half = 500_000
    report = make_report("10" * half, {"a": "10" * half, "b": "01" * half})
    answers_text = "0" + " 1 -1" * (half - 1) + " 1"
    data = json.loads(write_and_read(report, tmp_path / "plain.json"))
    data["labels"] = "0" + " 0" * (2 * half - 1)
    told = {"predicted": answers_text, "confidence": "9000" + " 0" * (2 * half - 1)}
    data["clean_answers"] = told
    for one in data["sets"]:
        one["answers"] = told
    path, out = tmp_path / "big.json", tmp_path / "big.html"
    data["content_sha256"] = content_sha256(data)
    path.write_text(json.dumps(data))
    script = (
        "import sys, time\n"
        "begin = time.process_time()\n"
        "from edge_bench.cli import app\n"
        "app(sys.argv[1:], standalone_mode=False)\n"
        "from edge_bench.devices.process import peak_memory_bytes\n"
        "print(time.process_time() - begin, peak_memory_bytes())\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, "report", path, "--html", out],
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, peak = ended.stdout.split()[-2:]
    assert int(peak) < 300 * 2**20
    assert out.stat().st_size < 3 * 10**6
    # Of the processor's time; the limit of 5 s is for a machine with nothing else to do.
    assert float(seconds) < 10


def write_and_read(report: Report, path: Path) -> str:
    write_report(path, report, force=True)
    return path.read_text()
