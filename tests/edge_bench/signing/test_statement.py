"""Nobody can change a word of a statement, nor take what did not pass for a pass."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from edge_bench.core.spec import Report
from edge_bench.files.external_data import model_files
from edge_bench.files.report_file import read_report, write_report
from edge_bench.files.store import identity, sha256_file
from edge_bench.signing.openssh import sign, signature_path

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


def test_the_same_report_and_policy_give_the_same_bytes_without_the_makers_folders(
    attest: Callable[..., dict[str, Any]],
) -> None:
    attest()
    first = Path("verdict.intoto.json").read_bytes()
    attest("passed", "--force")
    assert Path("verdict.intoto.json").read_bytes() == first
    assert b"/home/" not in first
    assert b"secret" not in first


def test_a_number_is_told_by_the_digits_that_give_it_again(
    folder: Path, attest: Callable[..., dict[str, Any]]
) -> None:
    limits = {"attack:pgd": 1 / 12345, "clean": 1e-7, "worst_case": 0.3, "class:*": 1e-300}
    conditions = [f"{metric} >= {limit!r}" for metric, limit in limits.items()]
    (folder / "small.toml").write_text(f"supporting = {json.dumps(conditions)}", encoding="utf-8")
    told = [claim["threshold"] for claim in attest("small")["predicate"]["claims"]][:4]
    assert [float(text) for text in told] == list(limits.values())
    assert all("e" not in text for text in told)
    assert told[0] == "0.00008100445524503848"


@pytest.mark.parametrize(("policy", "code"), [("failed", 1), ("inconclusive", 4)])
def test_what_did_not_pass_is_never_a_pass_to_others(
    attest: Callable[..., dict[str, Any]],
    invoke: Invoke,
    signers: Signers,
    policy: str,
    code: int,
) -> None:
    claims = attest(policy, code=code)["predicate"]["claims"]
    (worst,) = [claim for claim in claims if claim["metric"] == "worst_case"]
    assert worst["passed"] is False
    ended, out, _ = invoke("verify", "verdict.intoto.json", "--signers", signers())
    assert ended == 1
    assert "did not pass: worst_case >= 0." in out
    assert f"verdict: {policy}\n" in out


def test_verify_says_who_signed_and_which_files_it_is_about(
    attest: Callable[..., dict[str, Any]], invoke: Invoke, signers: Signers
) -> None:
    attest()
    words = ("verify", "verdict.intoto.json", "--signers", signers(), "--subject", "student.onnx")
    code, out, error = invoke(*words)
    assert code == 0, error
    assert "signed by alice@example.org (ED25519 SHA256:" in out
    assert "student.onnx: is student.onnx, which it is about" in out
    assert "not compared: report.json" in out
    code, out, _ = invoke(*words, "--subject", "report.json", "--json")
    told = json.loads(out)
    assert (code, told["not_compared"], told["verdict"]) == (0, [], "passed")


def tamper(path: str, old: bytes, new: bytes) -> None:
    data = Path(path).read_bytes()
    assert old in data
    Path(path).write_bytes(data.replace(old, new, 1))


@pytest.mark.parametrize(
    ("path", "old", "new", "says"),
    [
        ("verdict.intoto.json", b'"passed": false', b'"passed": true', "changed since"),
        ("report.json", b'"0.1.0"', b'"0.1.1"', "none of them has the sha256 of this file"),
        ("student.onnx", b"logits", b"logitz", "none of them has the sha256 of this file"),
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
        ("[]", "found other JSON"),
        ('{"_type": "https://in-toto.io/Statement/v0.1"}', "found other JSON"),
        (
            '{"_type": "https://in-toto.io/Statement/v1", "predicateType": '
            '"https://in-toto.io/attestation/eval-result/v0.1", "subject": [3]}',
            "found other JSON",
        ),
        ("[" * 100_000, "expected an in-toto statement"),
    ],
)
def test_what_is_signed_but_no_statement_is_refused_in_a_sentence(
    invoke: Invoke, signers: Signers, keys: Path, tmp_path: Path, text: str, says: str
) -> None:
    path = tmp_path / "odd.json"
    path.write_text(text, encoding="utf-8")
    sign(path, keys / "alice", force=False)
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


def test_a_model_with_its_weights_in_another_file_is_a_subject_as_a_whole(
    attest: Callable[..., dict[str, Any]], invoke: Invoke, signers: Signers
) -> None:
    onnx.save_model(
        onnx.load("student.onnx"),
        "large.onnx",
        save_as_external_data=True,
        location="large.data",
        size_threshold=0,
    )
    whole, _ = identity(model_files(Path("large.onnx")))
    report = read_report(Path("report.json"))
    artifact = replace(report.artifact, path="large.onnx", sha256=whole)
    write_report(Path("report.json"), replace(report, artifact=artifact), force=True)
    attest()
    words = ("verify", "verdict.intoto.json", "--signers", signers(), "--subject", "large.onnx")
    assert invoke(*words)[0] == 0
    data = bytearray(Path("large.data").read_bytes())
    data[0] ^= 1
    Path("large.data").write_bytes(data)
    code, _, error = invoke(*words)
    assert code == 2
    assert "none of them has the sha256" in error


def test_a_statement_names_the_baseline_that_decided_it(
    folder: Path, attest: Callable[..., dict[str, Any]]
) -> None:
    (folder / "drop.toml").write_text('critical = ["drop(worst_case) <= 1%"]', encoding="utf-8")
    shutil.copy("report.json", "old.json")
    (folder / "lower.json").write_bytes(Path("report.json").read_bytes() + b"\n")
    told = []
    for name in ("old.json", "lower.json"):
        made = attest("drop", "--baseline", name, "--force")
        found = made["predicate"]["urn:ardx:evidence:v0.1"]["baseline"]
        assert found == {"name": name, "digest": {"sha256": sha256_file(Path(name))}}
        told.append(found)
    assert told[0] != told[1]
    assert attest("passed", "--force")["predicate"]["urn:ardx:evidence:v0.1"]["baseline"] is None


def test_a_bundle_is_known_by_its_model(
    folder: Path, attest: Callable[..., dict[str, Any]], invoke: Invoke, signers: Signers
) -> None:
    assert invoke("bundle", "student.onnx", "--out", "student.ardx")[0] == 0
    attest("passed", "--artifact", "student.ardx")
    asked = ("verify", "verdict.intoto.json", "--signers", signers())
    code, out, _ = invoke(*asked, "--subject", "student.ardx")
    assert (code, "student.ardx" in out) == (0, True)
    code, _, error = invoke(
        "gate", "report.json", "--policy", "passed.toml", "--artifact", "student.ardx"
    )
    assert code == 0, error
    (folder / "other").mkdir()
    other = onnx.load("student.onnx")
    other.doc_string = "another"
    onnx.save(other, "other/student.onnx")
    assert invoke("bundle", "other/student.onnx", "--out", "other.ardx")[0] == 0
    assert invoke(*asked, "--subject", "other.ardx")[0] == 2
    attest("passed", "--artifact", "other.ardx", "--force", code=1)
