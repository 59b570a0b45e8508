"""Runs the steps of a composite action as a runner of GitHub's does: one bash each.

Inputs, outputs, `if`, `env`, `working-directory` and the files of a step are as its documentation
says; what an action of this project does not use, it does not know.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .expressions import filled, value_of

BASH = ("bash", "--noprofile", "--norc", "-eo", "pipefail")


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What became of an action: the outcome of each step by its id, and what all of it printed.

    Attributes:
        code: exit code of the last step that failed, or 0.
    """

    succeeded: bool
    code: int
    outputs: dict[str, str]
    outcomes: dict[str, str]
    log: str
    summary: str


@dataclass(kw_only=True)
class _Run:
    inputs: dict[str, str]
    workspace: Path
    temp: Path
    base: dict[str, str]
    github: dict[str, str]
    steps: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: bool = False
    code: int = 0
    log: str = ""

    def contexts(self) -> dict[str, Any]:
        functions: dict[str, Callable[[], bool]] = {
            "always": lambda: True,
            "cancelled": lambda: False,
            "success": lambda: not self.failed,
            "failure": lambda: self.failed,
        }
        return {
            "inputs": self.inputs,
            "steps": self.steps,
            "github": self.github,
            **functions,
        }


def run_action(
    path: Path, inputs: Mapping[str, str], workspace: Path, temp: Path, env: Mapping[str, str]
) -> Ended:
    """Run the action of the file `path` in `workspace`; `env` is what the runner itself has."""
    action = yaml.safe_load(path.read_text(encoding="utf-8"))
    declared = action["inputs"]
    unknown = set(inputs) - set(declared)
    assert not unknown, f"{path} has no inputs {unknown}"
    temp.mkdir(parents=True, exist_ok=True)
    github = {"action_path": str(path.parent), "token": env.get("TOKEN", "")}
    given = {
        name: filled(one.get("default", ""), {"github": github}) for name, one in declared.items()
    }
    run = _Run(
        inputs=given | dict(inputs), workspace=workspace, temp=temp, base=dict(env), github=github
    )
    summary = temp / "summary.md"
    summary.touch()
    for number, step in enumerate(action["runs"]["steps"]):
        _step(run, step, str(step.get("id", number)), summary)
    return Ended(
        succeeded=not run.failed,
        code=run.code,
        outputs={
            name: filled(one["value"], run.contexts())
            for name, one in action.get("outputs", {}).items()
        },
        outcomes={name: step["outcome"] for name, step in run.steps.items()},
        log=run.log,
        summary=summary.read_text(encoding="utf-8"),
    )


def _step(run: _Run, step: Mapping[str, Any], name: str, summary: Path) -> None:
    if not _wanted(run, str(step.get("if", "success()"))):
        run.steps[name] = {"outcome": "skipped", "outputs": {}}
        return
    output, script = run.temp / f"{name}.output", run.temp / f"{name}.sh"
    output.write_text("", encoding="utf-8")
    script.write_text(filled(step["run"], run.contexts()), encoding="utf-8")
    assert step["shell"] == "bash", step
    folder = run.workspace / filled(step.get("working-directory", "."), run.contexts())
    own = {key: filled(value, run.contexts()) for key, value in step.get("env", {}).items()}
    files = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_OUTPUT": str(output),
        "GITHUB_STEP_SUMMARY": str(summary),
        "GITHUB_WORKSPACE": str(run.workspace),
        "RUNNER_TEMP": str(run.temp),
    }
    ended = subprocess.run(
        [*BASH, str(script)],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **run.base, **files, **own},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    run.log += ended.stdout
    run.failed = run.failed or ended.returncode != 0
    run.code = ended.returncode or run.code
    run.steps[name] = {
        "outcome": "failure" if ended.returncode else "success",
        "outputs": _outputs(output.read_text(encoding="utf-8")),
    }


def _wanted(run: _Run, condition: str) -> bool:
    bare = condition.strip().removeprefix("${{").removesuffix("}}")
    asked = any(f"{name}(" in bare for name in ("always", "cancelled", "success", "failure"))
    # A condition that asks for no status has success() before it.
    return bool(value_of(bare, run.contexts())) and (asked or not run.failed)


def _outputs(text: str) -> dict[str, str]:
    found = {}
    for line in text.splitlines():
        name, sign, value = line.partition("=")
        assert sign, f"no output: {line}"
        found[name] = value
    return found
