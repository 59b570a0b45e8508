"""A benchmark that is stopped anywhere goes on, and reports what it would have reported."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_bench.backends.ort import OrtBackend
from edge_bench.core.errors import InputError
from edge_bench.core.spec import AttackSpec, ModelCard, Report
from edge_bench.files.journal import HEADER, Journal, journal_path
from edge_bench.files.sets import AdversarialSet, open_sets
from edge_bench.files.store import read_json
from edge_bench.options.bench import BenchOptions
from edge_bench.options.square import SquareOptions
from edge_bench.robustness.replay import RECORD
from edge_bench.runs.one_run import run
from edge_bench.statistics.metrics import decode_mask

MakeModel = Callable[..., Path]
MakeSet = Callable[..., Path]
Quick = Callable[..., BenchOptions]
Invoke = Callable[..., tuple[int, str, str]]

CHILD = Path(__file__).parent / "bench_child.py"
SQUARE = SquareOptions(queries=12, epsilon=100 / 255, seed=3, attack_all=True)
BATCH = 7
REPLAY_CALLS = 3 * 5
"""Of the clean images and two sets of 30."""
FIRST_CALLS = 1
"""Before the replay: the first inference is timed apart."""
TIMED_CALLS = FIRST_CALLS + 3 + 1 + 1 + 3 + 1
"""Single-stream and offline of three runs; each is looked over by one call more."""
FULL = (
    *("--runs", 3, "--seconds", 0, "--warmup", 0, "--settle-seconds", 0),
    *("--threads", 1, "--batch-size", BATCH),
)


Ended = tuple[subprocess.CompletedProcess[str], Counter[str]]


def answered(calls: int, timed: int = TIMED_CALLS) -> int:
    """How many of the first so many calls of a run are in its journal."""
    replayed = min(max(calls - FIRST_CALLS, 0), REPLAY_CALLS)
    return replayed + max(0, calls - REPLAY_CALLS - timed)


class Stopped(BaseException):
    """What no handler of errors takes for an error."""


class Calls:
    """Counts the calls of ONNX Runtime, and raises instead of one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        infer, self.made, self.stop_at = OrtBackend.infer, 0, -1

        def counted(backend: OrtBackend, batch: NDArray[Any]) -> NDArray[np.float32]:
            if self.made == self.stop_at:
                raise Stopped
            self.made += 1
            return infer(backend, batch)

        monkeypatch.setattr(OrtBackend, "infer", counted)

    def again(self, stop_at: int = -1) -> None:
        self.made, self.stop_at = 0, stop_at


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch)


@pytest.fixture
def model(make_model: MakeModel, make_card: Callable[..., ModelCard]) -> Path:
    return make_model(card=make_card())


@pytest.fixture
def sets(make_set: MakeSet, clean: NDArray[np.uint8]) -> list[AdversarialSet]:
    weak = AttackSpec(name="fgsm", epsilon=4 / 255, step_size=None, steps=1)
    make_set("fgsm", images=clean, manifest={"attack": weak})
    return open_sets(make_set("pgd").parent)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "report.json"


@pytest.fixture
def bench(
    model: Path, sets: list[AdversarialSet], quick: Quick, out: Path
) -> Callable[..., tuple[Report, list[str]]]:
    """The benchmark with its journal; the report, and what was told on the way."""

    def start(**changes: Any) -> tuple[Report, list[str]]:
        told: list[str] = []
        given: dict[str, Any] = {"model": model, "sets": sets, "square": SQUARE} | changes
        options = quick(batch_size=given.pop("batch_size", BATCH))
        with Journal(out) as journal:
            report = run(
                options=options,
                report_progress=lambda done, total, text: told.append(text),
                journal=journal,
                **given,
            )
        return report, told

    return start


Bench = Callable[..., tuple[Report, list[str]]]


def masks(report: Report) -> list[str | None]:
    return [report.clean_mask, *(result.mask for result in report.sets)]


def test_a_run_that_is_stopped_anywhere_repeats_no_answer_and_ends_the_same(
    bench: Bench, model: Path, sets: list[AdversarialSet], quick: Quick, out: Path, calls: Calls
) -> None:
    whole = run(model, sets, quick(batch_size=BATCH), square=SQUARE)
    total = calls.made
    calls.again()
    run(model, [], quick(batch_size=BATCH))
    timing = calls.made
    assert total - REPLAY_CALLS - timing > 20, "Square should take its time"
    left = [decode_mask(result.mask) for result in whole.sets]
    assert 0 < left[2].sum() < left[0].sum(), "Square should break some"
    for stop_at in [*range(REPLAY_CALLS), *range(REPLAY_CALLS, total, 3), total - 1]:
        calls.again(stop_at)
        with pytest.raises(Stopped):
            bench()
        kept = answered(stop_at, timing)
        calls.again()
        report, told = bench()
        assert masks(report) == masks(whole)
        assert calls.made == total - kept
        assert told[0].startswith("goes on") == (kept > 0)
        assert replace(report.sets[-1], mask=whole.sets[-1].mask) == whole.sets[-1]
        journal_path(out).unlink()


def test_a_run_may_be_stopped_again_and_again(bench: Bench, calls: Calls) -> None:
    for _ in range(REPLAY_CALLS):
        calls.again(stop_at=FIRST_CALLS + 1)
        with pytest.raises(Stopped):
            bench(square=None)
    calls.again()
    report, _ = bench(square=None)
    assert report.clean_mask is not None
    assert report.clean_mask.count("1") == 24


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("artefact", lambda make_model, sets: {"model": make_model("other.onnx")}),
        ("set", lambda make_model, sets: {"sets": sets[:1]}),
        ("batch size", lambda make_model, sets: {"batch_size": 30}),
        ("attack", lambda make_model, sets: {"square": replace(SQUARE, seed=4)}),
        ("attack", lambda make_model, sets: {"square": None}),
    ],
)
def test_another_run_inherits_no_mask(
    bench: Bench,
    make_model: MakeModel,
    sets: list[AdversarialSet],
    calls: Calls,
    what: str,
    change: Callable[..., dict[str, Any]],
) -> None:
    changes = change(make_model, sets)
    anew, _ = bench(**changes)
    expected = calls.made
    bench()
    calls.again()
    report, told = bench(**changes)
    assert told[0] == f"started over: what lay unfinished there was of another {what}"
    assert calls.made == expected
    assert masks(report) == masks(anew)


def test_another_runtime_or_device_inherits_no_mask(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench()
    monkeypatch.setattr("onnxruntime.__version__", "99.0.0")
    assert bench()[1][0] == "started over: what lay unfinished there was of another runtime"
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert bench()[1][0] == "started over: what lay unfinished there was of another device"
    assert bench()[1][0] == "goes on where it was interrupted"


def test_other_timings_of_the_same_run_keep_its_masks(
    bench: Bench,
    model: Path,
    sets: list[AdversarialSet],
    quick: Quick,
    out: Path,
    calls: Calls,
) -> None:
    bench(square=None)
    calls.again()
    with Journal(out) as journal:
        run(model, sets, quick(batch_size=BATCH, min_runs=5, warmup_runs=0), journal=journal)
    assert calls.made == TIMED_CALLS + 2 * 2


# --- faults, in processes of their own -----------------------------------------------------------


@pytest.fixture
def child(
    tmp_path: Path, model: Path, sets: list[AdversarialSet], out: Path
) -> Callable[..., Ended]:
    """Run the command line, killed or not: how it ended, and the calls of each backend."""
    numbers = count()

    def start(*more: object, kill: str = "") -> Ended:
        log = tmp_path / f"log{next(numbers)}"
        command = [CHILD, "bench", model, "--sets", sets[0].path.parent, "--out", out, *FULL, *more]
        ended = subprocess.run(
            [sys.executable, "-B", *map(str, command)],
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,
            env=os.environ | {"LOG": str(log), "KILL": kill},
        )
        return ended, Counter(log.read_text().splitlines() if log.exists() else [])

    return start


@pytest.mark.parametrize("killed_at", [8, REPLAY_CALLS + 5, REPLAY_CALLS + 30])
def test_a_killed_process_goes_on_by_the_same_command(
    child: Callable[..., Ended], out: Path, killed_at: int
) -> None:
    square = ("--attack", "square", "--queries", 12, "--epsilon", "100/255", "--attack-all")
    ended, whole = child(*square)
    assert ended.returncode == 0, ended.stderr
    expected = masks(read_json(out, Report, "a report"))
    out.unlink()

    ended, _ = child(*square, kill=f"ort:{killed_at}")
    assert ended.returncode == -signal.SIGKILL
    assert not out.exists()
    ended, again = child(*square)
    assert ended.returncode == 0, ended.stderr
    assert again["ort"] == whole["ort"] - answered(killed_at)
    assert "goes on where it was interrupted" in ended.stderr
    assert masks(read_json(out, Report, "a report")) == expected
    assert not journal_path(out).exists()


@pytest.mark.skipif(find_spec("openvino") is None, reason="needs a second backend")
def test_a_killed_run_of_all_backends_replays_none_of_them_twice(
    child: Callable[..., Ended], tmp_path: Path, out: Path
) -> None:
    ended, whole = child("--backend", "all")
    assert ended.returncode == 0, ended.stderr
    expected = {path.name: path.read_text() for path in tmp_path.glob("report*.json")}
    for name in expected:
        (tmp_path / name).unlink()

    ended, _ = child("--backend", "all", kill=f"openvino:{FIRST_CALLS + 6}")
    assert ended.returncode == -signal.SIGKILL
    ended, again = child("--backend", "all")
    assert ended.returncode == 0, ended.stderr
    assert whole["ort"] - again["ort"] == REPLAY_CALLS
    assert whole["openvino"] - again["openvino"] == 6
    assert {path.name for path in tmp_path.glob("report*.json")} == expected.keys()
    for name in ("report-ort.json", "report-openvino.json"):
        old, new = json.loads(expected[name]), json.loads((tmp_path / name).read_text())
        assert (old["clean_mask"], old["sets"]) == (new["clean_mask"], new["sets"])
    assert not list(tmp_path.glob(".report*"))


def test_a_report_that_another_process_writes_is_refused(
    invoke: Invoke, model: Path, sets: list[AdversarialSet], out: Path
) -> None:
    with Journal(out):
        code, _, text = invoke("bench", model, "--sets", sets[0].path, "--out", out, *FULL)
    assert code == 2
    assert text.splitlines() == [
        f"error: {out}: another process is writing this report; wait for it to end, or choose "
        "another --out"
    ]
    assert not out.exists()


def test_a_report_that_exists_is_refused_before_its_journal_is_read(
    bench: Bench, invoke: Invoke, model: Path, out: Path
) -> None:
    bench()
    before = journal_path(out).read_bytes()
    out.write_text("an older report")
    code, _, text = invoke("bench", model, "--out", out, *FULL)
    assert code == 2
    assert "exists already" in text
    assert out.read_text() == "an older report"
    assert journal_path(out).read_bytes() == before


RECORD_BYTES = HEADER.size + BATCH * RECORD.itemsize


def kept(left: int) -> int:
    """Records of the replay that fit into so many bytes."""
    sizes = 3 * [BATCH, BATCH, BATCH, BATCH, 30 - 4 * BATCH]
    ends = np.cumsum([HEADER.size + images * RECORD.itemsize for images in sizes])
    return int((ends <= left).sum())


@pytest.mark.parametrize("left", [0, RECORD_BYTES // 2, RECORD_BYTES, RECORD_BYTES + 5, 600])
def test_a_disk_that_fills_up_ends_with_a_sentence_and_the_run_goes_on_later(
    invoke: Invoke,
    bench: Bench,
    model: Path,
    sets: list[AdversarialSet],
    out: Path,
    room_for: Callable[[int], None],
    calls: Calls,
    left: int,
) -> None:
    """`left` is what the disk has left after the journal's header."""
    whole, _ = bench(square=None)
    answered = 3 * 30 * RECORD.itemsize
    size = journal_path(out).stat().st_size - REPLAY_CALLS * HEADER.size - answered
    journal_path(out).unlink()
    command = ("bench", model, "--sets", sets[0].path.parent, "--out", out, *FULL)
    room_for(size + left)
    code, shown, text = invoke(*command)
    assert (code, shown) == (3, "")
    assert [line for line in text.splitlines() if line.startswith("error: ")] == [
        f"error: {out}: File too large; free space there, or name a place with more; "
        "what existed before is untouched"
    ]
    assert not out.exists()
    room_for(resource.RLIM_INFINITY)
    calls.again()
    code, _, text = invoke(*command)
    assert code == 0
    assert calls.made == REPLAY_CALLS - kept(left) + TIMED_CALLS
    assert masks(read_json(out, Report, "a report")) == masks(whole)


def test_a_full_disk_at_the_report_keeps_the_old_one_and_the_replay(
    invoke: Invoke,
    bench: Bench,
    model: Path,
    sets: list[AdversarialSet],
    out: Path,
    room_for: Callable[[int], None],
    calls: Calls,
) -> None:
    bench(square=None)
    out.write_text("an older report")
    room_for(journal_path(out).stat().st_size + 10)
    command = ("bench", model, "--sets", sets[0].path.parent, "--out", out, "--force", *FULL)
    code, _, text = invoke(*command)
    assert code == 3
    assert f"error: {out}: File too large; free space" in text
    assert out.read_text() == "an older report"
    room_for(resource.RLIM_INFINITY)
    calls.again()
    assert invoke(*command)[0] == 0
    assert calls.made == TIMED_CALLS


def test_a_folder_that_may_not_be_written_is_said_before_the_artefact_is_asked(
    invoke: Invoke, model: Path, sets: list[AdversarialSet], calls: Calls
) -> None:
    # Nobody, not even root, makes files there.
    out = Path("/sys/report.json")
    code, shown, text = invoke("bench", model, "--sets", sets[0].path, "--out", out, *FULL)
    assert (code, shown) == (3, "")
    assert text.startswith(f"error: {out}: ")
    assert text.count("\n") == 1
    assert calls.made == 0


def test_a_failure_that_stays_leaves_no_report(
    make_model: MakeModel, sets: list[AdversarialSet], bench: Bench, out: Path
) -> None:
    weights = np.full((4, 192), np.nan, dtype=np.float32)
    broken = make_model("broken.onnx", weight=weights)
    for _ in range(2):
        with pytest.raises(InputError, match="NaN or infinity for an image among 0 to 6"):
            bench(model=broken)
    assert not journal_path(out).exists()
