"""How costs grow: cases that run, lines that are not run again, and a page from its lines alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ard.processes.world import ALONE
from benchmarks.documents import filled
from benchmarks.lines import recorded
from benchmarks.scale import case, hosts, report, run

from ..loopback import SSHD


@pytest.mark.parametrize("what", ["evaluate", "attack", "step", "ranking"])
def test_a_case_is_measured(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(case, "STEPS", 2)
    monkeypatch.setattr(case, "STEP_BATCH", 16)
    found = case.measured(what, 4, ALONE, tmp_path, 2)
    assert all(len(values) == 2 for values in found.values())
    assert min(found["cpu_s"]) > 0
    assert min(found["peak_mib"]) > 10


def test_boards_on_the_loopback_are_measured() -> None:
    if SSHD is None:
        pytest.skip("no sshd here: apt-get install openssh-server openssh-client")
    assert hosts.measured(2, 1)["clock_s"][0] > 0


def test_what_has_a_line_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = tmp_path / "lines.jsonl"
    monkeypatch.setattr(run, "CASES", (("ranking", 10, 1), ("ranking", 12, 1)))
    asked: list[run.Case] = []

    def done(case: run.Case, times: int) -> dict[str, Any]:
        asked.append(case)
        return {"cpu_s": [0.5] * times}

    monkeypatch.setattr(run, "done", done)
    run.main(lines, 2, "ranking 10")
    assert recorded(lines)["ranking 10 by 1"]["cpu_s"] == [0.5, 0.5]
    run.main(lines, 2)
    assert asked == [("ranking", 10, 1), ("ranking", 12, 1)]


def test_a_case_is_started_and_read() -> None:
    assert run.done(("ranking", 10, 1), 2)["cpu_s"][1] > 0


def made(seconds: dict[tuple[str, int, int], float]) -> report.Lines:
    return {
        run.name_of(case): {run.seconds_of(case[0]): [value] * 3, "peak_mib": [100.0]}
        for case, value in seconds.items()
    }


def test_exponents_are_those_of_the_growth() -> None:
    linear = {("evaluate", size, 1): 0.002 * size for size in run.IMAGES}
    squared = {("attack", size, 1): 1e-6 * size**2 for size in run.IMAGES}
    rows = {row[0]: row for row in report.images_rows(made(linear | squared))}
    assert rows["`evaluate`, s"][1:] == ["0.2", "0.632", "2", "6.32", "20", "1.00"]
    assert rows["`attack`, s"][-1] == "2.00"


def test_boards_are_timed_by_the_clock() -> None:
    (_, row) = report.hosts_rows(made({("hosts", count, 1): 1.5 * count for count in run.HOSTS}))
    assert row == ["s", "1.5", "6", "24", "96", "1.00"]


def test_work_is_dealt_in_whole_batches_and_ranking_is_not_shared() -> None:
    seconds = {("passes", 0, 1): 0.8, ("passes", 1, 1): 2.4, ("ranking", 1000, 1): 3.6}
    rows = {row[0]: row[1:] for row in report.imagenet_rows(made(seconds))}
    # 250 images of 20 times 0.3 s and twice 0.1 s; 200 batches are 25, 4 and 1 turns.
    assert rows["PGD-20, 50,000 images"] == [
        report.hours(turns * 250 * 6.2) for turns in (200, 25, 4, 1)
    ]
    ranking = rows["of which ranking"]
    assert ranking == [ranking[0]] * 4
    assert ranking[0] == report.hours(1_281_167 // 128 * 3.6)


def test_the_page_says_what_the_committed_lines_say() -> None:
    text = report.PAGE.read_text(encoding="utf-8")
    assert filled(text, report.maker(recorded(run.LINES))) == text
