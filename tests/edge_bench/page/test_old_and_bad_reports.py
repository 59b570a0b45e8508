"""A page of an old report, of one that tells little, and of what cannot be read or written."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_bench.core.spec import Report
from edge_bench.files.report_file import read_report, write_report
from edge_bench.page.render import as_html, page_of

from .conftest import Invoke, Seen, Written

MakeReport = Callable[..., Report]
OLD = Path(__file__).parents[2] / "data" / "formats" / "0.1.0"


@pytest.mark.parametrize(("calls", "told"), [(129, False), (130, True)])
def test_no_percentile_is_claimed_of_too_few_calls(
    make_report: MakeReport, calls: int, told: bool
) -> None:
    report = make_report("1110", {"pgd": "1100"}, latency_ms=[5.0] * calls)
    (section,) = (s for s in page_of([report], []).sections if s.key == "verdict")
    assert ("95 of 100 calls" in section.paragraphs[0]) == told
    assert ("too few calls of 1 image were timed" in section.paragraphs[0]) != told
    (head,) = (head for head in section.headlines if head.name == "Latency, p95")
    assert (head.note == "of too few calls: 129 of 130") != told


def test_a_report_of_0_1_0_is_shown_without_the_words(invoke: Invoke, tmp_path: Path) -> None:
    out = tmp_path / "old.html"
    code, stdout, stderr = invoke(
        "report", OLD / "report.json", "--sets", OLD / "sets", "--html", out
    )
    assert (code, stdout, stderr) == (0, f"html: {out}\n", "")
    seen = Seen(out.read_text())
    assert seen.elements["img"] > 0
    assert "of before ardx kept" in seen.text
    assert "before</dt>" not in out.read_text()


def test_a_report_that_was_timed_alone_says_so(make_report: MakeReport) -> None:
    page = page_of([make_report()], [])
    assert "were not measured" in page.sections[0].paragraphs[0]
    assert as_html(page).count("not measured") > 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "expected --html, --md or --csv with a file, or - for stdout; give one"),
        (("--html", "-", "--csv", "-"), "expected a file each, came - twice"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    written: Written, invoke: Invoke, arguments: tuple[str, ...], sentence: str
) -> None:
    code, stdout, stderr = invoke("report", written.path, *arguments)
    assert (code, stdout) == (2, "")
    assert sentence in stderr


def test_nothing_is_written_where_one_of_the_outputs_cannot_be(
    written: Written, invoke: Invoke, tmp_path: Path
) -> None:
    page, folder = tmp_path / "page.html", tmp_path / "folder"
    folder.mkdir()
    code, stdout, stderr = invoke("report", written.path, "--html", page, "--csv", folder)
    assert (code, stdout, page.exists()) == (2, "", False)
    assert f"{folder}: expected the name of a file to write, found a folder" in stderr


def damaged(path: Path, how: str) -> str:
    text = path.read_text()
    if how == "edited":
        mask = json.loads(text)["clean_mask"]
        return text.replace(f'"clean_mask": "{mask}"', f'"clean_mask": "{"1" * len(mask)}"')
    return {"torn": text[: len(text) // 2], "other": '{"schema_version": 1, "a": 2}', "empty": ""}[
        how
    ]


@pytest.mark.parametrize("how", ["edited", "torn", "other", "empty"])
def test_a_bad_report_is_one_sentence_and_what_was_there_stays(
    written: Written, invoke: Invoke, tmp_path: Path, how: str
) -> None:
    out = tmp_path / "page.html"
    out.write_text("before")
    written.path.write_text(damaged(written.path, how))
    code, stdout, stderr = invoke("report", written.path, "--html", out)
    assert (code, stdout) == (2, "")
    assert stderr.startswith(f"error: {written.path}: ")
    assert stderr.count("\n") == 1
    assert out.read_text() == "before"


def test_sets_of_other_images_are_refused(
    written: Written, invoke: Invoke, make_set: Callable[..., Path], clean: NDArray[np.uint8]
) -> None:
    report = read_report(written.path)
    write_report(written.path, replace(report, images_sha256="d" * 64), force=True)
    code, _, stderr = invoke("report", written.path, "--sets", written.sets, "--html", "-")
    assert code == 2
    assert "expected the clean images of the report" in stderr
    write_report(written.path, report, force=True)
    code, _, stderr = invoke("report", written.path, "--sets", make_set("new"), "--html", "-")
    assert code == 2
    assert "--sets: none of new is in the report, which has " in stderr


def test_a_report_is_never_written_over(written: Written, invoke: Invoke) -> None:
    before = written.path.read_bytes()
    code, _, stderr = invoke("report", written.path, "--md", written.path)
    assert code == 2
    assert "which is read; name another file" in stderr
    assert written.path.read_bytes() == before


def test_without_the_library_a_sentence_names_the_extra(written: Written, tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "class Blocker:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'matplotlib': raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Blocker())\n"
        "from edge_bench.cli import app\n"
        "app(sys.argv[1:])\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, "report", written.path, "--html", tmp_path / "x.html"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 3
    assert ended.stderr == (
        "error: this command needs matplotlib, which is not installed here; install it: pip "
        "install 'ardx[report]'\n"
    )
