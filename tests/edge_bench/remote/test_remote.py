"""`bench --host` over a real ssh: whole runs, and every way in which one can be interrupted."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from PIL import Image

from edge_bench.core.errors import CapabilityError
from edge_bench.core.gate import Gate
from edge_bench.core.progress import no_progress
from edge_bench.core.spec import Report
from edge_bench.files.bundle import pack
from edge_bench.files.store import read_json, sha256_file
from edge_bench.files.unpack import Unpacked
from edge_bench.remote.client import Client as HostClient
from edge_bench.remote.layout import Job
from edge_bench.remote.parcel import make_parcel
from edge_bench.remote.ssh import Ssh
from edge_bench.signing.openssh import sign

MakeBoard = Callable[..., Any]
Invoke = Callable[..., tuple[int, str, str]]

ONE = ("--threads", "1")
QUICK = ("--runs", "3", "--seconds", "0", "--warmup", "0", "--settle-seconds", "0", *ONE)
# The replay is over at once, and the timing goes on for a while after it.
SLOW = ("--runs", "3", "--seconds", "0.8", "--warmup", "0", "--settle-seconds", "0", *ONE)
REPLAYED = "bench 2/2 pgd"
LEFT = {"lock", "running.json"}


@pytest.fixture
def model(make_model: Callable[..., Path]) -> Path:
    return make_model("a model.onnx")


@pytest.fixture
def sets(make_set: Callable[..., Path]) -> Path:
    return make_set("pgd").parent


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "report.json"


@pytest.fixture
def over_there(tmp_path: Path, model: Path, sets: Path, out: Path) -> Callable[..., list[object]]:
    """The words of `bench` for these hosts."""

    def words(*hosts: str) -> list[object]:
        named = [word for host in hosts or ("board",) for word in ("--host", host)]
        here = ["--ssh-config", tmp_path / "ssh_config", "--remote-python", sys.executable]
        return ["bench", model, "--sets", sets, "--out", out, *named, *here]

    return words


@pytest.fixture
def check(
    out: Path,
    model: Path,
    clean: NDArray[np.uint8],
    attacked: NDArray[np.uint8],
    expected_mask: Callable[[NDArray[Any]], str],
) -> Callable[[], None]:
    """Is the report the one that numpy expects?"""

    def of_numpy() -> None:
        report = read_json(out, Report, "a report")
        assert report.clean_mask == expected_mask(clean)
        assert [s.mask for s in report.sets] == [expected_mask(attacked)]
        assert (report.artifact.path, report.artifact.sha256) == (model.name, sha256_file(model))

    return of_numpy


def process_of(line: str) -> int:
    """The number in `... (process 12) ...`."""
    return int(line.partition("(process ")[2].partition(")")[0])


# --- whole runs -------------------------------------------------------------------------------


def test_a_run_there_gives_what_a_run_here_gives(
    board: Any, invoke: Invoke, over_there: Callable[..., Any], check: Any, out: Path
) -> None:
    options = (*QUICK, "--warmup=2", "--batch-size", 7, "--idle-seconds", 0)
    code, stdout, stderr = invoke(*over_there(), *options)
    assert code == 0, stderr
    check()
    report = read_json(out, Report, "a report")
    assert (report.latency.warmup_runs, report.throughput.batch_size) == (2, 7)
    assert len(report.latency.latency_ns) == 3
    assert "worst case" in stdout
    assert stdout.endswith(f"report: {out}\n")
    assert REPLAYED in stderr
    assert board.left == LEFT


def test_pictures_are_those_of_a_folder_there(
    make_board: MakeBoard,
    over_there: Callable[..., list[object]],
    out: Path,
    tmp_path: Path,
    invoke: Invoke,
) -> None:
    make_board()
    photos = tmp_path / "photos"
    for label in range(4):
        (photos / str(label)).mkdir(parents=True)
        pixels = np.full((8, 8, 3), 60 * label, dtype=np.uint8)
        Image.fromarray(pixels).save(photos / str(label) / "a.png")
    code, said, _ = invoke(*over_there(), *QUICK, "--pictures", photos)
    assert code == 0
    assert "from file to logits" in " ".join(said.split())
    walked = read_json(out, Report, "a report").pictures
    assert walked is not None
    assert (walked.folder, len(walked.answers)) == ("photos", 4)
    asked = (*over_there(), *QUICK, "--force", "--pictures", tmp_path / "elsewhere")
    code, _, told = invoke(*asked)
    assert code == 2
    assert f"{tmp_path / 'elsewhere'}: expected a folder with one folder of pictures" in told


def test_the_gate_of_a_bundle_holds_for_the_board(
    board: Any,
    invoke: Invoke,
    over_there: Callable[..., Any],
    model: Path,
    sets: Path,
    tmp_path: Path,
) -> None:
    bundle = tmp_path / "model.ardx"
    gate = Gate(min_robust_accuracy=0.99)
    pack(model, bundle, sets=sets, gate=gate, baseline=None, force=False)
    words = [bundle if word == model else word for word in over_there()]
    del words[2:4]  # --sets
    code, stdout, stderr = invoke(*words, *QUICK, "--json")
    summary = json.loads(stdout)
    assert (code, summary["gate"]["passed"]) == (1, False)
    assert summary["model"] == f"{bundle.name}: {model.name}"
    assert "error" not in stderr
    assert board.left == LEFT


def test_a_signature_is_verified_here_and_stays_here(
    board: Any,
    invoke: Invoke,
    over_there: Callable[..., Any],
    model: Path,
    sets: Path,
    keys: Path,
    tmp_path: Path,
) -> None:
    bundle, signers = tmp_path / "model.ardx", tmp_path / "signers"
    pack(model, bundle, sets=sets, gate=None, baseline=None, force=False)
    signers.write_text(f"alice {(keys / 'user_key.pub').read_text()}")
    words = [bundle if word == model else word for word in over_there()]
    del words[2:4]  # --sets
    words += ["--signers", signers, *QUICK]
    code, _, stderr = invoke(*words)
    assert code == 2
    assert "unsigned" in stderr
    assert not board.left
    sign(bundle, keys / "user_key", force=False)
    code, _, stderr = invoke(*words)
    assert code == 0, stderr
    assert f"{bundle}: signed by alice (" in stderr
    assert board.left == LEFT


def test_every_backend_there(
    board: Any, invoke: Invoke, over_there: Callable[..., Any], check: Any, out: Path
) -> None:
    code, stdout, stderr = invoke(*over_there(), *QUICK, "--backend", "all")
    assert code == 0, stderr
    check()
    assert "backends (p50 of batch 1, by turns)" in stdout
    assert out.with_name("report-ort.json").exists()
    comparison = json.loads(out.with_name("report-all.json").read_text())
    assert "report-ort.json" in [c["report"] for c in comparison["contenders"]]


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        (("--backend", "nope"), 2, "board: --backend nope: expected one of ort"),
        (("--device", "a b;'$(x)"), 2, "board: --device a b;'$(x): expected"),
    ],
)
def test_an_error_there_is_an_error_here(
    board: Any,
    invoke: Invoke,
    over_there: Callable[..., Any],
    out: Path,
    options: tuple[str, str],
    code: int,
    sentence: str,
) -> None:
    ended, stdout, stderr = invoke(*over_there(), *QUICK, "=".join(options))
    assert (ended, stdout) == (code, ""), stderr
    assert stderr.splitlines()[-1].startswith(f"error: {sentence}")
    assert stderr.count("error: ") == 1
    assert not out.exists()
    assert board.left == LEFT


def test_a_talkative_login_changes_nothing(
    board: Any, client: Callable[..., Any], over_there: Callable[..., Any], check: Any
) -> None:
    # Read by bash, also where no terminal is.
    (board.folder / "home" / ".bashrc").write_text("echo Welcome; echo to the board\n")
    run = client(*over_there(), *SLOW)
    run.until(REPLAYED)
    board.cut()
    run.until("lost the connection")
    assert run.end()[0] == 0, run.lines
    assert sum(REPLAYED in line for line in run.lines) == 1
    assert not any("Welcome" in line for line in run.lines)
    check()


def test_the_model_of_an_error_is_the_users(
    board: Any, invoke: Invoke, over_there: Callable[..., Any], model: Path
) -> None:
    # Whole, so that it is sent, and nothing that the runtime there can open.
    spoilt = onnx.load(model)
    spoilt.graph.node[0].op_type = "Nonsense"
    onnx.save(spoilt, model)
    code, _, stderr = invoke(*over_there(), *QUICK)
    assert code == 2
    assert f"error: board: {model}: model/{model.name}: " in stderr


def test_a_report_of_something_else_is_refused_and_removed(
    board: Any, client: Callable[..., Any], over_there: Callable[..., Any], out: Path, wait: Any
) -> None:
    first = client(*over_there(), *SLOW)
    first.until(REPLAYED)
    first.signal(signal.SIGKILL)
    wait((board.job / "exit.json").exists, "the end of the run")
    (board.job / "report.json").write_text("{}")
    second = client(*over_there(), *SLOW)
    assert second.end()[0] == 3
    assert "error: board: report.json: no whole report came back" in second.lines[-1]
    assert not out.exists()
    assert board.left == LEFT


# --- interruptions ----------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_client_that_ends_leaves_the_run_to_the_next(
    board: Any,
    client: Callable[..., Any],
    over_there: Callable[..., Any],
    check: Any,
    number: signal.Signals,
) -> None:
    first = client(*over_there(), *SLOW)
    process = process_of(first.until("runs there (process"))
    first.until(REPLAYED)
    board.pause()
    first.signal(number)
    code, _ = first.end()
    if number == signal.SIGINT:
        assert code == 130
        assert "what began on board goes on there; the same command" in first.lines[-1]
        assert not any("lost the connection" in line for line in first.lines)

    second = client(*over_there(), *SLOW)
    assert process_of(second.until("runs there already")) == process
    board.resume()
    code, _ = second.end()
    assert code == 0, second.lines
    assert sum(REPLAYED in line for line in second.lines) == 1
    # What was there was not sent again.
    assert not any("sends" in line for line in second.lines)
    check()
    assert board.left == LEFT


def test_a_report_waits_for_the_same_command(
    board: Any,
    client: Callable[..., Any],
    over_there: Callable[..., Any],
    check: Any,
    wait: Callable[..., None],
) -> None:
    first = client(*over_there(), *SLOW)
    first.until(REPLAYED)
    first.signal(signal.SIGKILL)
    wait((board.job / "exit.json").exists, "the end of the run")
    second = client(*over_there(), *SLOW)
    assert second.end()[0] == 0, second.lines
    assert "has ended there: fetches the report" in second.lines
    check()
    assert board.left == LEFT


def test_a_cut_connection_changes_nothing(
    board: Any, client: Callable[..., Any], over_there: Callable[..., Any], check: Any
) -> None:
    run = client(*over_there(), *SLOW)
    process = process_of(run.until("runs there (process"))
    run.until(REPLAYED)
    board.pause()
    # No signal to the connection's processes is one to it, and all that it unpacked is cleaned up.
    assert os.getsid(process) == process
    assert list((board.job / "tmp").iterdir())
    board.cut()
    assert "the benchmark goes on there" in run.until("lost the connection")
    assert process_of(run.until("runs there already")) == process
    board.resume()
    code, _ = run.end()
    assert code == 0, run.lines
    assert sum(REPLAYED in line for line in run.lines) == 1
    check()
    assert board.left == LEFT


def test_a_board_that_goes_down_starts_again(
    board: Any, client: Callable[..., Any], over_there: Callable[..., Any], check: Any
) -> None:
    run = client(*over_there(), *SLOW)
    process = process_of(run.until("runs there (process"))
    run.until(REPLAYED)
    board.cut(kill_runner=True)
    assert process_of(run.until("was killed there earlier: started again")) != process
    assert run.end()[0] == 0, run.lines
    check()
    assert board.left == LEFT


def test_a_run_that_is_killed_says_so_and_can_go_on(
    board: Any, client: Callable[..., Any], over_there: Callable[..., Any], check: Any, out: Path
) -> None:
    first = client(*over_there(), *SLOW)
    first.until(REPLAYED)
    (runner,) = board.runners()
    runner.kill()
    assert first.end()[0] == 3
    assert first.lines[-1].startswith("error: board: the benchmark was killed there, after 'bench")
    assert not out.exists()
    # What the artefact had answered will be read from it.
    assert (board.job / ".report.json.journal").stat().st_size > 0

    second = client(*over_there(), *SLOW)
    second.until("was killed there earlier: started again")
    assert second.end()[0] == 0, second.lines
    check()
    assert board.left == LEFT


def test_two_benchmarks_do_not_disturb_each_other(
    board: Any, client: Callable[..., Any], over_there: Callable[..., Any], check: Any
) -> None:
    first = client(*over_there(), *SLOW)
    process = process_of(first.until("runs there (process"))
    board.pause()
    second = client(*over_there(), *QUICK)
    assert second.end()[0] == 3
    assert f"another benchmark runs here (process {process})" in second.lines[-1]
    board.resume()
    assert first.end()[0] == 0
    check()


def test_a_board_that_does_not_come_back_ends_the_patience(
    board: Any, model: Path, sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_bench.remote.client.PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr("edge_bench.remote.client.FIRST_PAUSE_SECONDS", 0.1)
    parts = Unpacked(model=model, sets=sets, gate=None, baseline=None)
    job = Job(python=sys.executable, backend="ort", options=SLOW)
    parcel = make_parcel(tmp_path, model, parts, job, None, no_progress)
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        if REPLAYED in line:
            board.cut(off=True)

    there = HostClient(Ssh("board", tmp_path / "ssh_config"), parcel, str(model), say)
    with pytest.raises(CapabilityError, match=r"Connection refused.*; no connection for .* report"):
        there.run()
    assert lines[-1].startswith("lost the connection")
