"""The action on a bundle, which may bring conditions of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import EXCUSED, Act, policy

CLEAN, TOO_MUCH, TOO_FEW = (
    ("--min-clean-accuracy", "0.1"),
    ("--min-clean-accuracy", "0.99"),
    ("--max-latency-p95-ms", "1000"),
)


@pytest.mark.parametrize(
    ("own", "critical", "status", "code"),
    [
        (TOO_MUCH, "clean >= 60%", "failed", 1),
        (TOO_MUCH, "latency_p95_ms <= 1000", "failed", 1),
        (TOO_FEW, "clean >= 60%", "inconclusive", 4),
        (TOO_FEW, "clean >= 99%", "failed", 1),
    ],
)
def test_of_a_bundle_s_conditions_and_the_policy_the_worse_verdict_decides(
    act: Act,
    workspace: Path,
    a_bundle: Callable[..., dict[str, str]],
    own: tuple[str, ...],
    critical: str,
    status: str,
    code: int,
) -> None:
    asked = a_bundle(*own)
    text = f'{EXCUSED}critical = ["{critical}"]\n'
    (workspace / "ardx-report.json").write_text("of an earlier file", encoding="utf-8")
    # One page is enough: drawing it takes as long as all else.
    page = "page.html" if status == "inconclusive" else ""
    ended = act(**asked, policy=policy(workspace, text), page=page)
    assert ended.outputs["status"] == status, ended.log
    assert ended.outcomes["bench"] == ended.outcomes["gate"] == "success"
    assert ended.outcomes["page"] == ("success" if page else "skipped")
    assert ended.code == code
    comment = (workspace / "ardx-gate.md").read_text(encoding="utf-8")
    assert comment.startswith(f"### ardx gate: {status}\n")
    assert comment.count("###") == 1
    named = "latency" if own == TOO_FEW else "clean accuracy"
    assert named in comment.split("```")[1]
    assert named in next(x for x in ended.log.splitlines() if "of the bundle::" in x)
    assert "\nThe policy: " in comment


@pytest.mark.parametrize(
    ("own", "options", "status", "code"),
    [
        (CLEAN, "", "passed", 0),
        (CLEAN, "\n--json", "passed", 0),
        (TOO_MUCH, "", "failed", 1),
        ((), "", "error", 3),
    ],
)
def test_the_conditions_of_a_bundle_are_enough(
    act: Act,
    workspace: Path,
    a_bundle: Callable[..., dict[str, str]],
    own: tuple[str, ...],
    options: str,
    status: str,
    code: int,
) -> None:
    asked = a_bundle(*own)
    asked["bench_options"] += options
    ended = act(**asked, markdown="out/comment.md")
    assert (ended.outputs["status"], ended.code) == (status, code), ended.log
    assert ended.outputs["junit"] == ""
    comment = (workspace / "out" / "comment.md").read_text(encoding="utf-8")
    assert comment.startswith(f"### ardx gate: {status}\n")
    assert "The policy" not in comment
    assert comment == ended.summary
    assert ("nothing to check" in comment) == (own == ())


def test_a_bench_that_breaks_is_no_verdict_of_a_bundle(
    workspace: Path, act: Act, a_bundle: Callable[..., dict[str, str]]
) -> None:
    """Neither where it ends as a failed gate does, nor where an earlier report lies there."""
    asked = a_bundle(*TOO_MUCH) | {"policy": policy(workspace, 'critical = ["clean >= 60%"]\n')}
    act(**asked)
    broken = workspace / "python"
    for said, code in (("Traceback", 1), ("gate: failed", 1), ("error: too few", 4)):
        script = f'[ "$3" = bench ] && echo "{said}" && exit {code}\nexec {sys.executable} "$@"\n'
        broken.write_text(f"#!/bin/sh\n{script}")
        broken.chmod(0o755)
        ended = act(**asked, python=str(broken))
        assert (ended.outputs["status"], ended.outcomes["gate"]) == ("error", "skipped"), ended.log
