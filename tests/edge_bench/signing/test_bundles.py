"""A bundle that was signed runs for those who know its signer, and no other does."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_bench.files.unpack import unpacked
from edge_bench.signing.openssh import signature_path

Invoke = Callable[..., tuple[int, str, str]]
Signers = Callable[..., Path]
QUICK = ("--runs", 3, "--seconds", 0, "--warmup", 1, "--settle-seconds", 0, "--threads", 1)


@pytest.fixture
def bundle(make_model: Callable[..., Path], invoke: Invoke, keys: Path, tmp_path: Path) -> Path:
    """A bundle that alice signed."""
    path = tmp_path / "student.ardx"
    code, out, error = invoke("bundle", make_model(), "--out", path, "--sign", keys / "alice")
    assert code == 0, error
    assert f"signature: {path}.sig" in out
    return path


def test_a_signed_bundle_runs_and_the_signer_is_named(
    bundle: Path, invoke: Invoke, signers: Signers, tmp_path: Path
) -> None:
    words = ("bench", bundle, "--signers", signers(), "--out", tmp_path / "report.json")
    code, _, error = invoke(*words, *QUICK)
    assert code == 0, error
    assert f"{bundle}: signed by alice@example.org (ED25519 SHA256:" in error
    code, out, error = invoke("verify", bundle, "--signers", signers())
    assert code == 0, error
    assert "signed by alice@example.org" in out


def test_readers_that_ask_for_no_signature_read_it_as_before(bundle: Path) -> None:
    with unpacked(bundle) as parts:
        assert parts.model.name == "model.onnx"


def _changed(bundle: Path) -> None:
    with bundle.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))


@pytest.mark.parametrize(
    ("spoil", "who", "says"),
    [
        (lambda bundle: signature_path(bundle).unlink(), "alice", "unsigned"),
        (_changed, "alice", "changed since"),
        (lambda bundle: None, "mallory", "does not list"),
    ],
    ids=["unsigned", "changed", "by another"],
)
def test_a_refused_bundle_is_neither_unpacked_nor_run(
    bundle: Path,
    invoke: Invoke,
    signers: Signers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Path], None],
    who: str,
    says: str,
) -> None:
    spoil(bundle)
    allowed = signers(who)
    # Nothing can be unpacked where there is no temporary folder: not even the attempt is made.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "no such folder"))
    words = ("bench", bundle, "--signers", allowed, "--out", tmp_path / "report.json")
    for more in ((), ("--host", "nobody@nowhere.invalid")):
        code, out, error = invoke(*words, *QUICK, *more)
        assert (code, out) == (2, ""), error
        assert says in error
    assert not (tmp_path / "report.json").exists()


def test_a_model_is_no_bundle(
    make_model: Callable[..., Path], invoke: Invoke, signers: Signers
) -> None:
    code, _, error = invoke("bench", make_model(), "--signers", signers())
    assert code == 2
    assert "expected a bundle (.ardx)" in error


def test_what_cannot_be_signed_leaves_the_older_bundle_and_its_signature(
    bundle: Path, make_model: Callable[..., Path], invoke: Invoke, keys: Path, tmp_path: Path
) -> None:
    before = bundle.read_bytes(), signature_path(bundle).read_bytes()
    alone = tmp_path / "alone.pub"
    alone.write_bytes((keys / "alice.pub").read_bytes())
    model = make_model("another.onnx", classes=4, dtype="uint8")
    for more in (("--sign", alone, "--force"), ("--sign", keys / "mallory")):
        code, _, error = invoke("bundle", model, "--out", bundle, *more)
        assert code == 2, error
        assert (bundle.read_bytes(), signature_path(bundle).read_bytes()) == before
    assert not list(tmp_path.glob(".*partial*"))


def test_a_signature_without_its_bundle_is_not_written_over(
    bundle: Path, make_model: Callable[..., Path], invoke: Invoke, keys: Path
) -> None:
    bundle.unlink()
    code, _, error = invoke("bundle", make_model(), "--out", bundle, "--sign", keys / "mallory")
    assert code == 2
    assert "student.ardx.sig exists already" in error
    assert not bundle.exists()
