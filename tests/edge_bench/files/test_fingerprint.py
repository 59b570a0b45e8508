"""What a fingerprint refuses, and what `bench` records of it, on a linear classifier."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_bench.core.errors import InputError
from edge_bench.core.spec import BackendInfo, Report
from edge_bench.files.arrays.about import MOST_BYTES
from edge_bench.files.fingerprint import (
    Fingerprint,
    Origin,
    compare,
    differs,
    fingerprint_path,
    read_fingerprint,
    write_fingerprint,
)
from edge_bench.files.seals.content import sealed
from edge_bench.files.store import read_json, sha256_file, to_json

MakeModel = Callable[..., Path]
Invoke = Callable[..., tuple[int, str, str]]
QUICK = (
    *("--runs", "3", "--seconds", "0", "--warmup", "0", "--settle-seconds", "0"),
    *("--threads", "1"),
)
SHA256 = "a" * 64


@pytest.fixture
def make_marks(clean: NDArray[np.uint8], weight: NDArray[np.float32]) -> Callable[..., Fingerprint]:
    """A fingerprint of the linear classifier as numpy computes it, moved by `error`."""

    def make(sha256: str = SHA256, error: float = 0.0) -> Fingerprint:
        images = clean[:16]
        logits = (images.reshape(16, -1) / np.float32(255)) @ weight.T
        logits[3] += np.float32(error * np.ptp(logits)) * np.eye(4, dtype=np.float32)[0]
        info = BackendInfo(name="ort", version="1.0", providers=("Some",), threads=None)
        origin = Origin(artifact_sha256=sha256, backend=info, architecture="riscv64", cpu="X1")
        return Fingerprint(images=images, logits=logits.astype(np.float32), origin=origin)

    return make


def test_a_fingerprint_survives_the_way_through_a_file(
    make_marks: Callable[..., Fingerprint], tmp_path: Path
) -> None:
    marks, path = make_marks(), tmp_path / "a.fingerprint.npz"
    write_fingerprint(path, marks, force=False)
    read = read_fingerprint(path, SHA256)
    assert read.origin == marks.origin
    assert np.array_equal(read.images, marks.images)
    assert np.array_equal(read.logits, marks.logits)


def test_two_fingerprints_of_one_run_have_the_same_bytes(
    make_marks: Callable[..., Fingerprint], tmp_path: Path
) -> None:
    for name in ("a", "b"):
        write_fingerprint(tmp_path / name, make_marks(), force=False)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_fingerprint_lies_beside_its_artefact() -> None:
    assert fingerprint_path(Path("a/student.v2.onnx")) == Path("a/student.v2.fingerprint.npz")


@pytest.mark.parametrize(
    ("precision", "error", "other"),
    [
        ("fp32", 1e-6, False),
        ("fp32", 5e-4, True),
        ("fp16", 5e-4, False),
        ("fp16", 2e-2, True),
        ("int8", 1 / 255, False),
        ("int8", 2 / 255, True),
    ],
)
def test_the_tolerance_follows_the_precision(
    make_marks: Callable[..., Fingerprint], precision: str, error: float, other: bool
) -> None:
    marks = make_marks()
    moved = make_marks(error=error).logits
    assert differs(compare(marks, lambda _: moved, precision)) is other


def test_the_step_of_quantised_logits_is_read_from_them(
    make_marks: Callable[..., Fingerprint],
) -> None:
    # Logits that use only a part of the calibrated range: 100 steps of it.
    marks = make_marks()
    low, spread = marks.logits.min(), np.ptp(marks.logits)
    levels = np.round((marks.logits - low) / spread * 100).astype(np.float32)
    quantised = Fingerprint(images=marks.images, logits=levels, origin=marks.origin)
    one, two = levels.copy(), levels.copy()
    one[0, 0] += 1
    two[0, 0] += 2
    assert not differs(compare(quantised, lambda _: one, "int8"))
    assert differs(compare(quantised, lambda _: two, "int8"))


def test_classes_and_the_largest_difference_are_counted(
    make_marks: Callable[..., Fingerprint],
) -> None:
    marks = make_marks()
    other = np.roll(marks.logits, 1, axis=1)
    result = compare(marks, lambda _: other, "fp32")
    assert (result.samples, result.same_class) == (16, 0)
    expected = np.abs(other - marks.logits).max() / np.ptp(marks.logits)
    assert result.largest_difference == pytest.approx(expected)


def test_bench_records_a_fingerprint_that_agrees_and_says_nothing(
    invoke: Invoke, make_model: MakeModel, make_marks: Callable[..., Fingerprint], tmp_path: Path
) -> None:
    model, out = make_model(), tmp_path / "report.json"
    marks = make_marks(sha256_file(model))
    write_fingerprint(fingerprint_path(model), marks, force=False)
    code, stdout, stderr = invoke("bench", model, "--out", out, "--json", *QUICK)
    assert code == 0
    assert stderr.count("\n") == 1
    found = read_json(out, Report, "a report").fingerprint
    assert found is not None
    assert (found.samples, found.same_class, found.architecture) == (16, 16, "riscv64")
    assert 0 <= found.largest_difference < 1e-5
    assert json.loads(stdout)["fingerprint"]["differs"] is False


@pytest.mark.parametrize("batch", [4, 32])
def test_a_graph_bound_to_a_batch_size_is_compared_too(
    invoke: Invoke,
    make_model: MakeModel,
    make_marks: Callable[..., Fingerprint],
    tmp_path: Path,
    batch: int,
) -> None:
    model, out = make_model(batch=batch), tmp_path / "report.json"
    write_fingerprint(fingerprint_path(model), make_marks(sha256_file(model)), force=False)
    assert invoke("bench", model, "--out", out, *QUICK)[0] == 0
    found = read_json(out, Report, "a report").fingerprint
    assert found is not None
    assert found.same_class == 16


def test_bench_warns_in_words_where_the_runtime_differs(
    invoke: Invoke, make_model: MakeModel, make_marks: Callable[..., Fingerprint], tmp_path: Path
) -> None:
    model, out = make_model(), tmp_path / "report.json"
    marks = make_marks(sha256_file(model), error=0.5)
    write_fingerprint(fingerprint_path(model), marks, force=False)
    code, _, stderr = invoke("bench", model, "--out", out, *QUICK)
    assert code == 0
    assert "warning: this runtime computes something else than what was validated" in stderr
    assert "validated with ort 1.0 (Some; riscv64, X1), here ort " in stderr


def test_without_a_fingerprint_nothing_is_said(
    invoke: Invoke, make_model: MakeModel, tmp_path: Path
) -> None:
    out = tmp_path / "report.json"
    _, _, stderr = invoke("bench", make_model(), "--out", out, *QUICK)
    _, note = stderr.splitlines()
    assert note.startswith("note: ")
    assert "neither a hash inside nor a fingerprint" in note
    assert read_json(out, Report, "a report").fingerprint is None


def test_a_report_of_before_fingerprints_is_read(
    make_report: Callable[..., Report], tmp_path: Path
) -> None:
    data = json.loads(to_json(make_report()))
    del data["fingerprint"]
    del data["artifact"]["card"]["session_options"]
    path = tmp_path / "old.json"
    path.write_text(json.dumps(sealed(Report, data)), encoding="utf-8")
    assert read_json(path, Report, "a report").fingerprint is None


def test_the_fingerprint_of_another_artefact_is_refused(
    invoke: Invoke, make_model: MakeModel, make_marks: Callable[..., Fingerprint], tmp_path: Path
) -> None:
    model, out = make_model(), tmp_path / "report.json"
    write_fingerprint(fingerprint_path(model), make_marks(), force=False)
    code, _, stderr = invoke("bench", model, "--out", out, *QUICK)
    assert (code, stderr.count("\n")) == (2, 1)
    assert "came that of another (aaaaaaaaaaaa); export the artefact again" in stderr
    assert not out.exists()


def _saved(**changes: Any) -> Callable[[Path, Fingerprint], None]:
    def save(path: Path, marks: Fingerprint) -> None:
        arrays: dict[str, Any] = {
            "images": marks.images,
            "logits": marks.logits,
            "about": np.array(to_json(marks.origin)),
        }
        kept = {name: a for name, a in (arrays | changes).items() if a is not None}
        np.savez(path, **kept)

    return save


def _torn(path: Path, marks: Fingerprint) -> None:
    write_fingerprint(path, marks, force=False)
    path.write_bytes(path.read_bytes()[:-40])


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda path, _: path.write_bytes(b""), "found an empty file"),
        (lambda path, _: path.write_bytes(b"no zip"), "not a readable fingerprint"),
        (_torn, "not a readable fingerprint"),
        (_saved(logits=None), "not a readable fingerprint .*logits"),
        (_saved(logits=np.array([{}], dtype=object)), "not a readable fingerprint .*pickle"),
        (_saved(images=np.zeros((16, 3, 8, 8))), "its images are float64 of shape"),
        (_saved(images=np.zeros((0, 3, 8, 8), np.uint8)), "its images are uint8 of shape"),
        (_saved(logits=np.zeros((3, 4), np.float32)), "its logits are float32 of shape"),
        (_saved(logits=np.full((16, 4), np.nan, np.float32)), "hold NaN"),
        (_saved(about=np.array("{")), "not a readable fingerprint"),
        (_saved(about=np.array('{"schema_version": 9}')), "schema version 9 of a fingerprint"),
    ],
)
def test_a_damaged_fingerprint_is_refused_in_one_sentence(
    make_marks: Callable[..., Fingerprint],
    tmp_path: Path,
    spoil: Callable[[Path, Fingerprint], None],
    sentence: str,
) -> None:
    path = tmp_path / "a.fingerprint.npz"
    spoil(path, make_marks())
    with pytest.raises(InputError, match=sentence) as caught:
        read_fingerprint(path, SHA256)
    assert "\n" not in str(caught.value)


def test_a_fingerprint_that_claims_gigabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.fingerprint.npz"
    np.savez_compressed(path, images=np.zeros(MOST_BYTES + 1, np.uint8))
    with pytest.raises(InputError, match=r"not a readable fingerprint \(it claims"):
        read_fingerprint(path, SHA256)
