"""What a command writes besides its stdout, and never over what it reads."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_bench.core.spec import Report
from edge_bench.files.sets import MANIFEST
from edge_bench.files.store import write_json

Invoke = Callable[..., tuple[int, str, str]]
GATE = ("gate", "new.json", "--require", "clean >= 10%")
COMPARE = ("compare", "old.json", "new.json")
TREND = ("trend", "history", "--force")
REPORT = ("report", "new.json")
ATTEST = ("attest", "new.json", "--policy", "gate.toml", "--force")
BENCH = ("bench", "model.onnx", "--sets", "sets", "--force")


@pytest.fixture
def files(
    make_report: Callable[..., Report],
    make_model: Callable[..., Path],
    make_set: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """old.json, new.json and history/a/report.json, a policy, an artefact and a set."""
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    for name in ("old.json", "new.json", "history/a/report.json"):
        write_json(Path(name), make_report("1111", {"pgd": "1100"}), force=False)
    Path("link.json").symlink_to("new.json")
    Path("gate.toml").write_text('critical = ["clean >= 10%"]\n', encoding="utf-8")
    Path("way.py").write_text("def go(data): ...\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    make_model()
    make_set()
    return tmp_path


def contents() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("command", "option", "read"),
    [
        (GATE, "--md", "new.json"),
        (GATE, "--junit", "./link.json"),
        ((*GATE, "--policy", "gate.toml"), "--md", "gate.toml"),
        ((*GATE, "--artifact", "model.onnx"), "--md", "model.onnx"),
        (
            ("gate", "new.json", "--require", "drop(clean) <= 1%", "--baseline", "old.json"),
            *("--junit", "old.json"),
        ),
        ((*GATE, "--baseline", "base.json", "--update-baseline"), "--md", "base.json"),
        (COMPARE, "--md", "old.json"),
        (COMPARE, "--md", "new.json"),
        (TREND, "--html", "history/a/report.json"),
        (TREND, "--svg", "history/a/report.json"),
        (TREND, "--md", "history/../history/a/report.json"),
        (REPORT, "--csv", "new.json"),
        ((*REPORT, "--sets", "sets"), "--html", f"sets/pgd/{MANIFEST}"),
        (ATTEST, "--out", "gate.toml"),
        ((*ATTEST, "--sign", "old.json"), "--out", "old.json"),
        ((*BENCH, "--pictures", "history", "--pipeline", "way:go"), "--out", "way.py"),
        (BENCH, "--out", "model.onnx"),
        (BENCH, "--out", "sets/pgd/labels.npy"),
    ],
)
def test_nothing_is_written_over_what_is_read(
    invoke: Invoke, files: Path, command: tuple[str, ...], option: str, read: str
) -> None:
    before = contents()
    code, stdout, stderr = invoke(*command, option, read)
    assert (code, stdout) == (2, "")
    assert stderr.startswith(f"error: {option} {Path(read)}: expected a file to write, came ")
    assert stderr.count("\n") == 1
    assert contents() == before


@pytest.mark.parametrize(
    ("command", "options"),
    [
        (GATE, ("--md", "--junit")),
        (TREND, ("--html", "--md")),
        (TREND, ("--svg", "--html")),
        (REPORT, ("--html", "--csv")),
    ],
)
def test_two_texts_for_one_file_are_refused(
    invoke: Invoke, files: Path, command: tuple[str, ...], options: tuple[str, str]
) -> None:
    before = contents()
    one, other = options
    code, stdout, stderr = invoke(*command, one, "same.txt", other, "./same.txt")
    assert (code, stdout) == (2, "")
    assert "expected a file each, came same.txt twice" in stderr
    assert contents() == before


def test_a_report_takes_the_place_of_no_engine_s_record(invoke: Invoke, files: Path) -> None:
    for name in ("gpu.engine", "gpu.engine.json", "model.onnx.json"):
        Path(name).write_text("{}", encoding="utf-8")
    before = contents()
    asked = ("bench", "gpu.engine", "--backend", "trt", "--out", "gpu.engine.json", "--force")
    code, _, stderr = invoke(*asked)
    assert (code, contents()) == (2, before)
    assert stderr.startswith("error: --out gpu.engine.json: expected a file to write, came ")
    # Beside an ONNX file that is the name of any report.
    assert invoke(*BENCH, "--out", "model.onnx.json", "--runs", "5", "--seconds", "0")[0] == 0


def test_a_report_takes_the_place_of_no_picture(invoke: Invoke, files: Path) -> None:
    before = contents()
    out = "history/a/report.json"
    code, stdout, stderr = invoke(*BENCH, "--pictures", "history", "--out", out)
    assert (code, stdout) == (2, "")
    assert "expected a file beside the pictures, came one of --pictures history" in stderr
    assert contents() == before


@pytest.mark.parametrize(
    ("command", "option"), [(GATE, "--junit"), (TREND, "--html"), (TREND, "--svg")]
)
def test_only_texts_go_to_stdout(
    invoke: Invoke, files: Path, command: tuple[str, ...], option: str
) -> None:
    before = contents()
    code, stdout, stderr = invoke(*command, option, "-")
    assert (code, stdout) == (2, "")
    assert stderr == f"error: {option} -: expected a file, for stdout is for --md alone; name one\n"
    assert contents() == before


@pytest.mark.parametrize("command", [GATE, COMPARE, TREND])
def test_stdout_is_one_program_s(invoke: Invoke, files: Path, command: tuple[str, ...]) -> None:
    code, stdout, stderr = invoke(*command, "--md", "-", "--json")
    assert (code, stdout) == (2, "")
    assert stderr == (
        "error: --md - with --json: expected one of them on stdout, came both; give --md a file, "
        "or leave one out\n"
    )
    assert invoke(*command, "--md", "told.md", "--json")[0] == 0
    assert Path("told.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", [GATE, COMPARE, REPORT])
def test_a_text_is_written_anew(invoke: Invoke, files: Path, command: tuple[str, ...]) -> None:
    Path("told.md").write_text("before", encoding="utf-8")
    assert invoke(*command, "--md", "told.md")[0] == 0
    assert Path("told.md").read_text(encoding="utf-8") != "before"


def test_a_page_on_stdout_is_alone_there(invoke: Invoke, files: Path) -> None:
    code, stdout, stderr = invoke(*REPORT, "--md", "-", "--csv", "figures.csv")
    assert (code, stderr) == (0, "csv: figures.csv\n")
    assert stdout == invoke(*REPORT, "--md", "-")[1]
    assert "csv: " not in stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_files_are_written_though_stdout_is_full(files: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "edge_bench", *REPORT, "--html", "-", "--csv", "figures.csv"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert ended.returncode == 3
    assert "stdout: No space left on device; the command has done its work" in ended.stderr
    assert Path("figures.csv").read_text(encoding="utf-8").count("\n") > 1


def test_weights_beside_a_model_are_not_written_over(
    invoke: Invoke, files: Path, make_model: Callable[..., Path]
) -> None:
    onnx = pytest.importorskip("onnx")
    onnx.save(
        onnx.load(make_model()),
        "apart.onnx",
        save_as_external_data=True,
        location="apart.bin",
        size_threshold=0,
    )
    before = contents()
    code, _, stderr = invoke("bench", "apart.onnx", "--force", "--out", "apart.bin")
    assert (code, contents() == before) == (2, True)
    assert "--out apart.bin: expected a file to write, came apart.bin, which is read" in stderr
