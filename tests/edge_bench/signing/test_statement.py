"""What a statement says, to us and to in-toto, and that nobody can change a word of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_bench.core.spec import Report
from edge_bench.files.report_file import write_report
from edge_bench.files.store import sha256_file
from edge_bench.signing.openssh import signature_path

MakeReport = Callable[..., Report]
Invoke = Callable[..., tuple[int, str, str]]
Signers = Callable[..., Path]
POLICY = """confidence = 0.95
critical = ["worst_case >= {floor}%", "clean >= 90%"]
supporting = ["latency_p95_ms <= 0.5"]
"""


@pytest.fixture
def folder(
    make_report: MakeReport,
    make_model: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """student.onnx, a report of it, and policies that it passes, fails and leaves open."""
    model = make_model("student.onnx")
    report = make_report("1" * 200, {"pgd": "1" * 104 + "0" * 96})
    artifact = replace(
        report.artifact, path="/home/alice/secret/student.onnx", sha256=sha256_file(model)
    )
    write_report(tmp_path / "report.json", replace(report, artifact=artifact), force=False)
    for name, floor in (("passed", 30), ("failed", 80), ("inconclusive", 50)):
        (tmp_path / f"{name}.toml").write_text(POLICY.format(floor=floor), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def attest(folder: Path, invoke: Invoke, keys: Path) -> Callable[..., dict[str, Any]]:
    """Attest with alice's key, and give the statement."""

    def run(policy: str = "passed", *more: object, code: int = 0) -> dict[str, Any]:
        words = ["attest", "report.json", "--policy", f"{policy}.toml", "--sign", keys / "alice"]
        ended, out, error = invoke(*words, *more)
        assert ended == code, out + error
        found: dict[str, Any] = json.loads(Path("verdict.intoto.json").read_text(encoding="utf-8"))
        return found

    return run


def test_every_figure_of_a_condition_and_of_a_threat_is_in_the_statement(
    attest: Callable[..., dict[str, Any]],
) -> None:
    made = attest()
    report = json.loads(Path("report.json").read_text(encoding="utf-8"))
    assert made["_type"] == "https://in-toto.io/Statement/v1"
    assert made["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    assert made["subject"] == [
        {"name": name, "digest": {"sha256": sha256_file(Path(name))}}
        for name in ("student.onnx", "report.json")
    ]
    predicate = made["predicate"]
    assert predicate["configuration"] == [
        {"name": "passed.toml", "digest": {"sha256": sha256_file(Path("passed.toml"))}}
    ]
    # A supporting condition failed, which decides nothing: in-toto calls that a warning.
    assert predicate["result"] == "WARNED"
    assert predicate["warnedTests"] == ["supporting: latency_p95_ms <= 0.5"]
    assert "critical: worst_case >= 0.3" in predicate["passedTests"]
    assert predicate["failedTests"] == []
    ours = predicate["ardx"]
    worst = next(c for c in ours["conditions"] if c["metric"] == "worst-case robust accuracy")
    assert (worst["comparator"], worst["threshold"], worst["observed"]) == (">=", 0.3, 0.52)
    assert worst["sample_size"] == 200
    # Wilson's interval of 104 in 200 at 95%.
    assert worst["interval"] == pytest.approx([0.4510, 0.5882], abs=5e-4)
    assert (worst["outcome"], worst["tier"]) == ("passed", "critical")
    assert ours["threat_models"] == [
        {
            "set": "pgd",
            "attack": "pgd",
            "norm": "linf",
            "epsilon": 8 / 255,
            "step_size": None,
            "steps": None,
            "restarts": 1,
            "target": None,
            "threat": "replay",
            "relation": "another model",
            "samples": 200,
        }
    ]
    assert ours["measured"]["created"] == report["created"]
    assert ours["measured"]["device"] == "local"


def test_the_same_report_and_policy_give_the_same_bytes_without_the_makers_folders(
    attest: Callable[..., dict[str, Any]],
) -> None:
    attest()
    first = Path("verdict.intoto.json").read_bytes()
    attest("passed", "--force")
    assert Path("verdict.intoto.json").read_bytes() == first
    assert b"/home/" not in first
    assert b"secret" not in first


@pytest.mark.parametrize(("policy", "code"), [("failed", 1), ("inconclusive", 4)])
def test_what_did_not_pass_is_never_a_pass_to_others(
    attest: Callable[..., dict[str, Any]],
    invoke: Invoke,
    signers: Signers,
    policy: str,
    code: int,
) -> None:
    predicate = attest(policy, code=code)["predicate"]
    assert predicate["result"] == "FAILED"
    assert predicate["ardx"]["status"] == policy
    assert [name for name in predicate["failedTests"] if "worst_case" in name]
    ended, out, _ = invoke("verify", "verdict.intoto.json", "--signers", signers())
    assert ended == 1
    assert "did not pass: critical: worst_case >= 0." in out


def test_a_statement_is_one_to_in_totos_own_library(attest: Callable[..., dict[str, Any]]) -> None:
    why = "in-toto-attestation is not here; pip install 'in-toto-attestation>=0.9.3'"
    statements = pytest.importorskip("in_toto_attestation.v1.statement", reason=why)
    from google.protobuf import json_format
    from in_toto_attestation.predicates.test_result.v0 import test_result_pb2
    from in_toto_attestation.v1 import statement_pb2

    made = attest()
    read = json_format.Parse(json.dumps(made), statement_pb2.Statement())
    statements.Statement.copy_from_pb(read).validate()
    result = json_format.ParseDict(
        made["predicate"], test_result_pb2.TestResult(), ignore_unknown_fields=True
    )
    assert result.result == "WARNED"
    assert len(result.passed_tests) + len(result.warned_tests) == len(
        made["predicate"]["ardx"]["conditions"]
    )


def test_verify_says_who_signed_and_which_files_it_is_about(
    attest: Callable[..., dict[str, Any]], invoke: Invoke, signers: Signers
) -> None:
    attest()
    words = ("verify", "verdict.intoto.json", "--signers", signers(), "--subject", "student.onnx")
    code, out, error = invoke(*words)
    assert code == 0, error
    assert "signed by alice@example.org (ED25519 SHA256:" in out
    assert "student.onnx: is the student.onnx that it is about" in out
    assert "not compared: report.json" in out
    code, out, _ = invoke(*words, "--subject", "report.json", "--json")
    told = json.loads(out)
    assert (code, told["not_compared"], told["result"]) == (0, [], "WARNED")


def tamper(path: str, old: bytes, new: bytes) -> None:
    data = Path(path).read_bytes()
    assert old in data
    Path(path).write_bytes(data.replace(old, new, 1))


@pytest.mark.parametrize(
    ("path", "old", "new", "says"),
    [
        ("verdict.intoto.json", b'"WARNED"', b'"PASSED"', "changed since"),
        ("report.json", b'"0.1.0"', b'"0.1.1"', "expected a subject of verdict.intoto.json"),
        ("student.onnx", b"logits", b"logitz", "expected a subject of verdict.intoto.json"),
    ],
)
def test_whatever_is_tampered_with_is_refused(
    attest: Callable[..., dict[str, Any]],
    invoke: Invoke,
    signers: Signers,
    path: str,
    old: bytes,
    new: bytes,
    says: str,
) -> None:
    attest()
    words = ["verify", "verdict.intoto.json", "--signers", signers()]
    words += ["--subject", "student.onnx", "--subject", "report.json"]
    assert invoke(*words)[0] == 0
    tamper(path, old, new)
    code, out, error = invoke(*words)
    assert (code, out) == (2, "")
    assert says in error


def test_the_signers_of_another_are_refused(
    attest: Callable[..., dict[str, Any]], invoke: Invoke, signers: Signers
) -> None:
    attest()
    code, out, error = invoke("verify", "verdict.intoto.json", "--signers", signers("mallory"))
    assert (code, out) == (2, "")
    assert "does not list" in error


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "expected an in-toto statement of ardx attest"),
        ("[]", "_type https://in-toto.io/Statement/v1, came None"),
        ('{"_type": "https://in-toto.io/Statement/v0.1"}', "Statement/v0.1"),
        (
            '{"_type": "https://in-toto.io/Statement/v1", "predicateType": '
            '"https://in-toto.io/attestation/test-result/v0.1", "subject": [3]}',
            "a part is missing or of another kind",
        ),
        ("[" * 100_000, "expected an in-toto statement"),
    ],
)
def test_what_is_signed_but_no_statement_is_refused_in_a_sentence(
    invoke: Invoke, signers: Signers, keys: Path, tmp_path: Path, text: str, says: str
) -> None:
    from edge_bench.signing.openssh import sign, write_signature

    path = tmp_path / "odd.json"
    path.write_text(text, encoding="utf-8")
    write_signature(path, sign(path, keys / "alice"), force=False)
    code, _, error = invoke("verify", path, "--signers", signers())
    assert code == 2
    assert says in error
    assert error.count("\n") == 1


def test_a_key_that_cannot_sign_leaves_what_was_there(
    attest: Callable[..., dict[str, Any]], invoke: Invoke, keys: Path, folder: Path
) -> None:
    attest()
    words = ("attest", "report.json", "--policy", "failed.toml")
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    shutil.copy(keys / "alice.pub", keys / "alone.pub")
    for more in ((), ("--sign", keys / "alone.pub", "--force"), ("--sign", "gone", "--force")):
        code, _, error = invoke(*words, *more)
        assert code == 2, error
        assert {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()} == before
    Path("verdict.intoto.json").unlink()
    code, _, error = invoke(*words, "--sign", keys / "alice")
    assert code == 2
    assert "verdict.intoto.json.sig exists already" in error
    assert not Path("verdict.intoto.json").exists()
    assert signature_path(Path("verdict.intoto.json")).exists()
