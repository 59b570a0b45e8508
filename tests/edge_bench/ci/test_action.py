"""The steps of action.yml, run in bash as a runner of GitHub's runs them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from edge_bench.core.series import encode_series
from edge_bench.core.spec import Report
from edge_bench.files.store import write_json

from ...tools.action_runner import run_action
from .conftest import ACTION, EXCUSED, Act, policy

ROOT = Path(__file__).parents[3]
CHANGE_OF_A_POINT = 'confidence = 0.95\ncritical = ["drop(worst_case) <= 1%"]\n'


@pytest.fixture
def reports(workspace: Path, make_report: Callable[..., Report]) -> Callable[[int, int], None]:
    """Write old.json, right on 600 of 1000 attacked samples, and new.json without some of them."""

    def write(lost: int, won: int) -> None:
        count = 1000
        labels = encode_series(int(label) for label in np.arange(count) % 4)
        old, clean = np.arange(count) < 600, "1" * count
        new = old.copy()
        new[:lost], new[600 : 600 + won] = False, True
        for name, mask in (("old", old), ("new", new)):
            text = "".join("1" if right else "0" for right in mask)
            report = replace(make_report(clean, {"pgd": text}), labels=labels)
            write_json(workspace / f"{name}.json", report, True)

    return write


def test_a_pull_request_is_measured_and_passes(
    act: Act, workspace: Path, make_model: Callable[..., Path], make_set: Callable[..., Path]
) -> None:
    make_model("student.onnx").rename(workspace / "student.onnx")
    (make_set().parent).rename(workspace / "sets")
    ended = act(
        artifact="student.onnx",
        sets="sets",
        device="local",
        bench_options="--runs=70\n--seconds=0\n--settle-seconds=0\n--warmup=1\n--threads=1",
        policy=policy(workspace, EXCUSED + 'critical = ["clean >= 60%", "size_bytes <= 9000"]\n'),
    )
    assert ended.succeeded, ended.log
    assert ended.outputs == {
        "status": "passed",
        "report": "ardx-report.json",
        "markdown": "ardx-gate.md",
        "junit": "ardx-gate.xml",
        "page": "",
    }
    assert ended.outcomes["page"] == "skipped"
    assert "### ardx gate: passed" in ended.summary
    assert (workspace / "ardx-gate.md").read_text(encoding="utf-8") in ended.summary
    report = json.loads((workspace / "ardx-report.json").read_text(encoding="utf-8"))
    assert len(report["clean_mask"]) == 30
    cases = ET.parse(workspace / "ardx-gate.xml").getroot().iter("testcase")
    assert [case.get("name") for case in cases] == ["clean", "size_bytes", "no_doubts"]


def test_an_int8_that_lost_three_points_fails_and_names_what_broke(
    act: Act, workspace: Path, reports: Callable[[int, int], None]
) -> None:
    reports(33, 3)
    ended = act(
        report="new.json",
        baseline="old.json",
        policy=policy(workspace, EXCUSED + CHANGE_OF_A_POINT),
    )
    assert not ended.succeeded
    assert ended.outputs["status"] == "failed"
    assert ended.outcomes == {
        "python": "success",
        "bench": "skipped",
        "gate": "success",
        "page": "skipped",
        "verdict": "failure",
    }
    annotations = [line for line in ended.log.splitlines() if line.startswith("::")]
    assert annotations[0].startswith("::error title=ardx gate%3A drop(worst_case) failed::")
    broke = "newly broken: 33 samples (0, 1, 2, 3, 4, 5"
    assert broke in annotations[1]
    assert "by class: 0 9, 1 8, 2 8, 3 8" in annotations[1]
    comment = (workspace / "ardx-gate.md").read_text(encoding="utf-8")
    assert "newly broken: 33 samples" in comment
    assert len(list(ET.parse(workspace / "ardx-gate.xml").getroot().iter("failure"))) == 1


def test_the_same_from_the_export_on(
    act: Act,
    workspace: Path,
    make_model: Callable[..., Path],
    make_set: Callable[..., Path],
    weight: NDArray[np.float32],
) -> None:
    """Main's model writes the baseline; the change brings its weights, rounded too coarsely."""
    rng = np.random.default_rng(3)
    clean = rng.integers(0, 256, (2000, 3, 8, 8), dtype=np.uint8)
    labels = answers(weight, clean)
    others = np.argsort(logits(weight, clean), axis=1)[:, -2]
    steps = 14 * np.sign(weight[others] - weight[labels]).reshape(clean.shape)
    attacked = np.clip(clean + steps, 0, 255)
    before = answers(weight, attacked) == labels
    coarse = min(
        (step * np.round(weight / step) for step in np.geomspace(0.05, 1.5, 60)),
        key=lambda rounded: abs(lost(rounded, clean, attacked, labels, before) - 0.03),
    ).astype(np.float32)
    # A tie would test rounding.
    leads = [np.sort(logits(w, i), axis=1) for w in (weight, coarse) for i in (clean, attacked)]
    kept = np.all([lead[:, -1] - lead[:, -2] > 1e-3 for lead in leads], axis=0)
    clean, attacked, labels, before = clean[kept], attacked[kept], labels[kept], before[kept]
    expected = lost(coarse, clean, attacked, labels, before)
    assert 0.025 < expected < 0.035
    assert 0.5 < before.mean() < 0.9
    images = attacked.astype(np.uint8)
    make_set(clean=clean, labels=labels, images=images).parent.rename(workspace / "sets")
    make_model("main.onnx").rename(workspace / "student.onnx")
    asked = {
        "artifact": "student.onnx",
        "sets": "sets",
        "device": "local",
        "bench_options": "--runs=5\n--seconds=0\n--settle-seconds=0\n--warmup=1\n--threads=1",
        "policy": policy(workspace, EXCUSED + 'confidence = 0.95\ncritical = ["clean >= 60%"]\n'),
        "baseline": "baseline.json",
    }
    on_main = act(**asked, gate_options="--update-baseline")
    assert on_main.succeeded, on_main.log
    make_model("change.onnx", weight=coarse).rename(workspace / "student.onnx")
    policy(workspace, EXCUSED + CHANGE_OF_A_POINT)
    ended = act(**asked)
    assert ended.outputs["status"] == "failed", ended.log
    new = (answers(coarse, attacked) == labels) & (answers(coarse, clean) == labels)
    gone = np.flatnonzero(before & ~new)
    first = ", ".join(map(str, gone[:20]))
    assert f"newly broken: {len(gone)} samples ({first} and {len(gone) - 20} more)" in ended.log
    of_classes = sorted(
        ((name, int((labels[gone] == name).sum())) for name in range(4)),
        key=lambda pair: (-pair[1], pair[0]),
    )
    told = ", ".join(f"{name} {count}" for name, count in of_classes if count)
    assert f"by class: {told}; newly right: " in ended.summary.replace("\\", "")


def answers(weight: NDArray[np.float32], images: NDArray[Any]) -> NDArray[np.int64]:
    """(N,) what the linear classifier says."""
    said: NDArray[np.int64] = logits(weight, images).argmax(axis=1)
    return said


def logits(weight: NDArray[np.float32], images: NDArray[Any]) -> NDArray[np.float64]:
    flat = images.reshape(len(images), -1).astype(np.float64) / 255
    said: NDArray[np.float64] = flat @ weight.T.astype(np.float64)
    return said


def lost(
    rounded: NDArray[np.float32],
    clean: NDArray[Any],
    attacked: NDArray[Any],
    labels: NDArray[np.int64],
    before: NDArray[np.bool_],
) -> float:
    """By how much the worst case falls with rounded weights, a fraction."""
    right = (answers(rounded, attacked) == labels) & (answers(rounded, clean) == labels)
    return float(before.mean() - right.mean())


def test_what_so_few_samples_cannot_decide_is_told_as_such(
    act: Act, workspace: Path, reports: Callable[[int, int], None]
) -> None:
    reports(25, 13)
    ended = act(
        report="new.json",
        baseline="old.json",
        policy=policy(workspace, EXCUSED + CHANGE_OF_A_POINT),
    )
    assert (ended.succeeded, ended.outputs["status"]) == (False, "inconclusive")
    assert "### ardx gate: inconclusive" in ended.summary
    assert "inconclusive::" in ended.log
    assert len(list(ET.parse(workspace / "ardx-gate.xml").getroot().iter("error"))) == 1


def test_the_page_is_written_whatever_the_verdict(
    act: Act, workspace: Path, reports: Callable[[int, int], None]
) -> None:
    reports(0, 0)
    ended = act(report="new.json", page="page.html", gate_options="--min-robust-accuracy=0.9")
    assert ended.outcomes["page"] == "success", ended.log
    assert (ended.outputs["status"], ended.outputs["page"]) == ("failed", "page.html")
    assert "<html" in (workspace / "page.html").read_text(encoding="utf-8")


def test_a_report_that_was_measured_elsewhere_must_be_of_the_file_that_ships(
    act: Act,
    workspace: Path,
    reports: Callable[[int, int], None],
    make_model: Callable[..., Path],
) -> None:
    reports(0, 0)
    make_model("student.onnx").rename(workspace / "student.onnx")
    ended = act(
        artifact="student.onnx",
        bench="false",
        report="new.json",
        policy=policy(workspace, EXCUSED + 'critical = ["clean >= 60%"]\n'),
    )
    assert ended.outputs["status"] == "failed"
    assert "the report is of another artefact" in ended.log


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"report": "none.json"}, "none.json"),
        ({"artifact": "none.onnx"}, "none.onnx"),
        ({"python": "/bin/false"}, "input python: expected Python 3.10 or newer"),
        ({"report": "a.json\nstatus=passed"}, "expected a path on one line each"),
        ({"install": "true", "extras": "edge"}, "pip could not install ardx[edge]"),
        ({"report": "none.json", "markdown": "out/new folder/-gate.md"}, "none.json"),
    ],
)
def test_what_cannot_be_done_is_an_error_with_its_sentence(
    workspace: Path, tmp_path: Path, inputs: dict[str, str], sentence: str
) -> None:
    stale = workspace / inputs.get("markdown", "ardx-gate.md")
    (workspace / "ardx-gate.md").write_text("### ardx gate: passed\n", encoding="utf-8")
    given = {"install": "false", "python": sys.executable, "policy": "gate.toml"}
    policy(workspace, 'critical = ["clean >= 60%"]\n')
    ended = run_action(
        # Without an index pip can install nothing: no network in tests.
        ACTION,
        given | inputs,
        workspace,
        tmp_path / "temp",
        {"PIP_NO_INDEX": "1", "HOME": str(tmp_path)},
    )
    assert (ended.succeeded, ended.outputs["status"]) == (False, "error")
    assert "::error title=ardx gate error::" in ended.log
    assert sentence in stale.read_text(encoding="utf-8")
    assert stale.read_text(encoding="utf-8").startswith("### ardx gate: error")


def test_a_gate_that_breaks_is_no_verdict(
    workspace: Path, act: Act, reports: Callable[[int, int], None]
) -> None:
    """Python ends with 1 there, which is what a failed gate ends with."""
    reports(0, 0)
    (workspace / "ardx-gate.md").write_text("### ardx gate: passed\n", encoding="utf-8")
    broken = workspace / "python"
    broken.write_text(f'#!/bin/sh\n[ "$3" = gate ] && exit 1\nexec {sys.executable} "$@"\n')
    broken.chmod(0o755)
    ended = act(python=str(broken), report="new.json", policy=policy(workspace, CHANGE_OF_A_POINT))
    assert (ended.succeeded, ended.outputs["status"]) == (False, "error")
    assert "it broke; the log of this job says where" in ended.summary


def test_nothing_of_the_checkout_is_imported(
    act: Act, workspace: Path, a_bundle: Callable[..., dict[str, str]]
) -> None:
    """As of a Python 3.10, which knows no PYTHONSAFEPATH."""
    asked = a_bundle("--min-clean-accuracy", "0.1")
    for name in ("edge_bench", "statistics", "json", "typer"):
        (workspace / f"{name}.py").write_text('raise SystemExit("of the checkout")\n')
    older = workspace / "python"
    older.write_text(f'#!/bin/sh\nunset PYTHONSAFEPATH\nexec {sys.executable} "$@"\n')
    older.chmod(0o755)
    text = EXCUSED + 'critical = ["clean >= 60%"]\n'
    ended = act(**asked, policy=policy(workspace, text), page="page.html", python=str(older))
    assert ended.outputs["status"] == "passed", ended.log
    assert ended.outcomes["page"] == "success"


@pytest.mark.parametrize(
    "hostile", ["$(touch pwned).json", "`touch pwned`.json", "a'; touch pwned; '"]
)
def test_what_a_change_names_runs_no_command(act: Act, workspace: Path, hostile: str) -> None:
    ended = act(
        artifact=hostile,
        sets=hostile,
        report=hostile,
        markdown="gate.md",
        policy=hostile,
        bench_options=hostile,
        gate_options=hostile,
        backend=hostile,
    )
    assert ended.outputs["status"] == "error"
    assert not list(workspace.rglob("pwned"))


@pytest.mark.parametrize("path", [ACTION, ROOT / "comment/action.yml"], ids=str)
def test_no_script_has_an_expression_in_it(path: Path) -> None:
    action = yaml.safe_load(path.read_text(encoding="utf-8"))
    scripts = [step["run"] for step in action["runs"]["steps"] if "run" in step]
    assert scripts
    assert not [script for script in scripts if "${{" in script]
    for script in scripts:
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_every_input_and_output_is_documented() -> None:
    page = (ROOT / "docs/how-to/ci.md").read_text(encoding="utf-8")
    action: dict[str, Any] = yaml.safe_load(ACTION.read_text(encoding="utf-8"))
    for name, one in action["inputs"].items():
        default = f"`{one['default']}`" if one["default"] else "none"
        assert f"| `{name}` | {default} | {_means(one)} |" in page, name
    for name, one in action["outputs"].items():
        assert f"| `{name}` | {_means(one)} |" in page, name
    assert os.access(ACTION, os.R_OK)


def _means(one: dict[str, str]) -> str:
    """A description without its full stop; the dots of "and so on" stay."""
    return re.sub(r"(?<!\.)\.$", "", one["description"])
