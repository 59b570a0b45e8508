"""A verdict as an in-toto statement, for whoever keeps evidence and has none of ardx.

The predicate is in-toto's `eval-result` v0.1: claims of a metric against a threshold, each with its
outcome. What that predicate has no field for (observed values, intervals, threat models) stands in
extension fields, which are named by URIs and which other readers skip, as the attestation
framework's parsing rules have it. Thresholds and observed values are decimal strings.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from edge_bench.core.errors import InputError
from edge_bench.core.markdown import plain
from edge_bench.core.spec import Report, SetResult
from edge_bench.core.version import __version__
from edge_bench.files.kinds import Kind, kind_of
from edge_bench.files.store import parsed_json, sha256_file
from edge_bench.files.unpack import artifact_sha256
from edge_bench.policy.outcome import CRITICAL, PASSED, Outcome, Verdict

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://in-toto.io/attestation/eval-result/v0.1"
OUTCOME = "urn:ardx:outcome:v0.1"
EVIDENCE = "urn:ardx:evidence:v0.1"
VERIFIER = f"pkg:pypi/ardx@{__version__}"
WHAT = "an in-toto statement of ardx attest"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A file that a statement is about: its name and the sha256 of its content."""

    name: str
    sha256: str


def statement(
    report: Report,
    verdict: Verdict,
    *,
    report_file: Subject,
    policy_file: Subject,
    baseline_file: Subject | None = None,
) -> dict[str, Any]:
    """What was held against which limits, with which outcome, of which artefact.

    Args:
        baseline_file: what changes were held against, without which nobody can decide them anew.

    Raises:
        InputError: the report has no images, so that nothing was evaluated on any.
    """
    if report.images_sha256 is None or report.clean_mask is None:
        raise InputError(
            f"{report_file.name}: expected a report with replayed images to attest, came one of "
            "latencies alone; run ardx bench with --sets"
        )
    artifact = Subject(name=_file_name(report.artifact.path), sha256=report.artifact.sha256)
    return {
        "_type": STATEMENT,
        "subject": [_resource(artifact), _resource(report_file)],
        "predicateType": PREDICATE,
        "predicate": {
            "verifier": {"id": VERIFIER},
            "evaluatedAt": report.created,
            "suite": {"name": policy_file.name, "version": policy_file.sha256},
            "claims": [_claim(outcome) for outcome in verdict.outcomes],
            "sampleSize": len(report.clean_mask),
            "commitments": {
                "model": _commitment(report.artifact.sha256),
                "dataset": _commitment(report.images_sha256),
            },
            "assuranceLevel": "self_attested",
            "subjectProfile": "release-gate",
            "harness": {"name": "ardx bench", "version": report.ardx_version},
            EVIDENCE: {
                "verdict": verdict.status,
                "baseline": None if baseline_file is None else _resource(baseline_file),
                "threatModels": [_threat(result) for result in report.sets],
                "device": {
                    "class": report.device.device,
                    "board": report.device.board,
                    "cpu": report.device.cpu,
                },
                "runtime": {
                    "name": report.backend.name,
                    "version": report.backend.version,
                    "providers": list(report.backend.providers),
                },
            },
        },
    }


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a statement says: the files it is about, the verdict, and what decided it.

    Attributes:
        subjects: the artefact and the report.
        status: `passed`, `failed` or `inconclusive`.
        failed: critical conditions that did not pass, with their limits.
    """

    subjects: list[Subject]
    status: str
    failed: list[str]


def read_statement(path: Path) -> Evidence:
    """What a statement says; `openssh.verify` tells first whether to believe it.

    Raises:
        InputError: none that ardx wrote.
    """
    data = parsed_json(path, WHAT)
    try:
        if data["_type"] != STATEMENT or data["predicateType"] != PREDICATE:
            raise KeyError
        subjects = data["subject"]
        predicate = data["predicate"]
        return Evidence(
            subjects=[
                Subject(name=plain(str(s["name"])), sha256=str(s["digest"]["sha256"]))
                for s in subjects
            ],
            status=plain(str(predicate[EVIDENCE]["verdict"])),
            failed=[
                plain(f"{claim['metric']} {claim['comparator']} {claim['threshold']}")
                for claim in predicate["claims"]
                if claim["passed"] is not True and claim[OUTCOME]["tier"] == CRITICAL
            ],
        )
    except (KeyError, TypeError):
        raise InputError(
            f"{path}: expected {WHAT} ({PREDICATE}), found other JSON; name the file that attest "
            "wrote"
        ) from None


def require_subject(path: Path, subjects: list[Subject], statement_file: Path) -> str:
    """The name under which a statement is about the file `path`.

    Raises:
        InputError: it is about none of this content.
    """
    known = {subject.sha256: subject.name for subject in subjects}
    sha256 = sha256_file(path)
    if sha256 not in known and kind_of(path) in (Kind.ONNX, Kind.BUNDLE):
        # Of a model whose weights lie in other files, reports name the sha256 over all of them; of
        # a bundle, that of its model.
        with suppress(InputError):  # It need not be a model; then it is no subject.
            sha256 = artifact_sha256(path)
    if sha256 in known:
        return known[sha256]
    raise InputError(
        f"{path}: {statement_file} is about {' and '.join(s.name for s in subjects)}, and none of "
        f"them has the sha256 of this file ({sha256[:12]}); it is another file, or was changed"
    )


def to_text(value: dict[str, Any]) -> str:
    """The statement as JSON, the same for the same verdict."""
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def _file_name(path: str) -> str:
    """Of how a report names its artefact, `dir/m.onnx` or `dir/student.ardx: m.onnx`."""
    return path.rpartition(": ")[2].replace("\\", "/").rpartition("/")[2] or "_"


def _resource(subject: Subject) -> dict[str, Any]:
    return {"name": subject.name, "digest": {"sha256": subject.sha256}}


def _commitment(sha256: str) -> dict[str, Any]:
    return {"alg": "sha256", "value": sha256, "salted": False}


def _claim(outcome: Outcome) -> dict[str, Any]:
    """A word, such as `no_throttling`, is a claim that one of one holds."""
    held = outcome.status == PASSED
    is_word = outcome.threshold is None
    observed = str(int(held)) if is_word else _decimal(outcome.observed)
    low, high = outcome.interval or (None, None)
    return {
        "metric": outcome.condition,
        "comparator": ">=" if is_word else outcome.comparator,
        "threshold": "1" if is_word else _decimal(outcome.threshold),
        "passed": held,
        OUTCOME: {
            "description": outcome.metric,
            "observed": observed,
            "unit": outcome.unit,
            "interval": None if low is None else [_decimal(low), _decimal(high)],
            "sampleSize": outcome.samples,
            "tier": outcome.tier,
            "outcome": outcome.status,
            "sentence": outcome.sentence,
        },
    }


def _decimal(value: float | None) -> str | None:
    """As few digits as give the same number again, never with an exponent."""
    if value is None:
        return None
    text = format(Decimal(repr(float(value))), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _threat(result: SetResult) -> dict[str, Any]:
    manifest = result.manifest
    numbers = asdict(manifest.attack)
    for name, value in numbers.items():
        if isinstance(value, float):
            numbers[name] = _decimal(value)
    return {
        "set": result.name,
        "access": manifest.threat,
        "craftedOn": result.relation,
        "attacked": manifest.attacked,
        "attack": numbers,
        "samples": manifest.samples,
    }
