"""A verdict as an in-toto Statement v1 of the predicate test-result v0.1, and the way back.

The predicate is the vetted one of in-toto that holds the outcomes of tests; what it has no words
for (thresholds, observed values, intervals, threat models) stands in its field `ardx`, which other
consumers pass over, as in-toto's parsing rules have it. The draft eval-result v0.1 is not used: it
is not vetted, has no observed value and no `==`, and wants commitments that hide the model.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_bench.core.errors import InputError, first_line
from edge_bench.core.markdown import plain
from edge_bench.core.spec import Report, SetResult
from edge_bench.core.version import __version__
from edge_bench.files.external_data import model_files
from edge_bench.files.kinds import Kind, kind_of
from edge_bench.files.store import TEXT, identity, require_file, sha256_file
from edge_bench.policy.outcome import CRITICAL, PASSED, Outcome, Verdict

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://in-toto.io/attestation/test-result/v0.1"
WHAT = "an in-toto statement of ardx attest"
SUCCESS, WARNED, FAILURE = "PASSED", "WARNED", "FAILED"
LARGEST_STATEMENT = 16 << 20


@dataclass(frozen=True, kw_only=True)
class Named:
    """A file that a statement names: without its folder, which is its maker's own affair."""

    name: str
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Named:
        """The file at `path`."""
        return cls(name=path.name, sha256=sha256_file(path))

    def descriptor(self) -> dict[str, Any]:
        """As in-toto's ResourceDescriptor."""
        return {"name": self.name, "digest": {"sha256": self.sha256}}


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What `ardx verify` reads in a statement.

    Attributes:
        subjects: the files that it is about.
        result: `PASSED`, `WARNED` or `FAILED`.
        failed: conditions that failed or could not be decided.
    """

    subjects: tuple[Named, ...]
    result: str
    failed: tuple[str, ...]


def statement(
    report: Report, verdict: Verdict, report_file: Named, configuration: tuple[Named, ...]
) -> dict[str, Any]:
    """The statement that the artefact of `report` came to `verdict`.

    The same input gives the same bytes: its time is that of the report.

    Args:
        report: what was measured.
        verdict: what became of the policy's conditions.
        report_file: the report as it lies on the disk, a subject beside the artefact.
        configuration: the policy's file, and the baseline's where there is one.
    """
    artifact = Named(name=_file_name(report.artifact.path), sha256=report.artifact.sha256)
    return {
        "_type": STATEMENT,
        "subject": [artifact.descriptor(), report_file.descriptor()],
        "predicateType": PREDICATE,
        "predicate": {
            "result": _result(verdict),
            "configuration": [named.descriptor() for named in configuration],
            **_tests(verdict),
            "ardx": {
                "tool": {"name": "ardx", "version": __version__},
                "status": verdict.status,
                "measured": {
                    "created": report.created,
                    "ardx_version": report.ardx_version,
                    "device": report.device.device,
                    "architecture": report.device.architecture,
                    "backend": report.backend.name,
                    "backend_version": report.backend.version,
                },
                "conditions": [_condition(outcome) for outcome in verdict.outcomes],
                "threat_models": [_threat(result) for result in report.sets],
            },
        },
    }


def read_statement(path: Path) -> Evidence:
    """What a statement says; whether to believe it is for `openssh.verify` to say first.

    Raises:
        InputError: no statement, or one of something else.
    """
    require_file(path, WHAT)
    if path.stat().st_size > LARGEST_STATEMENT:
        raise InputError(f"{path}: expected {WHAT}, found a larger file; check the path")
    try:
        given = json.loads(path.read_text(encoding=TEXT))
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: expected {WHAT}, but it is no JSON ({first_line(error)}); check the path"
        ) from None
    for name, expected in (("_type", STATEMENT), ("predicateType", PREDICATE)):
        came = given.get(name) if isinstance(given, dict) else None
        if came != expected:
            raise InputError(
                f"{path}: expected {WHAT}, with {name} {expected}, came {plain(repr(came))[:200]}; "
                "check the path"
            )
    try:
        predicate = given["predicate"]
        evidence = Evidence(
            subjects=tuple(
                Named(name=plain(str(one.get("name", "_"))), sha256=str(one["digest"]["sha256"]))
                for one in given["subject"]
            ),
            result=predicate["result"],
            failed=tuple(plain(str(test)) for test in predicate.get("failedTests", [])),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: expected {WHAT}, but a part is missing or of another kind "
            f"({plain(first_line(error))}); make it again"
        ) from None
    if evidence.result not in (SUCCESS, WARNED, FAILURE) or not evidence.subjects:
        raise InputError(f"{path}: expected {WHAT}, came one without subjects or result")
    return evidence


def match_subjects(path: Path, evidence: Evidence, files: list[Path]) -> list[tuple[Path, Named]]:
    """Which subject of the statement at `path` each of `files` is.

    An ONNX file with external data is all of its files, as in reports.

    Raises:
        InputError: a file that is missing or no subject.
    """
    known = {subject.sha256: subject for subject in evidence.subjects}
    found = []
    for file in files:
        require_file(file, "a subject of the statement")
        sha256 = sha256_file(file)
        if sha256 not in known and kind_of(file) is Kind.ONNX:
            sha256, _ = identity(model_files(file))
        if sha256 not in known:
            about = ", ".join(f"{s.name} (sha256 {s.sha256[:12]})" for s in evidence.subjects)
            raise InputError(
                f"{file}: expected a subject of {path}, which is about {about}, came sha256 "
                f"{sha256[:12]}: another file, or changed since; do not take one for the other"
            )
        found.append((file, known[sha256]))
    return found


def _file_name(path: str) -> str:
    """Of how a report names its artefact: `dir/m.onnx`, or `dir/student.ardx: m.onnx`."""
    return path.rpartition(": ")[2].replace("\\", "/").rpartition("/")[2] or "_"


def _result(verdict: Verdict) -> str:
    """`FAILED` for what is inconclusive, too: who passes over the rest must not take it to pass."""
    if verdict.status != PASSED:
        return FAILURE
    whole = all(outcome.status == PASSED for outcome in verdict.outcomes)
    return SUCCESS if whole else WARNED


def _tests(verdict: Verdict) -> dict[str, list[str]]:
    """Names of conditions by what became of them; only critical ones fail."""
    tests: dict[str, list[str]] = {"passedTests": [], "warnedTests": [], "failedTests": []}
    for outcome in verdict.outcomes:
        kind = "failedTests" if outcome.tier == CRITICAL else "warnedTests"
        tests["passedTests" if outcome.status == PASSED else kind].append(_name(outcome))
    return tests


def _name(outcome: Outcome) -> str:
    """A condition may stand in several tiers, and in one as a floor and as a ceiling."""
    name = f"{outcome.tier}: {outcome.condition}"
    if outcome.threshold is None:
        return name
    return f"{name} {outcome.comparator} {outcome.threshold:.12g}"


def _condition(outcome: Outcome) -> dict[str, Any]:
    return {
        "name": _name(outcome),
        "condition": outcome.condition,
        "tier": outcome.tier,
        "metric": outcome.metric,
        "comparator": outcome.comparator,
        "threshold": outcome.threshold,
        "observed": outcome.observed,
        "unit": outcome.unit,
        "sample_size": outcome.samples,
        "interval": None if outcome.interval is None else list(outcome.interval),
        "outcome": outcome.status,
        "sentence": outcome.sentence,
    }


def _threat(result: SetResult) -> dict[str, Any]:
    attack = result.manifest.attack
    return {
        "set": _file_name(result.name),
        "attack": attack.name,
        "norm": attack.norm,
        "epsilon": attack.epsilon,
        "step_size": attack.step_size,
        "steps": attack.steps,
        "restarts": attack.restarts,
        "target": attack.target,
        "threat": result.manifest.threat,
        "relation": result.relation,
        "samples": result.manifest.samples,
    }
