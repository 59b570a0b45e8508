"""`pytest --ardx-report`: a test for each condition, and the figures of the report."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_bench.core.series import encode_series
from edge_bench.core.spec import Report
from edge_bench.files.store import write_json

pytest_plugins = "pytester"

Run = Callable[..., pytest.RunResult]
EXCUSED = 'excuse = ["timing of"]\n'


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run pytest with the plugin, whether or not this environment declares it, and no other."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def start(*arguments: str) -> pytest.RunResult:
        return pytester.runpytest_inprocess("-p", "edge_bench.pytest_plugin", "-ra", *arguments)

    return start


@pytest.fixture
def files(pytester: pytest.Pytester, make_report: Callable[..., Report]) -> Path:
    """old.json, of 60% under attack, and new.json, which lost 40 samples of 1000."""
    count = 1000
    labels = encode_series(int(n) for n in np.arange(count) % 2)
    for name, right in (("old", 600), ("new", 560)):
        mask = "1" * right + "0" * (count - right)
        report = replace(make_report("1" * count, {"pgd": mask}), labels=labels)
        write_json(pytester.path / f"{name}.json", report, False)
    return pytester.path


def policy(folder: Path, text: str) -> None:
    (folder / "gate.toml").write_text(EXCUSED + text, encoding="utf-8")


GIVEN = ("--ardx-report=new.json", "--ardx-policy=gate.toml", "--ardx-baseline=old.json")


def test_each_condition_is_a_test_that_fails_with_its_sentence(run: Run, files: Path) -> None:
    policy(
        files,
        'critical = ["clean >= 90%", "worst_case >= 50%", "drop(worst_case) <= 1%"]\n'
        'supporting = ["worst_case >= 58%"]\nadvisory = ["size_bytes <= 10"]\n',
    )
    ended = run(*GIVEN, "-v")
    ended.assert_outcomes(passed=3, failed=1, xfailed=2)
    ended.stdout.fnmatch_lines(
        [
            "new.json::clean PASSED*",
            "new.json::worst_case PASSED*",
            "new.json::drop(worst_case) FAILED*",
            "new.json::worst_case >= XFAIL*",
            "new.json::size_bytes XFAIL*",
            "new.json::no_doubts PASSED*",
            "*newly broken: 40 samples (560, 561, *; by class: 0 20, 1 20*",
        ]
    )
    text = ended.stdout.str()
    assert "XFAIL new.json::size_bytes - advisory, failed: the artefact has 1000 bytes" in text
    assert "Traceback" not in text
    assert "pytest_plugin.py" not in text.partition("FAILURES")[2].partition("short test")[0]


@pytest.mark.parametrize(
    ("inconclusive", "expected"),
    [("exit", {"failed": 1}), ("fail", {"failed": 1}), ("pass", {"skipped": 1})],
)
def test_what_is_undecided_is_said_to_be(
    run: Run,
    files: Path,
    pytester: pytest.Pytester,
    inconclusive: str,
    expected: dict[str, int],
) -> None:
    policy(
        files,
        f'confidence = 0.95\ninconclusive = "{inconclusive}"\ncritical = ["worst_case >= 56.5%"]\n',
    )
    ended = run("--ardx-report=new.json", "--ardx-policy=gate.toml")
    ended.assert_outcomes(passed=1, **expected)
    # The session's word is that of `ardx gate`.
    told = {"exit": "inconclusive", "fail": "failed", "pass": "passed"}[inconclusive]
    assert ("ardx gate: " in ended.stdout.str()) == (told != "passed")
    assert f"ardx gate: {told}" in ended.stdout.str() or told == "passed"
    pytester.makepyfile(f"def test_it(robustness):\n    assert robustness.verdict == '{told}'\n")
    run("--ardx-report=new.json", "--ardx-policy=gate.toml", "-k", "test_it").assert_outcomes(
        passed=1, deselected=2
    )
    assert "inconclusive" in ended.stdout.str()
    assert "worst-case robust accuracy is 0.5600 on 1000 samples" in ended.stdout.str()


TESTS = """
import pytest

def test_figures(robustness):
    assert (robustness.clean, robustness.worst_case) == (1.0, 0.56)
    assert robustness.attacks == {"pgd": 0.56}
    assert robustness.classes == {"0": 0.56, "1": 0.56}
    assert robustness.figure("latency_p95_ms") == 1.0
    assert robustness.figure("attack:pgd") == 0.56
    assert robustness.report.artifact.path == "student.onnx"
    with pytest.raises(Exception, match="energy per image was not measured"):
        robustness.figure("energy_mj")
    with pytest.raises(Exception, match="expected a metric of"):
        robustness.figure("speed")

def test_verdict(robustness):
    assert robustness.verdict in (None, "passed")
"""


def test_a_test_of_the_user_sees_the_figures(
    run: Run, files: Path, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(TESTS)
    run("--ardx-report=new.json").assert_outcomes(passed=2)
    policy(files, 'critical = ["worst_case >= 50%"]\n')
    run("--ardx-report=new.json", "--ardx-policy=gate.toml").assert_outcomes(passed=4)
    # Conditions are selected like any test, and may stand in the configuration.
    pytester.makeini("[pytest]\nardx_report = new.json\nardx_policy = gate.toml\n")
    run("-k", "worst_case").assert_outcomes(passed=1, deselected=3)
    ended = run()
    ended.assert_outcomes(passed=4)
    ended.stdout.fnmatch_lines(["ardx: *new.json"])


def test_without_the_option_nothing_changes(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_one(): pass\ndef test_two(robustness): pass\n")
    ended = run()
    ended.assert_outcomes(passed=1, skipped=1)
    assert "give --ardx-report FILE" in ended.stdout.str()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--ardx-report=none.json"], "none.json"),
        (["--ardx-report=torn.json"], "torn.json"),
        (["--ardx-policy=gate.toml"], "--ardx-policy: says nothing alone"),
        (["--ardx-report=new.json", "--ardx-policy=wrong.toml"], "no field critcal"),
        (["--ardx-report=new.json", "--ardx-policy=gate.toml"], "give --baseline FILE"),
        (["--ardx-report=new.json", "--ardx-baseline=old.json"], "expected --ardx-policy, too"),
    ],
)
def test_a_wrong_file_ends_the_session_with_a_sentence(
    run: Run, files: Path, arguments: list[str], sentence: str
) -> None:
    (files / "torn.json").write_text((files / "new.json").read_text(encoding="utf-8")[:300])
    (files / "wrong.toml").write_text('critcal = ["clean >= 1%"]\n', encoding="utf-8")
    policy(files, 'critical = ["drop(worst_case) <= 1%"]\n')
    ended = run(*arguments)
    assert ended.ret == pytest.ExitCode.USAGE_ERROR
    told = [line for line in ended.errlines if line.strip()]
    assert len(told) == 1
    assert told[0].startswith("ERROR: ")
    assert sentence in told[0]


def test_the_plugin_imports_nothing_until_it_is_used() -> None:
    script = (
        "import sys, pytest\nbefore = set(sys.modules)\nimport edge_bench.pytest_plugin\n"
        "new = {n.partition('.')[0] for n in set(sys.modules) - before}\n"
        "print(*sorted(new - sys.stdlib_module_names))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ended.stdout.split() == ["edge_bench"], ended.stderr


def test_the_distribution_names_the_plugin() -> None:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    points = tomllib.loads(text)["project"]["entry-points"]["pytest11"]
    assert points == {"ardx": "edge_bench.pytest_plugin"}
