"""`pytest --ardx-report FILE`: a test for each condition of a policy, and figures for your own.

pytest loads this in every project beside which ardx is installed, so it imports nothing before it
is asked for. The options may stand in the configuration, too (`ardx_report = "report.json"`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from edge_bench.core.spec import Report
    from edge_bench.policy.broken import Broken
    from edge_bench.policy.outcome import Outcome, Verdict

FILES = {
    "report": "Report of ardx bench that the session is about.",
    "policy": "Policy of ardx gate: a test for each of its conditions.",
    "baseline": "Baseline, or earlier report, that changes are counted from.",
    "artifact": "The file that ships, which the report must be of.",
}


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """What a report measured, for assertions of your own; see the fixture `robustness`.

    Attributes:
        report: all of it.
        clean: accuracy on the unattacked images, a fraction; None where nothing was replayed.
        worst_case: accuracy under all attacks together, a fraction; None as above.
        attacks: robust accuracy by the name of each attack or set.
        classes: worst-case accuracy by the name of each class.
        verdict: `passed`, `failed` or `inconclusive`, as `ardx gate` says; None without a policy.
        outcomes: of every condition, in the policy's order, undecided ones as such whatever the
            policy lets them come to; empty without one.
    """

    report: Report
    clean: float | None
    worst_case: float | None
    attacks: dict[str, float]
    classes: dict[str, float]
    verdict: str | None
    outcomes: tuple[Outcome, ...]

    def figure(self, metric: str) -> float:
        """A metric as policies name it, such as `latency_p95_ms` or `class:cat`.

        Raises:
            InputError: no such metric, or one that was not measured.
        """
        from edge_bench.core.errors import InputError
        from edge_bench.policy.condition import check_metric
        from edge_bench.policy.measured import measured

        check_metric(metric, "robustness.figure")
        found = measured(self.report, metric)[0][1]
        if found.value is None:
            raise InputError(f"{found.metric} was not measured; {found.missing}")
        return found.value


@dataclass(frozen=True, kw_only=True)
class _Evidence:
    path: Path
    robustness: Robustness
    verdict: Verdict | None
    lenient: bool
    what_broke: Broken | None


EVIDENCE = pytest.StashKey[_Evidence]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Name the options; nothing is read before one is given."""
    group = parser.getgroup("ardx", "robustness of a deployed model (ardx)")
    for name, told in FILES.items():
        group.addoption(f"--ardx-{name}", metavar="FILE", help=told)
        parser.addini(f"ardx_{name}", help=told, type="string", default="")


def _file(config: pytest.Config, name: str) -> Path | None:
    """The file of an option, which counts from where pytest was started, or of the settings."""
    if given := config.getoption(f"ardx_{name}"):
        return config.invocation_params.dir / str(given)
    said = str(config.getini(f"ardx_{name}"))
    return config.rootpath / said if said else None


def pytest_configure(config: pytest.Config) -> None:
    """Judge the report before anything is collected: a wrong file ends the session at once."""
    files = {name: _file(config, name) for name in FILES}
    report = files.pop("report")
    if report is None:
        if any(files.values()):
            given = next(name for name, path in files.items() if path)
            raise pytest.UsageError(f"--ardx-{given}: says nothing alone; give --ardx-report FILE")
        return
    from edge_bench.core.errors import ArdxError, os_sentence

    try:
        config.stash[EVIDENCE] = _judged(report, **files)
    except ArdxError as error:
        raise pytest.UsageError(str(error)) from None
    except OSError as error:
        raise pytest.UsageError(os_sentence(error)) from None


def _judged(
    path: Path, policy: Path | None, baseline: Path | None, artifact: Path | None
) -> _Evidence:
    from edge_bench.commands.gate_policy import PolicyFlags, judged, policy_of
    from edge_bench.core.errors import InputError
    from edge_bench.files.report_file import read_report
    from edge_bench.policy.baseline import read_baseline
    from edge_bench.policy.broken import broken
    from edge_bench.policy.policy_file import EXIT, PASS

    report = read_report(path)
    if policy is None:
        if baseline or artifact:
            raise InputError("--ardx-baseline and --ardx-artifact: expected --ardx-policy, too")
        robustness = _robustness(report, None, None)
        return _Evidence(
            path=path, robustness=robustness, verdict=None, lenient=False, what_broke=None
        )
    asked = policy_of(PolicyFlags(policy=policy), {})
    base = read_baseline(baseline) if baseline else None
    # As undecided as they are: a test tells by skipping, not by passing, what a policy lets pass.
    verdict = judged(report, replace(asked, inconclusive=EXIT), base, artifact)
    return _Evidence(
        path=path,
        robustness=_robustness(report, verdict, judged(report, asked, base, artifact).status),
        verdict=verdict,
        lenient=asked.inconclusive == PASS,
        what_broke=broken(report, base),
    )


def _robustness(report: Report, verdict: Verdict | None, status: str | None) -> Robustness:
    from edge_bench.policy.measured import measured

    def named(kind: str) -> dict[str, float]:
        found = measured(report, f"{kind}:*")
        return {n.partition(":")[2]: f.value for n, f in found if f.value is not None}

    return Robustness(
        report=report,
        clean=measured(report, "clean")[0][1].value,
        worst_case=measured(report, "worst_case")[0][1].value,
        attacks=named("attack"),
        classes=named("class"),
        verdict=status,
        outcomes=verdict.outcomes if verdict else (),
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Add the conditions, before anybody selects among the tests."""
    evidence = config.stash.get(EVIDENCE, None)
    if evidence is not None and evidence.verdict is not None:
        items += Conditions.from_parent(session, path=evidence.path).collect()


class Conditions(pytest.File):
    """A report, whose tests are the conditions that it is held to."""

    def collect(self) -> list[pytest.Item]:
        """A test for each outcome; floor, ceiling and tiers of one metric have their own names."""
        evidence = self.config.stash[EVIDENCE]
        assert evidence.verdict is not None
        return [
            ConditionItem.from_parent(self, name=name, outcome=o, lenient=evidence.lenient)
            for name, o in _unique(evidence.verdict.outcomes)
        ]


def _unique(outcomes: tuple[Outcome, ...]) -> Iterator[tuple[str, Outcome]]:
    seen: set[str] = set()
    for outcome in outcomes:
        name = outcome.condition
        for more in (f" {outcome.comparator}", f" ({outcome.tier})"):
            name += more if name in seen else ""
        seen.add(name)
        yield name, outcome


class NotMetError(Exception):
    """The sentence of a condition that failed, or could not be decided."""


class ConditionItem(pytest.Item):
    """One condition."""

    def __init__(self, *, outcome: Outcome, lenient: bool, **given: Any) -> None:
        super().__init__(**given)
        self.outcome, self.lenient = outcome, lenient
        for name in ("observed", "threshold", "unit", "samples", "interval", "tier"):
            if (value := getattr(outcome, name)) not in (None, ""):
                self.user_properties.append((name, value))

    def runtest(self) -> None:
        """Pass, or fail with the sentence; what decides nothing is told as an expected failure."""
        from edge_bench.core.markdown import plain
        from edge_bench.policy.outcome import CRITICAL, INCONCLUSIVE, PASSED

        outcome, sentence = self.outcome, plain(self.outcome.sentence)
        if outcome.status == PASSED:
            return
        if outcome.tier != CRITICAL:
            pytest.xfail(f"{outcome.tier}, {outcome.status}: {sentence}")
        if outcome.status == INCONCLUSIVE and self.lenient:
            pytest.skip(f"inconclusive, which the policy lets pass: {sentence}")
        undecided = "inconclusive: " if outcome.status == INCONCLUSIVE else ""
        raise NotMetError(f"{undecided}{sentence}")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The sentence alone."""
        if isinstance(excinfo.value, NotMetError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        """Where it stands: the report, and the condition."""
        return self.path, None, self.name


def pytest_report_header(config: pytest.Config) -> str | None:
    """Which report this session is about."""
    evidence = config.stash.get(EVIDENCE, None)
    if evidence is None:
        return None
    told = f"ardx: {evidence.path}"
    return told if evidence.verdict else f"{told}, without --ardx-policy: for robustness alone"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What broke, by sample and class, where the verdict is not a pass."""
    evidence = terminalreporter.config.stash.get(EVIDENCE, None)
    status = evidence and evidence.robustness.verdict
    if evidence is None or status in (None, "passed"):
        return
    terminalreporter.section(f"ardx gate: {status}")
    if evidence.what_broke and evidence.what_broke.lost:
        from edge_bench.core.markdown import plain

        terminalreporter.line(plain(evidence.what_broke.sentence()))


@pytest.fixture(scope="session")
def robustness(pytestconfig: pytest.Config) -> Robustness:
    """The figures of the report of `--ardx-report`; tests that ask for it skip without one."""
    evidence = pytestconfig.stash.get(EVIDENCE, None)
    if evidence is None:
        pytest.skip("robustness: no report; give --ardx-report FILE")
    return evidence.robustness
