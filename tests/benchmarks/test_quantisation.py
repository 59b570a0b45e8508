"""The timing of INT8 files and what they compute in each runtime, on a network of moments."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from benchmarks.documents import filled
from benchmarks.lines import RESULTS, read_lines
from benchmarks.quantisation import report, runtimes, speed
from benchmarks.quantisation.run import LINES


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files and the lines of one timing."""
    folder = tmp_path_factory.mktemp("speed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "SHAPE", (1, 8, 8))
        command = ["resnet8:4", "--work", str(folder), "--rounds", "2"]
        app = typer.Typer()
        app.command()(speed.main)
        ended = CliRunner().invoke(app, [*command, "--lines", str(folder / "lines.jsonl")])
    assert ended.exit_code == 0, ended.output
    return folder


def test_every_rival_has_a_line_and_fp32_is_its_own_measure(work: Path) -> None:
    lines = [json.loads(line) for line in (work / "lines.jsonl").read_text().splitlines()]
    ours = {line["rival"]: line for line in lines if line["runtime"] == "ort"}
    assert set(ours) == set(speed.RIVALS)
    assert ours["fp32"]["speed_up"] == 1
    for line in ours.values():
        assert 0 < line["speed_up_p10"] <= line["speed_up"] <= line["speed_up_p90"]
        assert line["median_ms"] > 0
    assert ours["x86-vnni"]["float_layers"] == 0
    assert ours["unprepared"]["float_layers"] > 0
    assert ours["fp32"]["float_layers"] > 0


def test_a_speed_up_is_the_median_over_rounds_of_fp32_s_latency_over_the_rival_s() -> None:
    # Per round, a first call and two that count. The first round warms up; in the third the whole
    # machine is five times slower, and in the last the rival alone is.
    now = 0
    slow_down = {"ort fp32": [9, 1, 5, 1], "ort int8": [99, 1, 5, 4]}
    done = dict.fromkeys(slow_down, 0)

    def call(name: str, milliseconds: int) -> None:
        nonlocal now
        now += milliseconds * slow_down[name][done[name] // 3] * 1_000_000
        done[name] += 1

    calls = {"ort fp32": lambda: call("ort fp32", 6), "ort int8": lambda: call("ort int8", 2)}
    figures = speed.timed(calls, batch_size=32, rounds=3, clock=lambda: now)
    assert figures["ort fp32"] == {
        "median_ms": 6,
        "speed_up": 1,
        "speed_up_p10": 1,
        "speed_up_p90": 1,
    }
    rival = figures["ort int8"]
    assert (rival["median_ms"], rival["speed_up"], rival["speed_up_p90"]) == (8, 3, 3)
    assert rival["speed_up_p10"] == pytest.approx(0.75 + 0.2 * (3 - 0.75))


def test_every_runtime_says_what_it_makes_of_every_file(work: Path, tmp_path: Path) -> None:
    folder = work / "resnet8:4"
    app = typer.Typer()
    app.command()(runtimes.main)
    names = []
    for form in ("fp32", "arm", "tensorrt"):
        shutil.copyfile(folder / f"{form}.onnx", tmp_path / f"{form}.onnx")
        names.append(str(tmp_path / f"{form}.onnx"))
    command = [*names, "--data-dir", "unused", "--dataset", "digits", "--limit", "20"]
    ended = CliRunner().invoke(app, command)
    assert ended.exit_code == 0, ended.output
    first, *rest = [json.loads(line) for line in ended.stdout.splitlines()]
    assert first["file"] == "fp32.onnx"
    found = {(line["file"], line["runtime"]) for line in rest}
    for file in ("arm.onnx", "tensorrt.onnx"):
        assert (file, "onnxruntime, signed") in found
        assert (file, "onnxruntime, as written") in found
    assert all(line["images"] == 20 and line["agrees_with_fp32"] > 0.5 for line in rest)


def test_the_published_tables_are_what_the_lines_say() -> None:
    text = (RESULTS / "quantisation.md").read_text(encoding="utf-8")
    assert filled(text, report.maker(read_lines(LINES))) == text
    assert text.count("| fp32 |") == 2
