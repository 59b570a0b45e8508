"""What is timed besides, on ONNX Runtime: scenarios, sweeps and a soak, through the command."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from edge_bench.core.errors import InputError
from edge_bench.core.spec import Report
from edge_bench.files.sets import AdversarialSet
from edge_bench.files.store import read_json
from edge_bench.options.bench import BenchOptions
from edge_bench.options.setting import Setting, read_sweep
from edge_bench.runs.one_run import run
from edge_bench.timing.sweep import time_point

Invoke = Callable[..., tuple[int, str, str]]
MakeModel = Callable[..., Path]
Quick = Callable[..., BenchOptions]
QUICK = ("--runs", "16", "--seconds", "0", "--warmup", "1", "--settle-seconds", "0")


@pytest.fixture
def bench(invoke: Invoke, make_model: MakeModel, tmp_path: Path) -> Callable[..., Any]:
    """Bench a model made as asked, with options: the summary, and what was written."""

    def call(*options: object, **how: Any) -> tuple[dict[str, Any], Report]:
        out = tmp_path / "report.json"
        code, stdout, stderr = invoke(
            "bench", make_model(**how), "--out", out, "--json", *QUICK, *options
        )
        assert code == 0, stderr
        return json.loads(stdout), read_json(out, Report, "a report")

    return call


def test_a_query_of_multi_stream_holds_its_images_at_once(bench: Callable[..., Any]) -> None:
    summary, report = bench("--scenario", "multi-stream", "--streams", "5")
    assert report.multi_stream is not None
    assert report.multi_stream.batch_size == 5
    assert len(report.multi_stream.latency_ns) == 16
    assert summary["scenarios"]["multi-stream"]["batch_size"] == 5


def test_a_graph_of_batch_1_answers_a_query_in_several_calls(bench: Callable[..., Any]) -> None:
    _, report = bench("--scenario", "multi-stream", "--streams", "64", batch=1)
    assert report.multi_stream.batch_size == 64
    # 64 calls take longer than one does, whatever the machine does meanwhile.
    assert min(report.multi_stream.latency_ns) > 4 * min(report.latency.latency_ns)


def test_offline_times_every_batch_size(bench: Callable[..., Any]) -> None:
    summary, report = bench("--scenario", "offline", "--batch-size", "20")
    assert [timed.batch_size for timed in report.offline] == [1, 2, 4, 8, 16]
    assert [one["batch_size"] for one in summary["scenarios"]["offline"]] == [1, 2, 4, 8, 16]
    assert report.throughput.batch_size == 20


def test_offline_times_the_batch_sizes_that_were_asked_for(bench: Callable[..., Any]) -> None:
    _, report = bench("--scenario", "offline,multi-stream", "--batches", "3,7")
    assert [timed.batch_size for timed in report.offline] == [3, 7]
    assert report.multi_stream is not None


def test_single_stream_is_always_timed_and_may_be_named(bench: Callable[..., Any]) -> None:
    summary, report = bench("--scenario", "single-stream")
    assert (report.multi_stream, report.offline, summary["scenarios"]) == (None, (), {})


def test_the_first_inference_is_that_before_the_replay(
    make_model: MakeModel, opened: AdversarialSet, quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    from edge_bench.backends.ort import OrtBackend

    infer = OrtBackend.infer

    def watched(self: OrtBackend, batch: Any) -> Any:
        seen.append(len(batch))
        return infer(self, batch)

    monkeypatch.setattr(OrtBackend, "infer", watched)
    run(make_model(), [opened], quick(batch_size=8))
    assert seen[:2] == [1, 8]
    # That call, one of warm-up, three that are timed and one whose logits are looked at: the first
    # is not made again.
    assert seen.count(1) == 6


def test_a_sweep_times_every_setting_in_a_process_of_its_own(bench: Callable[..., Any]) -> None:
    core = min(os.sched_getaffinity(0))
    summary, report = bench("--sweep", f"threads=1,2 affinity={core}", "--sweep", "batch=1,4")
    points = [(p.threads, p.cores, p.timed.batch_size) for p in report.sweep]
    assert points == [(t, (core,), b) for t in (1, 2) for b in (1, 4)]
    assert [one["images_per_second"] > 0 for one in summary["sweep"]] == [True] * 4
    assert core in os.sched_getaffinity(0)
    assert report.latency.batch_size == 1


def test_settings_may_follow_as_words_of_their_own(bench: Callable[..., Any]) -> None:
    _, report = bench("--sweep", "threads=1", "batch=1,2")
    assert [(p.threads, p.timed.batch_size) for p in report.sweep] == [(1, 1), (1, 2)]


def test_cores_bring_as_many_threads_where_none_were_asked_for(
    make_model: MakeModel, quick: Quick
) -> None:
    core = min(os.sched_getaffinity(0))
    options = quick(threads=None, sweep=read_sweep([f"affinity={core}"]))
    (point,) = run(make_model(), [], options).sweep
    assert point.threads == 1


def test_a_point_holds_its_process_to_its_cores(make_model: MakeModel, quick: Quick) -> None:
    core = max(os.sched_getaffinity(0))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        pool.submit(time_point, make_model(), None, quick(), Setting(cores=(core,))).result()
        assert pool.submit(os.sched_getaffinity, 0).result() == {core}


def test_a_soak_is_reported_with_its_drift(bench: Callable[..., Any]) -> None:
    summary, report = bench("--soak", "0.005")
    assert report.soak is not None
    assert summary["soak"]["samples"] == len(report.soak.latency_ns.split())
    # A machine that stood still for a tenth of this short time made no call then.
    assert 1 <= len(summary["soak"]["median_ms"]) <= 10


def test_people_see_what_was_timed(invoke: Invoke, make_model: MakeModel, tmp_path: Path) -> None:
    options = ("--scenario", "multi-stream,offline", "--sweep", "batch=1", "--soak", "0.002")
    out = tmp_path / "report.json"
    code, stdout, _ = invoke("bench", make_model(), "--out", out, *QUICK, *options)
    assert code == 0
    for words in (
        "multi-stream p99 (batch 8), of too few samples: 16 of 662",
        "offline (batch 32)",
        "timing of single-stream",
        "soak of 0.002 min",
        "sweep",
    ):
        assert words in stdout


@pytest.mark.parametrize(
    ("options", "how", "words"),
    [
        (("--scenario", "server"), {}, "--scenario server: expected single-stream"),
        (("--streams", 4), {}, "--streams: belongs to a scenario; give --scenario multi-stream"),
        (("--batches", "1"), {}, "--batches: belongs to a scenario; give --scenario offline"),
        (("--scenario", "offline", "--batches", "1,x"), {}, "expected whole numbers"),
        (("--scenario", "offline", "--batches", "0"), {}, "--batches 0: expected 1 or more"),
        (
            ("--scenario", "offline", "--batches", "1,65537"),
            {},
            "--batches 65537: expected 1 or more, and at most 65536",
        ),
        (("--scenario", "offline", "--batches", "9" * 5000), {}, "expected whole numbers"),
        (("--scenario", "multi-stream", "--streams", 10**11), {}, "and at most 65536"),
        (("--sweep", "threads=3000000000"), {}, "at most 1024, came '3000000000'"),
        (("--scenario", "offline", "--batches", "4"), {"batch": 2}, "takes batches of 2 alone"),
        (("--scenario", "multi-stream"), {"batch": 3}, "expected a multiple of 3"),
        (("--sweep", "batch=2"), {"batch": 1}, "takes batches of 1 alone"),
        (("--sweep", "affinity=4095"), {}, "no core 4095 for this process"),
        (("batch=1,8",), {}, "unexpected argument 'batch=1,8'; see"),
        (("--sweep", "batch=1", "other.onnx"), {}, "unexpected argument 'other.onnx'; see"),
        (("--soak", "-1"), {}, "--soak -1: expected a time of 0 or more"),
        (("--settle-seconds", "inf"), {}, "--settle-seconds inf: expected a time"),
    ],
)
def test_what_cannot_be_timed_is_refused(
    invoke: Invoke,
    make_model: MakeModel,
    tmp_path: Path,
    options: tuple[object, ...],
    how: dict[str, Any],
    words: str,
) -> None:
    out = tmp_path / "report.json"
    code, _, stderr = invoke("bench", make_model(**how), "--out", out, *QUICK, *options)
    assert code == 2
    assert words in stderr.splitlines()[-1]
    assert not out.exists()


@pytest.mark.parametrize(
    "how",
    [
        {"scenarios": ("offline",), "batches": (2, 4)},
        {"scenarios": ("multi-stream",), "streams": 5},
        {"sweep": read_sweep(["threads=1"])},
    ],
)
def test_what_a_bound_batch_makes_impossible_is_refused_before_anything_is_measured(
    make_model: MakeModel, opened: AdversarialSet, quick: Quick, how: dict[str, Any]
) -> None:
    told: list[Any] = []
    with pytest.raises(InputError, match=r"takes batches of 2 alone|a multiple of 2"):
        run(make_model(batch=2), [opened], quick(**how), lambda *step: told.append(step))
    assert told == []


def test_threads_of_a_runtime_without_are_refused(make_model: MakeModel, quick: Quick) -> None:
    options = quick(backend="trt", threads=None, sweep=read_sweep(["threads=1"]))
    with pytest.raises(InputError, match="computes nothing on the CPU's threads"):
        run(make_model(), [], options)
