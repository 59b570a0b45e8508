"""action.yml and the workflows that people copy are as GitHub's and GitLab's schemas say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ..tools.schemas import check
from .pages import ROOT
from .test_command_lines import parse

EXAMPLES = ROOT / "examples/ci"
FILES = {
    "action.yml": "github-actions",
    "comment/action.yml": "github-actions",
    **{
        str(path.relative_to(ROOT)): "github-workflows"
        for path in sorted(EXAMPLES.glob("robustness*.yml"))
    },
    "examples/ci/gitlab-ci.yml": "gitlab-ci",
}
LINE = re.compile(r"^[\s-]*(?:\.ardx/bin/)?(ardx (?!ended).*)$", re.MULTILINE)
COMMANDS = [
    pytest.param(line, id=f"{path.name}: {line[:50]}")
    for path in sorted(EXAMPLES.iterdir())
    for line in LINE.findall(path.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize(("name", "schema"), FILES.items(), ids=str)
def test_a_file_is_as_its_published_schema_says(name: str, schema: str) -> None:
    ended = check(ROOT / name, schema)
    assert ended.exit_code == 0, ended.output


def test_a_wrong_file_is_told(tmp_path: Path) -> None:
    wrong = tmp_path / "action.yml"
    text = (ROOT / "action.yml").read_text(encoding="utf-8")
    wrong.write_text(text.replace("      shell: bash\n", "", 1), encoding="utf-8")
    ended = check(wrong, "github-actions")
    assert ended.exit_code == 1
    assert "shell" in ended.output


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_an_example_is_taken(line: str) -> None:
    parse(line)


def test_commands_of_the_examples_are_found() -> None:
    assert len(COMMANDS) >= 5


@pytest.mark.parametrize("name", [n for n in FILES if n.startswith("examples/ci/robustness")])
def test_what_an_example_gives_an_action_is_an_input_of_it(name: str) -> None:
    workflow: dict[str, Any] = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    for job in workflow["jobs"].values():
        for step in job["steps"]:
            used = re.fullmatch(r"OWNER/ardx(/comment)?@v[\d.]+", step.get("uses", ""))
            if used:
                action = ROOT / (used[1] or "").lstrip("/") / "action.yml"
                declared = yaml.safe_load(action.read_text(encoding="utf-8"))["inputs"]
                assert set(step["with"]) <= set(declared)


def test_a_stranger_s_change_meets_no_right_to_write() -> None:
    """What runs a pull request's code may read; what may write runs none of it."""
    runs = yaml.safe_load((EXAMPLES / "robustness.yml").read_text(encoding="utf-8"))
    assert runs["permissions"] == {"contents": "read"}
    writes = yaml.safe_load((EXAMPLES / "robustness-comment.yml").read_text(encoding="utf-8"))
    steps = writes["jobs"]["comment"]["steps"]
    assert not [s for s in steps if "run" in s or "checkout" in s.get("uses", "")]
    # YAML takes a bare `on` for true.
    assert list(writes[True]) == ["workflow_run"]
    assert writes[True]["workflow_run"]["workflows"] == [runs["name"]]
    uploads = {s["with"]["name"] for s in runs["jobs"]["gate"]["steps"] if "upload" in str(s)}
    assert steps[0]["with"]["name"] in uploads
