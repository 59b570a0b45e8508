"""`ardx init ci` writes what fits the files of a project, and over none of them."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_bench.core.spec import Artifact, Report
from edge_bench.files.store import sha256_file, write_json
from edge_bench.policy.baseline import baseline_of
from edge_bench.policy.evaluate import Circumstances, evaluate
from edge_bench.policy.policy_file import read_policy
from edge_bench.report.doubts import doubts_in

from ...tools.schemas import check

Invoke = Callable[..., tuple[int, str, str]]
WORKFLOW = Path(".github/workflows/robustness.yml")


@pytest.fixture
def project(tmp_path: Path, make_model: Callable[..., Path]) -> Path:
    """A folder with an artefact in models/."""
    folder = tmp_path / "project"
    (folder / "models").mkdir(parents=True)
    make_model("m.onnx").rename(folder / "models/student.onnx")
    return folder


@pytest.fixture
def measured_project(
    project: Path, make_report: Callable[..., Report], make_set: Callable[..., Path]
) -> tuple[Path, Report]:
    """With sets and a report of the artefact: 90% clean, 57.5% under attack."""
    make_set().parent.rename(project / "sets")
    plain = make_report("1" * 180 + "0" * 20, {"pgd": "1" * 115 + "0" * 85})
    model = project / "models/student.onnx"
    artifact = Artifact(
        path="student.onnx",
        sha256=sha256_file(model),
        size_bytes=model.stat().st_size,
        card=plain.artifact.card,
    )
    report = replace(plain, artifact=artifact)
    write_json(project / "reports/base.json", report, False)
    return project, report


def written(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((folder / WORKFLOW).read_text(encoding="utf-8"))
    return loaded


def test_limits_stand_a_little_beside_what_was_measured(
    invoke: Invoke, measured_project: tuple[Path, Report]
) -> None:
    folder, report = measured_project
    code, stdout, _ = invoke("init", "ci", "--dir", folder)
    assert code == 0
    assert "limits from reports/base.json" in stdout
    assert "measures models/student.onnx, by sets" in stdout
    text = (folder / "gate.toml").read_text(encoding="utf-8")
    assert '"clean >= 89%", # measured 90.0% on 200 images' in text
    assert '"worst_case >= 56%", # measured 57.5% on 200 images' in text
    assert '"latency_p95_ms <= 1.5", # measured 1 ms' in text
    doubts = Circumstances(doubts=tuple(doubts_in(report)))
    assert evaluate(report, read_policy(folder / "gate.toml"), doubts).status == "passed"
    steps = written(folder)["jobs"]["gate"]["steps"]
    assert {"ARTIFACT": "models/student.onnx", "SETS": "sets"} in [s.get("env") for s in steps]
    ended = check(folder / WORKFLOW, "github-workflows")
    assert ended.exit_code == 0, ended.output


def test_of_several_artefacts_the_measured_one_is_taken(
    invoke: Invoke,
    measured_project: tuple[Path, Report],
    make_model: Callable[..., Path],
    make_card: Callable[..., Any],
) -> None:
    folder, _ = measured_project
    make_model("m.onnx", card=make_card(precision="int8")).rename(folder / "models/a-int8.onnx")
    stdout = invoke("init", "ci", "--dir", folder)[1]
    assert "measures models/student.onnx" in stdout
    for path in (folder / "gate.toml", folder / WORKFLOW, folder / "reports/base.json"):
        path.unlink()
    # Without a report, the quantised one, whatever it is called.
    (folder / "models/a-int8.onnx").rename(folder / "models/z.onnx")
    assert "measures models/z.onnx" in invoke("init", "ci", "--dir", folder)[1]


def test_the_steps_it_writes_run_and_pass(
    invoke: Invoke, measured_project: tuple[Path, Report]
) -> None:
    """All but the installation, which needs a network."""
    folder, _ = measured_project
    assert invoke("init", "ci", "--dir", folder)[0] == 0
    script = "\n".join(
        step["run"].replace("ardx ", f"{sys.executable} -m edge_bench ")
        for step in written(folder)["jobs"]["gate"]["steps"]
        if step.get("name") in ("Replay the stored attacks", "Gate")
    )
    (folder / "gate.toml").write_text(
        (folder / "gate.toml")
        .read_text(encoding="utf-8")
        .replace("89%", "80%")
        .replace("56%", "5%"),
        encoding="utf-8",
    )
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script.replace("--out ", "--seconds 0 --runs 5 --out ")],
        cwd=folder,
        env={"ARTIFACT": "models/student.onnx", "SETS": "sets", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "gate: passed" in ended.stdout
    assert (folder / "ardx-gate.xml").exists()


def test_names_that_begin_as_options_do_are_taken_as_files(
    invoke: Invoke, measured_project: tuple[Path, Report]
) -> None:
    folder, report = measured_project
    (folder / "models/student.onnx").rename(folder / "-m.onnx")
    (folder / "sets").rename(folder / "-s")
    write_json(folder / "-b.json", baseline_of(report), False)
    assert invoke("init", "ci", "--dir", folder)[0] == 0
    env: dict[str, str] = {"PATH": "/usr/bin:/bin"}
    for step in written(folder)["jobs"]["gate"]["steps"]:
        if step.get("name") not in ("Replay the stored attacks", "Gate"):
            continue
        env |= step["env"]
        run = step["run"].replace("ardx ", f"{sys.executable} -m edge_bench ", 1)
        run = run.replace("--out ", "--seconds 0 --runs 5 --out ")
        command = ["bash", "-euo", "pipefail", "-c", run]
        ended = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
        told = ended.stdout + ended.stderr
        # The baseline was made by hand; it was read.
        assert ended.returncode == 0 or "was measured on other clean images" in told, told


@pytest.mark.parametrize("uses", [None, "OWNER/ardx@v0.2.0"])
def test_of_a_folder_in_a_repository_the_workflow_goes_where_github_looks(
    invoke: Invoke, measured_project: tuple[Path, Report], uses: str | None
) -> None:
    folder, _ = measured_project
    (folder / ".git").mkdir()
    (folder / "sets").rename(folder / "models/sets")
    more = ("--uses", uses) if uses else ()
    code, stdout, _ = invoke("init", "ci", "--dir", folder / "models", *more)
    assert code == 0
    assert f"wrote {folder / WORKFLOW}: measures student.onnx, by sets" in stdout
    assert f"wrote {folder / 'models/gate.toml'}" in stdout
    assert not (folder / "models/.github").exists()
    assert check(folder / WORKFLOW, "github-workflows").exit_code == 0
    job = written(folder)["jobs"]["gate"]
    if uses:
        used = next(step for step in job["steps"] if step.get("uses") == uses)
        assert used["with"]["working-directory"] == "models"
    else:
        assert job["defaults"] == {"run": {"working-directory": "models"}}
    assert "models/ardx-report.json" in job["steps"][-1]["with"]["path"]
    code, _, stderr = invoke("init", "ci", "--dir", folder / "models", *more)
    assert code == 2
    assert f"{folder / WORKFLOW} exists already" in stderr


def test_a_project_without_a_repository_is_told_where_github_looks(
    invoke: Invoke, project: Path
) -> None:
    sentence = "GitHub looks for it at the root of a git repository"
    assert sentence in invoke("init", "ci", "--dir", project)[1]
    for name in ("gate.toml", WORKFLOW):
        (project / name).unlink()
    (project / ".git").write_text("gitdir: elsewhere\n", encoding="utf-8")
    assert sentence not in invoke("init", "ci", "--dir", project)[1]


def test_a_baseline_is_compared_with(invoke: Invoke, measured_project: tuple[Path, Report]) -> None:
    folder, report = measured_project
    write_json(folder / "base-line.json", baseline_of(report), False)
    assert invoke("init", "ci", "--dir", folder)[0] == 0
    assert '"drop(worst_case) <= 1%", # against' in (folder / "gate.toml").read_text()
    gate = next(s for s in written(folder)["jobs"]["gate"]["steps"] if s.get("name") == "Gate")
    assert gate["env"] == {"BASELINE": "base-line.json"}
    assert '--baseline="$BASELINE"' in gate["run"]


@pytest.mark.parametrize(
    ("version", "uses", "said"),
    [("0.3.0.dev1", None, True), ("0.3.0.dev1", "OWNER/ardx@main", False), ("0.3.0", None, False)],
)
def test_a_version_that_no_index_has_is_told_with_what_to_install(
    invoke: Invoke,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    version: str,
    uses: str | None,
    said: bool,
) -> None:
    monkeypatch.setattr("edge_bench.commands.init.__version__", version)
    options = [] if uses is None else ["--uses", uses]
    code, stdout, _ = invoke("init", "ci", "--dir", project, *options)
    assert code == 0
    assert (f"ardx {version} is on no package index" in stdout) == said


def test_without_report_and_sets_it_says_what_to_do_next(invoke: Invoke, project: Path) -> None:
    (project / ".gitattributes").write_text("*.onnx filter=lfs\n", encoding="utf-8")
    (project / "models/other.onnx").write_bytes((project / "models/student.onnx").read_bytes())
    code, stdout, _ = invoke("init", "ci", "--dir", project, "--uses", "OWNER/ardx@v0.2.0")
    assert code == 0
    assert "passed over models/student.onnx" in stdout
    assert "next 1: craft a set" in stdout
    assert "next 2: measure, then set the floors: ardx bench models/other.onnx" in stdout
    assert [c.said for c in read_policy(project / "gate.toml").conditions] == ["size_bytes <= 3433"]
    steps = written(project)["jobs"]["gate"]["steps"]
    assert steps[0]["with"]["lfs"] is True
    used = next(step for step in steps if step.get("uses") == "OWNER/ardx@v0.2.0")
    assert used["with"] == {"artifact": "models/other.onnx", "policy": "gate.toml"}
    assert check(project / WORKFLOW, "github-workflows").exit_code == 0


def test_an_app_s_manifest_is_no_set(
    invoke: Invoke, project: Path, make_set: Callable[..., Path]
) -> None:
    (project / "app").mkdir()
    (project / "app/manifest.json").write_text('{"name": "app", "icons": []}', encoding="utf-8")
    (project / "models/student.onnx").rename(project / "models/it's mine.onnx")
    told = json.loads(invoke("init", "ci", "--dir", project, "--json")[1])
    assert told["sets"] is None
    for name in ("gate.toml", WORKFLOW):
        (project / name).unlink()
    make_set().parent.rename(project / "my sets")
    code, stdout, _ = invoke("init", "ci", "--dir", project)
    assert code == 0
    (line,) = [line for line in stdout.splitlines() if "ardx bench" in line]
    command = shlex.split(line.partition("set the floors: ")[2])
    assert command == ["ardx", "bench", "models/it's mine.onnx", "--sets", "my sets"]


@pytest.mark.parametrize("existing", [WORKFLOW, Path("gate.toml")], ids=str)
def test_what_exists_stays_and_nothing_is_written(
    invoke: Invoke, project: Path, existing: Path
) -> None:
    (project / existing).parent.mkdir(parents=True, exist_ok=True)
    (project / existing).write_text("mine", encoding="utf-8")
    before = sorted(project.rglob("*"))
    code, stdout, stderr = invoke("init", "ci", "--dir", project)
    assert (code, stdout) == (2, "")
    assert f"{project / existing} exists already" in stderr
    assert sorted(project.rglob("*")) == before
    assert (project / existing).read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["cd"], "init cd: expected ci"),
        (["ci", "--dir", "nowhere"], "--dir nowhere: expected a folder"),
        (["ci", "--dir", "empty"], "expected an ONNX file in it, found none"),
        (["ci", "--uses", "ardx; rm -rf"], "expected OWNER/ardx@REF"),
        (["ci", "--dir", "odd"], "rename it"),
    ],
)
def test_what_does_not_fit_is_refused(
    invoke: Invoke,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    sentence: str,
) -> None:
    (project / "empty").mkdir()
    (project / "odd").mkdir()
    (project / "models/student.onnx").rename(project / "odd/${{ secrets.KEY }}.onnx")
    monkeypatch.chdir(project)
    code, _, stderr = invoke("init", *arguments)
    assert code == 2
    assert sentence in stderr
    assert not list(project.rglob("gate.toml"))


def test_the_summary_for_programs(invoke: Invoke, measured_project: tuple[Path, Report]) -> None:
    folder, _ = measured_project
    code, stdout, _ = invoke("init", "ci", "--dir", folder, "--json")
    assert code == 0
    told = json.loads(stdout)
    assert told["artifact"] == "models/student.onnx"
    assert told["sets"] == "sets"
    assert told["baseline"] is None
    assert told["written"] == [str(folder / WORKFLOW), str(folder / "gate.toml")]
