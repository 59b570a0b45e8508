"""The action of this repository, run on a checkout of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ...tools.action_runner import Ended, run_action

ACTION = Path(__file__).parents[3] / "action.yml"
EXCUSED = 'excuse = ["timing of", "accuracy is an upper bound", "no black-box"]\n'

Act = Callable[..., Ended]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """The checkout of a pull request."""
    folder = tmp_path / "workspace"
    folder.mkdir()
    return folder


@pytest.fixture
def act(workspace: Path, tmp_path: Path) -> Act:
    """Run the action with this environment's Python; what stands in a secret stays outside."""

    def run(**inputs: str) -> Ended:
        given = {"install": "false", "python": sys.executable}
        given |= {name.replace("_", "-"): value for name, value in inputs.items()}
        return run_action(ACTION, given, workspace, tmp_path / "temp", {"HOME": str(tmp_path)})

    return run


@pytest.fixture
def a_bundle(
    workspace: Path,
    make_model: Callable[..., Path],
    make_set: Callable[..., Path],
    invoke: Callable[..., Any],
) -> Callable[..., dict[str, str]]:
    """Pack conditions into workspace/student.ardx; the inputs that measure it."""

    def pack(*conditions: str) -> dict[str, str]:
        out = workspace / "student.ardx"
        sets = make_set().parent
        packed = invoke("bundle", make_model(), "--sets", sets, *conditions, "--out", out)
        assert packed[0] == 0, packed
        quick = "--runs=5\n--seconds=0\n--settle-seconds=0\n--warmup=1\n--threads=1"
        return {"artifact": "student.ardx", "device": "local", "bench_options": quick}

    return pack


def policy(workspace: Path, text: str) -> str:
    (workspace / "gate.toml").write_text(text, encoding="utf-8")
    return "gate.toml"
