"""The check of promises sees what does not hold, and its page says what it counted."""

from __future__ import annotations

import os
import shutil
import time
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pytest

from benchmarks.documents import filled
from benchmarks.lines import ROOT
from benchmarks.reliability import damage, others, power
from benchmarks.reliability.outcome import counted
from benchmarks.reliability.run import Asked, steps
from benchmarks.reliability.table import PAGE, body, rows

OLD = Path(__file__).parents[1] / "data" / "formats" / "0.1.0"


def test_the_page_says_what_the_lines_say() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert filled(text, body) == text, "run python -m benchmarks.reliability.table"


def test_the_tests_that_it_counts_are_there() -> None:
    named = [others.NUMERICAL, *(words for _, words in others.TESTS.values())]
    assert [word for words in named for word in words if not (ROOT / word).exists()] == []


def test_rows_add_up_what_was_tried_and_tell_what_failed() -> None:
    lines = [
        counted("It holds", "a flip", name, found).line()
        for name, found in (("reports", [None, None]), ("sets", [None, "bit 3: a|b"]))
    ]
    assert rows(lines)[1:] == [
        ["It holds", "a flip", "reports, sets", "4", "3", "sets: bit 3: a/b"],
    ]


def test_a_power_cut_keeps_what_was_synced_and_nothing_else(tmp_path: Path) -> None:
    begin_ns = time.time_ns() - 10**9
    synced = {}
    for name in ("synced", "grown", "never", "before"):
        path = tmp_path / name
        path.write_bytes(b"four")
        found = path.stat()
        if name in ("synced", "grown"):
            synced[found.st_dev, found.st_ino] = found.st_size, found.st_mtime_ns
    (tmp_path / "grown").write_bytes(b"four and more")
    later = time.time_ns() + 10**9
    os.utime(tmp_path / "grown", ns=(later, later))
    os.utime(tmp_path / "before", ns=(0, 0))
    power._drop(tmp_path, begin_ns, synced)
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert sizes == {"synced": 4, "grown": 4, "never": 0, "before": 4}


@pytest.mark.parametrize(
    ("content", "expected"), [(b"bytes that it refuses", damage.REFUSED), (None, "ValueError: no")]
)
def test_a_crash_is_told_from_a_refusal(
    tmp_path: Path, content: bytes | None, expected: str
) -> None:
    material = tmp_path / "material"
    material.mkdir()
    shutil.copyfile(OLD / "report.json", material / "report.json")

    def crash(path: Path) -> object:
        raise ValueError("no")

    read = damage._report if content else crash
    kind = damage.Readable(name="report", file="report.json", read=read)
    given = content or (material / "report.json").read_bytes()
    assert damage._read(kind, material, tmp_path / "place", given) == expected


def test_every_step_can_be_handed_to_a_process(tmp_path: Path) -> None:
    found = steps(tmp_path, Asked(kills=1, flips=1, seconds=1.0, seed=0, only=""))
    assert len(found) > 90
    ForkingPickler.dumps(found)
