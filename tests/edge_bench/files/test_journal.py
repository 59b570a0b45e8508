"""A journal gives back what it was given, in order, up to the first damage, and nothing else."""

from __future__ import annotations

import json
import os
import resource
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_bench.core.errors import InputError
from edge_bench.files import journal as journals
from edge_bench.files.journal import Journal, ask_anew, journal_path

ASKED: dict[str, Any] = {"artefact": ["a" * 64, None], "set": [["pgd", (3, 8, 8)]], "runtime": "r"}
ANSWERS = [b"", b"\0" * 8, b"one", bytes(range(256)) * 9]


class Artefact:
    """Gives the next of ANSWERS, and counts how often it was asked."""

    def __init__(self, answers: list[bytes] | None = None) -> None:
        self.asked = 0
        self._answers = ANSWERS if answers is None else answers

    def question(self, number: int) -> Callable[[], bytes]:
        def ask() -> bytes:
            self.asked += 1
            return self._answers[number]

        return ask


def write(report: Path, until: int = len(ANSWERS), asked: dict[str, Any] | None = None) -> int:
    """Answer the first `until` questions; how many of them the artefact was asked."""
    artefact = Artefact()
    with Journal(report) as journal:
        journal.begin(asked or ASKED)
        found = [journal.answer(artefact.question(number)) for number in range(until)]
    assert found == ANSWERS[:until]
    return artefact.asked


@pytest.fixture
def report(tmp_path: Path) -> Path:
    return tmp_path / "report.json"


def test_without_a_journal_the_artefact_is_asked() -> None:
    assert ask_anew(Artefact().question(2)) == b"one"


@pytest.mark.parametrize("before", range(len(ANSWERS) + 1))
def test_what_was_answered_is_not_asked_again(report: Path, before: int) -> None:
    assert write(report, before) == before
    assert write(report) == len(ANSWERS) - before
    assert write(report) == 0


def test_the_journal_tells_how_it_began(report: Path) -> None:
    with Journal(report) as journal:
        assert journal.begin(ASKED) == ""
        journal.answer(lambda: b"one")
    with Journal(report) as journal:
        assert journal.begin(ASKED) == "goes on where it was interrupted"
    # Killed before the first answer: there is nothing to go on with.
    whole = journal_path(report).read_bytes()
    journal_path(report).write_bytes(whole[: -8 - len(b"one")])
    with Journal(report) as journal:
        assert journal.begin(ASKED) == ""


@pytest.mark.parametrize("name", ASKED)
def test_the_answers_of_another_run_are_not_taken_over(report: Path, name: str) -> None:
    write(report, asked={other: told for other, told in ASKED.items() if other != name})
    with Journal(report) as journal:
        assert journal.begin(ASKED).endswith(f"was of another {name}")
    write(report, asked=ASKED | {name: "another"})
    with Journal(report) as journal:
        begun = journal.begin(ASKED)
        assert begun == f"started over: what lay unfinished there was of another {name}"
        assert journal.answer(lambda: b"mine") == b"mine"
    assert write(report, 0) == 0
    with Journal(report) as journal:
        journal.begin(ASKED)
        assert journal.answer(lambda: b"asked again") == b"mine"


def test_a_journal_is_written_as_it_is_described(report: Path) -> None:
    """Else that of an interrupted run is lost with the next ardx."""
    write(report, 3)
    found, check = b"", 0
    for recorded in (json.dumps(ASKED, sort_keys=True).encode(), *ANSWERS[:3]):
        length = len(recorded).to_bytes(4, "little")
        check = zlib.crc32(length + recorded, check)
        found += length + check.to_bytes(4, "little") + recorded
    assert journal_path(report).read_bytes() == found


def test_every_torn_tail_is_cut_off(report: Path) -> None:
    write(report)
    whole = journal_path(report).read_bytes()
    ends = [len(whole) - sum(8 + len(a) for a in ANSWERS[n:]) for n in range(len(ANSWERS) + 1)]
    for size in range(len(whole) - 40, len(whole), 7):
        journal_path(report).write_bytes(whole[:size])
        kept = sum(end <= size for end in ends) - 1
        assert write(report) == len(ANSWERS) - kept, size
        assert journal_path(report).read_bytes() == whole
    for size in range(0, ends[1] + 1, 13):
        journal_path(report).write_bytes(whole[:size])
        assert write(report) >= len(ANSWERS) - 1
        assert journal_path(report).read_bytes() == whole


def test_a_flipped_bit_ends_what_is_believed(report: Path) -> None:
    write(report)
    whole = journal_path(report).read_bytes()
    for place in range(0, len(whole), 37):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        journal_path(report).write_bytes(damaged)
        assert write(report) > 0
        assert journal_path(report).read_bytes() == whole


@pytest.mark.parametrize("tail", [b"\0" * 4096, b"\xff" * 4096])
def test_what_a_power_cut_leaves_behind_the_end_is_no_answer(report: Path, tail: bytes) -> None:
    write(report, 2)
    with journal_path(report).open("ab") as file:
        file.write(tail)
    assert write(report) == 2


def test_whole_records_of_an_older_journal_are_no_answers(report: Path) -> None:
    """As where the disk kept the blocks of what had been cut off."""
    write(report, asked=ASKED | {"runtime": "s"})
    older = journal_path(report).read_bytes()
    write(report, 1)
    at = journal_path(report).stat().st_size
    with journal_path(report).open("ab") as file:
        file.write(older[at:])
    assert write(report) == len(ANSWERS) - 1


def test_two_runs_of_one_report_are_refused(report: Path) -> None:
    with Journal(report) as first:
        first.begin(ASKED)
        with pytest.raises(InputError, match=r"report\.json: another process is writing"):
            write(report)
        first.answer(lambda: b"one")
    write(report, 0)


def test_a_journal_without_answers_is_removed(report: Path) -> None:
    with Journal(report):
        pass
    with Journal(report) as journal:
        journal.begin(ASKED)
    assert list(report.parent.iterdir()) == []


def test_a_run_that_fails_before_it_begins_keeps_what_was_there(report: Path) -> None:
    write(report)
    with Journal(report):
        pass
    assert write(report) == 0


def test_a_finished_report_ends_its_journal(report: Path) -> None:
    with Journal(report) as journal:
        journal.begin(ASKED)
        journal.answer(lambda: b"one")
        report.write_text("{}")
        journal.close_for(report)
    assert [path.name for path in report.parent.iterdir()] == ["report.json"]


@pytest.mark.parametrize("room", [0, 100, 300])
def test_a_full_disk_names_the_report_and_keeps_what_was_answered(
    report: Path, room: int, room_for: Callable[[int], None]
) -> None:
    begun = room == 300
    room_for(room)
    with pytest.raises(OSError, match="too large") as caught:
        write(report)
    room_for(resource.RLIM_INFINITY)
    assert caught.value.filename == str(report)
    assert journal_path(report).exists() == begun
    assert (write(report) < len(ANSWERS)) == begun


def test_a_place_where_nothing_may_be_written_is_named(tmp_path: Path) -> None:
    # A file where the folder would be: nobody, not even root, can write into it.
    (tmp_path / "folder").write_text("")
    report = tmp_path / "folder" / "report.json"
    with pytest.raises(OSError, match=r"exists|Not a directory") as caught:
        write(report)
    assert caught.value.filename == str(report)


@pytest.mark.parametrize(
    ("batch_ms", "sync_ms", "expected"),
    [
        (1000, 5, 100),  # a batch takes as long as it may be unsynced: each is
        (20, 1, 10),
        (10, 100, 0),
        (1000, 1000, 3),  # however long a sync takes, at most half a minute is lost
        (1, 0, 100),  # a clock that stands still
        (-1, 1, 100),  # one that goes back
    ],
)
def test_syncs_follow_slow_batches_and_take_little_of_fast_ones(
    report: Path, monkeypatch: pytest.MonkeyPatch, batch_ms: int, sync_ms: int, expected: int
) -> None:
    now, syncs = 0, 0

    def ask() -> bytes:
        nonlocal now
        now += batch_ms * 10**6
        return b"bits"

    def sync(handle: int) -> None:
        nonlocal now, syncs
        now += sync_ms * 10**6
        syncs += 1

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(journals, "sync_folder", lambda folder: None)
    with Journal(report, clock=lambda: now) as journal:
        journal.begin(ASKED)
        syncs = 0
        for _ in range(100):
            journal.answer(ask)
    assert syncs == pytest.approx(expected, abs=1)


def test_what_is_recorded_is_synced_when_asked_for(
    report: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    monkeypatch.setattr(os, "fsync", lambda handle: sizes.append(os.fstat(handle).st_size))
    with Journal(report, clock=iter(range(0, 10**9, 100)).__next__) as journal:
        journal.begin(ASKED)
        journal.answer(lambda: b"one")
        journal.sync()
        assert sizes[-1] == journal_path(report).stat().st_size
