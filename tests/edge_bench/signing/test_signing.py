"""Evidence is signed and verified by real keys, and what was tampered with falls."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_bench.core.errors import CapabilityError, InputError
from edge_bench.core.spec import Report
from edge_bench.files.report_file import read_report, write_report
from edge_bench.signing.openssh import sign, signature_path, verify
from edge_bench.signing.statement import OUTCOME, PREDICATE, STATEMENT

MakeReport = Callable[..., Report]
Invoke = Callable[..., tuple[int, str, str]]
WHO = "mia@example.org"
QUICK = ("--runs", 3, "--warmup", 1, "--seconds", 0, "--idle-seconds", 0)
pytestmark = pytest.mark.skipif(
    shutil.which("ssh-keygen") is None, reason="no ssh-keygen here; apt install openssh-client"
)


def make_key(folder: Path, name: str, passphrase: str = "") -> Path:
    key = folder / name
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "", "-f", str(key)],
        check=True,
    )
    return key


def allow(folder: Path, key: Path, who: str = WHO, options: str = "") -> Path:
    public = key.with_suffix(".pub").read_text(encoding="utf-8")
    path = folder / f"signers-{key.name}"
    path.write_text(f"{who} {options}{public}", encoding="utf-8")
    return path


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return make_key(tmp_path, "key")


@pytest.fixture
def signers(tmp_path: Path, key: Path) -> Path:
    return allow(tmp_path, key)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "verdict.json"
    path.write_bytes(b"passed")
    return path


# --- signatures --------------------------------------------------------------------------------


def test_a_signature_holds_for_its_file_by_ssh_keygen_alone(
    file: Path, key: Path, signers: Path
) -> None:
    signature = sign(file, key, force=False)
    assert verify(file, signers).identity == WHO
    command = ["ssh-keygen", "-Y", "verify", "-f", str(signers), "-I", WHO, "-n", "ardx", "-s"]
    with file.open("rb") as content:
        subprocess.run([*command, str(signature)], stdin=content, check=True, capture_output=True)


def test_a_changed_file_an_unsigned_one_and_another_signer_are_refused(
    file: Path, key: Path, signers: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        InputError, match=r"unsigned: expected its signature in .*verdict\.json\.sig"
    ):
        verify(file, signers)
    sign(file, key, force=False)
    others = allow(tmp_path, make_key(tmp_path, "other"))
    with pytest.raises(InputError, match="does not list"):
        verify(file, others)
    file.write_bytes(b"passed!")
    with pytest.raises(InputError, match="changed since"):
        verify(file, signers)


def test_a_signature_for_something_else_or_out_of_its_time_is_refused(
    file: Path, key: Path, tmp_path: Path
) -> None:
    with file.open("rb") as content:
        mail = subprocess.run(
            ["ssh-keygen", "-Y", "sign", "-f", str(key), "-n", "email"],
            stdin=content,
            check=True,
            capture_output=True,
        )
    signature_path(file).write_bytes(mail.stdout)
    with pytest.raises(InputError, match="made for something else"):
        verify(file, allow(tmp_path, key))
    sign(file, key, force=True)
    expired = allow(tmp_path, key, options='valid-before="20200101" ')
    with pytest.raises(InputError, match="has expired"):
        verify(file, expired)
    other_use = allow(tmp_path, key, options='namespaces="git" ')
    with pytest.raises(InputError, match="does not allow to sign for ardx"):
        verify(file, other_use)


def test_a_torn_signature_is_refused(file: Path, key: Path, signers: Path) -> None:
    path = sign(file, key, force=False)
    path.write_bytes(path.read_bytes()[:80])
    with pytest.raises(InputError, match="cannot be read"):
        verify(file, signers)


def test_what_cannot_sign_is_named_and_nothing_is_left(
    file: Path, tmp_path: Path, signers: Path
) -> None:
    locked = make_key(tmp_path, "locked", passphrase="secret")
    no_key = tmp_path / "no_key"
    no_key.write_text("hello", encoding="utf-8")
    no_key.chmod(0o600)
    environment = {"SSH_ASKPASS_REQUIRE": "never", "SSH_AUTH_SOCK": ""}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        for key in (locked, no_key):
            # A terminal could be asked for the passphrase; a test has none to answer.
            code = (
                "import sys\nfrom pathlib import Path\n"
                "from edge_bench.signing.openssh import sign\n"
                "try: sign(Path(sys.argv[1]), Path(sys.argv[2]), False)\n"
                "except Exception as error: print(type(error).__name__, error)"
            )
            done = subprocess.run(
                [sys.executable, "-c", code, str(file), str(key)],
                capture_output=True,
                text=True,
                check=True,
                start_new_session=True,
            )
            assert done.stdout.startswith(f"InputError --sign {key}: expected a key that can sign")
            assert done.stdout.count("\n") == 1
    assert not signature_path(file).exists()
    with pytest.raises(InputError, match=r"expected a key of ssh-keygen, .* found no file there"):
        sign(file, tmp_path / "none", force=False)


def test_a_signature_is_not_overwritten_unasked(file: Path, key: Path) -> None:
    before = sign(file, key, force=False).read_bytes()
    with pytest.raises(InputError, match="exists already"):
        sign(file, key, force=False)
    assert signature_path(file).read_bytes() == before


def test_without_ssh_keygen_a_sentence_says_what_to_install(
    file: Path, key: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CapabilityError, match="apt install openssh-client"):
        sign(file, key, force=False)


# --- statements --------------------------------------------------------------------------------


@pytest.fixture
def evidence(make_report: MakeReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with report.json, gate.toml and the artefact that the report is of."""
    monkeypatch.chdir(tmp_path)
    artifact = tmp_path / "student.onnx"
    artifact.write_bytes(b"the model that ships")
    report = make_report("1" * 900 + "0" * 100, {"pgd": "1" * 500 + "0" * 500})
    sha256 = subprocess.run(
        ["sha256sum", str(artifact)], capture_output=True, text=True, check=True
    ).stdout.split()[0]
    named = replace(report.artifact, sha256=sha256)
    write_report(tmp_path / "report.json", replace(report, artifact=named), force=False)
    (tmp_path / "gate.toml").write_text(
        'confidence = 0.95\ncritical = ["worst_case >= 45%", "size_bytes <= 5000"]\n'
        'supporting = ["no_throttling"]\nadvisory = ["latency_p95_ms <= 0.25"]\n',
        encoding="utf-8",
    )
    return tmp_path


ATTEST = ("attest", "report.json", "--policy", "gate.toml", "--out", "verdict.intoto.json")


def test_a_statement_says_what_was_held_against_what(invoke: Invoke, evidence: Path) -> None:
    assert invoke(*ATTEST)[0] == 0
    data = json.loads(Path("verdict.intoto.json").read_text(encoding="utf-8"))
    assert (data["_type"], data["predicateType"]) == (STATEMENT, PREDICATE)
    claims = {claim["metric"]: claim for claim in data["predicate"]["claims"]}
    robust = claims["worst_case"]
    assert (robust["comparator"], robust["threshold"], robust["passed"]) == (">=", "0.45", True)
    assert robust[OUTCOME]["observed"] == "0.5"
    assert robust[OUTCOME]["sampleSize"] == 1000
    low, high = map(float, robust[OUTCOME]["interval"])
    assert low == pytest.approx(0.469, abs=1e-3)
    assert high == pytest.approx(0.531, abs=1e-3)
    assert claims["no_throttling"]["passed"] is False
    assert claims["no_throttling"][OUTCOME]["tier"] == "supporting"
    (threat,) = data["predicate"]["urn:ardx:evidence:v0.1"]["threatModels"]
    assert threat["attack"]["name"] == "pgd"
    assert float(threat["attack"]["epsilon"]) == pytest.approx(8 / 255)
    report = read_report(Path("report.json"))
    named = {what: told["value"] for what, told in data["predicate"]["commitments"].items()}
    assert named == {"model": report.artifact.sha256, "dataset": report.images_sha256}
    assert data["predicate"]["evaluatedAt"] == "2025-01-01T00:00:00+00:00"
    assert data["predicate"]["sampleSize"] == 1000
    text = Path("verdict.intoto.json").read_bytes()
    assert invoke(*ATTEST, "--force")[0] == 0
    assert Path("verdict.intoto.json").read_bytes() == text


def test_the_statement_is_one_to_in_toto_s_own_library(invoke: Invoke, evidence: Path) -> None:
    json_format = pytest.importorskip(
        "google.protobuf.json_format", reason="protobuf is not installed"
    )
    statements = pytest.importorskip(
        "in_toto_attestation.v1.statement", reason="in-toto-attestation is not installed"
    )
    assert invoke(*ATTEST)[0] == 0
    read: Any = json_format.Parse(
        Path("verdict.intoto.json").read_text(encoding="utf-8"),
        statements.spb.Statement(),
    )
    statements.Statement.copy_from_pb(read).validate()
    assert [subject.name for subject in read.subject] == ["student.onnx", "report.json"]


def test_a_signed_statement_is_about_its_files_and_no_others(
    invoke: Invoke, evidence: Path, key: Path, signers: Path
) -> None:
    code, stdout, stderr = invoke(*ATTEST, "--sign", key)
    assert (code, stderr) == (0, "")
    assert stdout.endswith("signed in verdict.intoto.json.sig\n")
    about = ("--subject", "student.onnx", "--subject", "report.json")
    ask = ("verify", "verdict.intoto.json", "--signers", signers)
    code, stdout, _ = invoke(*ask, *about)
    assert code == 0
    assert stdout.splitlines()[0].startswith(f"verdict.intoto.json: signed by {WHO} (")
    assert json.loads(invoke(*ask, *about, "--json")[1])["signer"] == WHO
    Path("student.onnx").write_bytes(b"another model that ships")
    code, _, stderr = invoke(*ask, *about)
    assert (code, stderr.count("\n")) == (2, 1)
    assert "none of them has the sha256 of this file" in stderr
    text = Path("verdict.intoto.json").read_text(encoding="utf-8")
    Path("verdict.intoto.json").write_text(text.replace("0.45", "0.55"), encoding="utf-8")
    assert "changed since" in invoke(*ask)[2]


def test_a_failed_gate_is_attested_too_and_exits_as_the_gate(
    invoke: Invoke, evidence: Path
) -> None:
    Path("gate.toml").write_text('critical = ["worst_case >= 60%"]\n', encoding="utf-8")
    code, stdout, _ = invoke(*ATTEST)
    assert (code, stdout) == (1, "verdict.intoto.json: 2 claims, failed\n")
    data = json.loads(Path("verdict.intoto.json").read_text(encoding="utf-8"))
    assert [claim["passed"] for claim in data["predicate"]["claims"]] == [False, True]


def test_what_cannot_be_attested_leaves_nothing(
    invoke: Invoke, evidence: Path, make_report: MakeReport, tmp_path: Path
) -> None:
    write_report(tmp_path / "bare.json", make_report(), force=False)
    code, _, stderr = invoke("attest", "bare.json", *ATTEST[2:])
    assert (code, stderr.count("\n")) == (2, 1)
    assert "expected a report with replayed images" in stderr
    not_a_key = tmp_path / "gate.toml"
    code, _, stderr = invoke(*ATTEST, "--sign", not_a_key)
    assert (code, stderr.count("\n")) == (2, 1)
    assert not Path("verdict.intoto.json").exists()


# --- bundles -----------------------------------------------------------------------------------


def test_a_bundle_runs_only_if_an_allowed_signer_signed_it(
    invoke: Invoke,
    make_model: Callable[..., Path],
    make_card: Callable[..., Any],
    make_set: Callable[..., Path],
    key: Path,
    signers: Path,
    tmp_path: Path,
) -> None:
    model, out = make_model(card=make_card()), tmp_path / "student.ardx"
    pack = ("bundle", model, "--sets", make_set("pgd").parent, "--out", out)
    run = ("bench", out, "--out", tmp_path / "report.json", *QUICK, "--signers", signers)
    assert invoke(*pack)[0] == 0
    code, _, stderr = invoke(*run)
    assert (code, stderr.count("\n")) == (2, 1)
    assert "unsigned" in stderr
    assert invoke(*pack, "--sign", key, "--force")[0] == 0
    code, _, stderr = invoke(*run)
    assert code == 0
    assert f"student.ardx: signed by {WHO} (" in stderr
    changed = bytearray(out.read_bytes())
    changed[len(changed) // 2] ^= 1
    out.write_bytes(changed)
    code, _, stderr = invoke(*run, "--force")
    assert (code, stderr.count("\n")) == (2, 1)
    assert "changed since" in stderr
    code, _, stderr = invoke("bench", model, *run[2:], "--force")
    assert (code, stderr.count("\n")) == (2, 1)
    assert "--signers: expected a bundle" in stderr
