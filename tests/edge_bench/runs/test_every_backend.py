"""`--backend all`: each backend in its own process, one report each, and a verdict."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import onnx
import psutil
import pytest
from numpy.typing import NDArray
from onnx import helper

from edge_bench.core.spec import Report
from edge_bench.files.journal import Journal
from edge_bench.files.store import read_json
from edge_bench.options.bench import BenchOptions
from edge_bench.report.compare import Comparison
from edge_bench.runs.every_backend import options_for, report_path, run_all
from edge_bench.timing.race import ROUNDS

MakeModel = Callable[..., Path]
MakeSet = Callable[..., Path]
Invoke = Callable[..., tuple[int, str, str]]

QUICK = (
    *("--runs", "3", "--seconds", "0", "--warmup", "0", "--settle-seconds", "0"),
    *("--threads", "1"),
)

needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="needs openvino")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "report.json"


@pytest.fixture
def only_ort_runs(make_model: MakeModel) -> Path:
    """The linear classifier with an operator that OpenVINO does not have."""
    path = make_model("only_ort.onnx")
    model = onnx.load(path)
    last = model.graph.node[-1]
    scaler = helper.make_node(
        "Scaler", [last.input[0]], ["same"], domain="ai.onnx.ml", offset=[0.0], scale=[1.0]
    )
    last.input[0] = "same"
    model.graph.node.insert(len(model.graph.node) - 1, scaler)
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    onnx.save(model, path)
    return path


def read_report(path: Path) -> Report:
    return read_json(path, Report, "a report")


@needs_openvino
def test_every_backend_that_is_here_gets_a_report_and_the_fastest_one_is_named(
    invoke: Invoke,
    make_model: MakeModel,
    make_set: MakeSet,
    out: Path,
    expected_mask: Callable[[NDArray[Any]], str],
    clean: NDArray[Any],
    attacked: NDArray[Any],
) -> None:
    command = ("bench", make_model(), "--sets", make_set(), "--backend", "all", "--out", out)
    code, stdout, _ = invoke(*command, "--json", *QUICK)
    assert code == 0
    comparison = read_json(report_path(out, "all"), Comparison, "a comparison")
    found = {contender.backend: contender for contender in comparison.contenders}
    assert {"ort", "openvino"} <= set(found)
    assert not set(found) & set(comparison.absent)
    for name, contender in found.items():
        report = read_report(report_path(out, name))
        assert contender.report == report_path(out, name).name
        assert report.backend.name == name
        assert report.clean_mask == expected_mask(clean)
        assert [result.mask for result in report.sets] == [expected_mask(attacked)]
        assert len(contender.round_ns) == ROUNDS
        assert contender.error is None
    told = json.loads(stdout)
    assert set(told["backends"]) == set(found)
    fastest = told["fastest"]
    assert told["conclusion"].startswith(fastest)
    assert read_report(out) == read_report(report_path(out, fastest))
    assert invoke("gate", out, "--min-clean-accuracy", 0.5)[:2] == (0, "gate: passed\n")


@needs_openvino
def test_a_backend_that_fails_is_named_and_does_not_end_the_others(
    invoke: Invoke, only_ort_runs: Path, out: Path
) -> None:
    code, stdout, stderr = invoke("bench", only_ort_runs, "--backend", "all", "--out", out, *QUICK)
    assert code == 2
    assert "error: openvino: " in stderr
    assert "ai.onnx.ml.Scaler" in stderr
    assert "ort is the only backend that ran" in stdout
    assert read_report(out).backend.name == "ort"
    assert not report_path(out, "openvino").exists()
    comparison = read_json(report_path(out, "all"), Comparison, "a comparison")
    (failed,) = [c for c in comparison.contenders if c.backend == "openvino"]
    assert failed.report is None
    assert failed.error is not None
    assert "Scaler" in failed.error


def test_a_process_that_dies_is_a_sentence_too(
    make_model: MakeModel, quick: Callable[..., BenchOptions], out: Path
) -> None:
    # In the process of each backend this replaces the program by one that fails.
    dying: Any = partial(os.execlp, "false")
    outcome = run_all(make_model(), None, quick(), None, out, dying)
    assert (outcome.exit_code, outcome.standings, outcome.reports) == (3, [], {})
    assert all("its process died" in (c.error or "") for c in outcome.comparison.contenders)


def test_threads_of_the_cpu_are_for_backends_that_compute_there(
    quick: Callable[..., BenchOptions],
) -> None:
    given = quick(backend="all", threads=3)
    for name, threads in (("ort", 3), ("openvino", 3), ("trt", None)):
        options = options_for(name, given)
        assert (options.backend, options.threads) == (name, threads)


def test_no_report_that_is_there_already_is_replaced(
    invoke: Invoke, make_model: MakeModel, out: Path
) -> None:
    report_path(out, "ort").write_text("mine", encoding="utf-8")
    code, _, stderr = invoke("bench", make_model(), "--backend", "all", "--out", out, *QUICK)
    assert code == 2
    assert stderr.startswith(f"error: {report_path(out, 'ort')} exists already")
    assert sorted(p.name for p in out.parent.glob("report*")) == ["report-ort.json"]
    assert report_path(out, "ort").read_text(encoding="utf-8") == "mine"


def test_without_any_runtime_there_is_one_sentence(
    invoke: Invoke, make_model: MakeModel, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_model()
    for module in ("onnxruntime", "openvino", "tensorrt"):
        monkeypatch.setitem(sys.modules, module, None)
    code, _, stderr = invoke("bench", path, "--backend", "all", "--out", out, *QUICK)
    assert code == 3
    assert stderr.startswith("error: --backend all: no runtime is here; install one")
    assert stderr.count("\n") == 1


def test_a_bundle_s_gate_is_held_against_the_fastest(
    invoke: Invoke, make_model: MakeModel, make_set: MakeSet, tmp_path: Path, out: Path
) -> None:
    bundle = tmp_path / "m.ardx"
    arguments = ("--sets", make_set().parent, "--min-clean-accuracy", 0.81, "--out", bundle)
    assert invoke("bundle", make_model(), *arguments)[0] == 0
    code, stdout, _ = invoke("bench", bundle, "--backend", "all", "--out", out, *QUICK)
    assert code == 1
    assert "gate: clean accuracy is 0.8000" in stdout
    assert read_report(out).artifact.path == f"{bundle.name}: model.onnx"


@needs_openvino
def test_a_backend_that_fails_on_a_bundle_names_the_bundle(
    invoke: Invoke, only_ort_runs: Path, tmp_path: Path, out: Path
) -> None:
    bundle = tmp_path / "m.ardx"
    assert invoke("bundle", only_ort_runs, "--out", bundle)[0] == 0
    code, _, stderr = invoke("bench", bundle, "--backend", "all", "--out", out, *QUICK)
    assert code == 2
    assert f"error: openvino: {bundle}: only_ort.onnx: OpenVINO " in stderr


def test_a_backend_that_another_process_measures_ends_the_command_and_nothing_is_written(
    invoke: Invoke, make_model: MakeModel, out: Path
) -> None:
    with Journal(report_path(out, "ort")):
        words = ("bench", make_model(), "--backend", "all", "--out", out, *QUICK)
        code, stdout, stderr = invoke(*words)
        assert (code, stdout) == (2, "")
        assert "another process" in stderr
    assert not list(out.parent.glob(f"{out.stem}*.json"))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_processes_of_a_bench_end_with_it(
    make_model: MakeModel, out: Path, number: signal.Signals
) -> None:
    slow = ("--runs", 3, "--seconds", 60, "--warmup", 0, "--settle-seconds", 0)
    words = ("bench", make_model(), "--out", out, "--backend", "all", *slow)
    with psutil.Popen(
        [sys.executable, "-m", "edge_bench", *map(str, words)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as parent:
        children: list[psutil.Process] = []
        end = time.monotonic() + 60
        while len(children) < 2:  # Python's tracker of resources, and the one that measures.
            assert time.monotonic() < end
            children = parent.children(recursive=True)
        parent.send_signal(number)
        _, alive = psutil.wait_procs(children, timeout=20)
        # One that ended and that nobody asked about yet has ended.
        alive = [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
        for process in alive:
            process.kill()
        assert not alive
        if number == signal.SIGTERM:
            assert parent.wait(20) == 128 + number
            assert "interrupted by SIGTERM: the same command goes on" in parent.stderr.read()
