"""A history marks the changes that are real, and no others."""

from __future__ import annotations

import json
import re
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from edge_bench.compare.accuracies import INCONCLUSIVE, WORSE
from edge_bench.core.spec import Report
from edge_bench.explain.departures import Explanation
from edge_bench.files.report_file import read_report, write_report
from edge_bench.files.seals.content import sealed
from edge_bench.files.store import write_json
from edge_bench.history.series import latency_p_value, read_history, series_of
from edge_bench.report.compare import Comparison

from .walks import walked

Invoke = Callable[..., tuple[int, str, str]]
Write = Callable[..., Path]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def write(tmp_path: Path, make_report: Callable[..., Report]) -> Write:
    """Write a report as history/COMMIT/report.json, of a day, and of a mask under attack."""

    def make(
        commit: str, day: int, mask: Sequence[bool], latency_ms: float = 1.0, **fields: Any
    ) -> Path:
        rng = np.random.default_rng(day)
        text = "".join("1" if right else "0" for right in mask)
        report = make_report(
            "1" * len(text), {"pgd": text}, latency_ms=latency_ms * rng.uniform(0.98, 1.02, 400)
        )
        report = replace(report, created=f"2025-03-{day:02}T00:00:00+00:00", **fields)
        path = tmp_path / "history" / commit / "report.json"
        write_json(path, report, False)
        return path

    return make


def mask(right: int, count: int = 1000) -> list[bool]:
    return [at < right for at in range(count)]


def test_a_real_loss_is_marked_and_noise_is_not(
    write: Write, tmp_path: Path, invoke: Invoke
) -> None:
    # As names sort, d comes first; as commits were made, a does.
    write("d" * 40, 4, mask(561), 1.5)
    write("a" * 40, 1, mask(600))
    write("b" * 40, 2, mask(598))
    write("c" * 40, 3, mask(560))
    code, stdout, _ = invoke("trend", tmp_path / "history")
    assert code == 0
    lines = [line.split() for line in stdout.splitlines() if "2025-03" in line]
    assert [line[0] for line in lines] == [letter * 12 for letter in "abcd"]
    assert ["points" in line for line in lines] == [False, False, True, False]
    assert "worst case -3.8 points" in stdout
    assert re.search(r"p95 \+(4[6-9]|5[0-4]) %", " ".join(lines[3]))
    assert "real changes at cccccccccccc, dddddddddddd" in stdout
    assert "from the first to the last: worst case -3.9 points, p95 +" in stdout


def test_a_history_of_pictures_alone_is_of_the_way_from_file_to_logits(
    make_report: Callable[..., Report], tmp_path: Path, invoke: Invoke
) -> None:
    for day, wrong in enumerate((0, 1, 40), start=1):
        report = replace(
            make_report(),
            created=f"2025-03-{day:02}T00:00:00+00:00",
            pictures=walked(range(wrong)),
        )
        write_json(tmp_path / "history" / f"c{day}" / "report.json", report, False)
    page = tmp_path / "trend.svg"
    code, stdout, stderr = invoke("trend", tmp_path / "history", "--svg", page)
    assert (code, stderr) == (0, "")
    assert "path accuracy -9.8 points" in stdout
    assert "real changes at c3" in stdout
    told = [str(text.text) for text in ET.parse(page).iter(f"{SVG}text")]
    assert "file to logits: local, ort" in told
    assert "file to logits" in next(line for line in stdout.splitlines() if "commit" in line)
    shown = [line.split()[5:7] for line in stdout.splitlines() if "2025-03" in line]
    assert shown == [["100.0", "%"], ["99.8", "%"], ["90.0", "%"]]
    (points,) = json.loads(invoke("trend", tmp_path / "history", "--json")[1])["series"]
    assert [point["path_accuracy"] for point in points["points"]] == [1.0, 0.9975, 0.9]
    text = invoke("trend", tmp_path / "history", "--md", "-")[1]
    assert "| file to logits |" in text


def test_a_copy_beside_a_report_is_no_second_measurement(write: Write, tmp_path: Path) -> None:
    for day, commit in enumerate("ab", start=1):
        path = write(commit, day, mask(600))
        # As `bench --backend all` writes that of the fastest backend twice.
        write_report(path, read_report(path), True)
        (path.parent / "report-ort.json").write_bytes(path.read_bytes())
    # Equal answers at another time are one: what is counted once is a file, in its folder.
    path = write("c", 3, mask(600))
    write_report(path, read_report(path), True)
    (tmp_path / "history" / "d").mkdir()
    (tmp_path / "history" / "d" / "report.json").write_bytes(path.read_bytes())
    points = read_history(tmp_path / "history")
    assert [point.label for point in points] == ["a", "b", "c", "d"]
    assert {point.path.name for point in points} == {"report.json"}


def test_a_slow_decline_shows_from_the_first_to_the_last(write: Write, tmp_path: Path) -> None:
    for step in range(8):
        write(f"c{step}", step + 1, mask(600 - 4 * step))
    (series,) = series_of(read_history(tmp_path / "history"))
    assert [s.accuracy and s.accuracy.verdict for s in series.steps].count(WORSE) == 0
    assert series.overall is not None
    assert series.overall.accuracy is not None
    assert series.overall.accuracy.verdict == WORSE


def test_p_values_are_corrected_as_statsmodels_corrects_them(write: Write, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    masks = [rng.random(400) < level for level in (0.6, 0.53, 0.59, 0.45, 0.6, 0.52, 0.58)]
    for at, right in enumerate(masks):
        write(f"c{at}", at + 1, right)
    (series,) = series_of(read_history(tmp_path / "history"))
    assert series.overall is not None
    changes = [step.accuracy for step in (*series.steps, series.overall)]
    known = [change for change in changes if change is not None]
    rejected = multipletests([change.p_value for change in known], 0.05, method="holm")[0]
    alone = [change.interval[0] > 0 or change.interval[1] < 0 for change in known]
    assert [c.verdict in ("better", "worse") for c in known] == [
        bool(r and a) for r, a in zip(rejected, alone, strict=True)
    ]
    # The correction is what decided some of them.
    undecided = [c for c, a in zip(known, alone, strict=True) if a and c.verdict == INCONCLUSIVE]
    assert undecided
    assert any(rejected)


def test_where_nothing_changed_a_series_is_marked_in_at_most_5_of_100(
    tmp_path: Path, make_report: Callable[..., Report]
) -> None:
    from edge_bench.history.series import Point

    rng = np.random.default_rng(11)
    marked = 0
    for _ in range(100):
        points = []
        for at in range(6):
            text = "".join("1" if right else "0" for right in rng.random(200) < 0.55)
            report = make_report("1" * 200, {"pgd": text}, latency_ms=(1.0,) * 10)
            points.append(Point(label=str(at), path=tmp_path, report=report))
        (series,) = series_of(points)
        steps = [step.accuracy for step in series.steps]
        marked += any(c is not None and c.verdict in ("better", "worse") for c in steps)
    # Of Bin(100, 0.05), 11 or fewer in 98.9 of 100 cases.
    assert marked <= 11


def test_a_latency_s_p_value_is_that_of_its_interval(write: Write, tmp_path: Path) -> None:
    write("a", 1, mask(600), 1.0)
    write("b", 2, mask(600), 1.001)
    (series,) = series_of(read_history(tmp_path / "history"))
    change = series.steps[0].latency
    assert change is not None
    at_the_edge = replace(change, ratio=(1.1, 1.0, 1.21))
    assert latency_p_value(at_the_edge) == pytest.approx(0.05)
    assert latency_p_value(replace(change, ratio=(1.0, 1.0, 1.0))) == 1
    assert latency_p_value(replace(change, ratio=(1.1, 1.1, 1.1))) == 0


def test_devices_and_runtimes_are_told_apart(write: Write, tmp_path: Path, invoke: Invoke) -> None:
    path = write("a", 1, mask(600))
    write("b", 2, mask(600))
    other = json.loads(path.read_text(encoding="utf-8"))
    other["device"]["device"] = "jetson"
    text = json.dumps(sealed(Report, other))
    (path.parent / "jetson.json").write_text(text, encoding="utf-8")
    code, stdout, _ = invoke("trend", tmp_path / "history", "--json")
    assert code == 0
    told = json.loads(stdout)["series"]
    assert [(s["name"], len(s["points"]), len(s["steps"])) for s in told] == [
        ("jetson, ort", 1, 0),
        ("local, ort", 2, 1),
    ]
    assert told[1]["steps"][0]["is_real"] is False
    assert told[1]["points"][0]["worst_case"] == 0.6


def test_a_picture_has_commits_in_time_whichever_series_they_are_of(
    write: Write, tmp_path: Path, make_report: Callable[..., Report], invoke: Invoke
) -> None:
    board = replace(make_report().device, device="jetson")
    for day, name in enumerate(("one", "two", "three", "four"), start=1):
        write(name, day, mask(600), **({"device": board} if name in ("two", "three") else {}))
    out = tmp_path / "trend.svg"
    assert invoke("trend", tmp_path / "history", "--svg", out)[0] == 0
    texts = [text.strip() for text in ET.parse(out).getroot().itertext()]
    shown = [text for text in texts if text in ("one", "two", "three", "four")]
    assert shown == ["one", "two", "three", "four"]


def test_a_latency_on_another_board_is_not_compared(
    write: Write, tmp_path: Path, make_report: Callable[..., Report]
) -> None:
    write("a", 1, mask(600), 1.0)
    other = replace(make_report().device, cpu="another CPU")
    write("b", 2, mask(500), 2.0, device=other)
    (series,) = series_of(read_history(tmp_path / "history"))
    assert series.steps[0].latency is None
    assert series.steps[0].accuracy is not None
    assert series.steps[0].accuracy.verdict == WORSE


def test_the_pictures_are_described_and_the_same_each_time(
    write: Write, tmp_path: Path, invoke: Invoke
) -> None:
    write("first", 1, mask(600))
    write("<b>&$x_$", 2, mask(500), 2.0)
    for name in ("one", "two"):
        out = tmp_path / name
        code, _, _ = invoke(
            "trend", tmp_path / "history", "--svg", f"{out}.svg", "--html", f"{out}.html",
            "--md", f"{out}.md",
        )  # fmt: skip
        assert code == 0
    for ending in ("svg", "html", "md"):
        assert (tmp_path / f"one.{ending}").read_bytes() == (
            tmp_path / f"two.{ending}"
        ).read_bytes()
    root = ET.parse(tmp_path / "one.svg").getroot()
    assert root.attrib["role"] == "img"
    assert root[0].tag == f"{SVG}title"
    assert root[1].tag == f"{SVG}desc"
    assert "worst case -10.0 points" not in (root[1].text or "")
    assert "real changes at <b>&$x_$" in (root[1].text or "")
    texts = "".join(root.itertext())
    assert "real change for the worse" in texts
    assert "real change for the better" not in texts
    page = (tmp_path / "one.html").read_text(encoding="utf-8")
    assert "<b>" not in page
    assert "default-src 'none'" in page
    HTMLParser().feed(page)
    assert not re.findall(r"<(?:script|link|img|iframe|a) |url\((?!#)|@import", page)
    assert "| &lt;b\\>&amp;$x\\_$ |" in (tmp_path / "one.md").read_text(encoding="utf-8")


def test_what_bench_lays_beside_a_report_is_passed_over(
    write: Write, tmp_path: Path, invoke: Invoke
) -> None:
    path = write("a", 1, mask(600))
    write("b", 2, mask(600))
    explained = Explanation(
        artifact_sha256="a" * 64,
        layers=(),
        images=1,
        backend=read_report(path).backend,
        validated_with=read_report(path).backend,
        same_logits=True,
    )
    compared = Comparison(
        created="2025-03-01T00:00:00+00:00",
        ardx_version="0.2.0",
        artifact_sha256="a" * 64,
        batch_size=1,
        contenders=(),
        absent={},
    )
    write_json(path.with_name("report.explain.json"), explained, False)
    write_json(path.with_name("report-all.json"), compared, False)
    code, stdout, _ = invoke("trend", tmp_path / "history", "--json")
    assert code == 0
    (series,) = json.loads(stdout)["series"]
    assert [point["commit"] for point in series["points"]] == ["a", "b"]
    for report in list(tmp_path.rglob("report.json")):
        report.unlink()
    code, _, stderr = invoke("trend", tmp_path / "history")
    assert code == 2
    assert "found only what ardx bench lays beside them" in stderr


@pytest.mark.parametrize(
    "label", ["W" * 140, "中" * 60, r"$\frac$ " * 20], ids=["long", "cjk", "tex"]
)
def test_any_name_leaves_the_picture_its_room(
    write: Write, tmp_path: Path, invoke: Invoke, label: str
) -> None:
    """Warnings of matplotlib's are errors here, as that of a layout without room."""
    write(label, 1, mask(600))
    path = write("b", 2, mask(600))
    report = read_report(path)
    write_json(path, replace(report, device=replace(report.device, device=label)), True)
    out = tmp_path / "trend.svg"
    assert invoke("trend", tmp_path / "history", "--svg", out)[0] == 0
    texts = [text.strip() for text in ET.parse(out).getroot().itertext()]
    assert f"{label[:31]}…" in texts
    assert f"{'worst case: ' + label:.31}…" in texts


def test_one_report_is_a_history_too(write: Write, tmp_path: Path, invoke: Invoke) -> None:
    write("a", 1, mask(600))
    code, stdout, _ = invoke("trend", tmp_path / "history", "--md", "-")
    assert code == 0
    assert "1 reports of local, ort" in stdout


def test_what_is_no_history_is_refused(
    write: Write, tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "history"

    def refused(sentence: str, *arguments: object, code: int = 2) -> None:
        ended, stdout, stderr = invoke("trend", *arguments)
        assert (ended, stdout) == (code, "")
        assert sentence in stderr
        assert stderr.count("\n") == 1

    refused("expected a folder of reports", folder)
    folder.mkdir()
    refused("found none", folder)
    path = write("a", 1, mask(600))
    kept = tmp_path / "kept.svg"
    kept.write_text("mine", encoding="utf-8")
    refused("kept.svg exists already", folder, "--svg", kept)
    refused("--margin 0: expected", folder, "--margin", 0)
    text = path.read_text(encoding="utf-8")
    later = json.loads(text.replace("2025-03-01T", "soon"))
    path.write_text(json.dumps(sealed(Report, later)), encoding="utf-8")
    refused("expected a time such as", folder)
    path.write_text(text[:500], encoding="utf-8")
    refused("report.json", folder)
    path.write_text(text, encoding="utf-8")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    refused("pip install 'ardx[report]'", folder, "--svg", tmp_path / "new.svg", code=3)
    assert kept.read_text(encoding="utf-8") == "mine"
    assert not (tmp_path / "new.svg").exists()
