"""JSON files are read back only when every field fits."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_bench.backends.engine_cache import EngineRecord
from edge_bench.core.errors import InputError
from edge_bench.core.spec import Answers, Report, SetManifest
from edge_bench.files.bundle import BundleManifest
from edge_bench.files.fingerprint import Origin
from edge_bench.files.report_file import read_report, write_report
from edge_bench.files.seals.content import sealed, unsealed
from edge_bench.files.sets import MANIFEST
from edge_bench.files.store import (
    from_json,
    public_path,
    read_json,
    require_file,
    sha256_file,
    to_json,
    write_json,
)
from edge_bench.policy.baseline import Baseline

Atomic = Callable[[Path, bool], AbstractContextManager[Path]]


@pytest.fixture
def report_path(tmp_path: Path, make_report: Callable[..., Report]) -> Path:
    path = tmp_path / "report.json"
    write_json(path, make_report("1101", {"pgd": "1001", "fgsm": "1101"}), False)
    return path


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(sealed(Report, data)), encoding="utf-8")


def test_a_report_survives_the_way_through_a_file(
    tmp_path: Path, make_report: Callable[..., Report]
) -> None:
    report = make_report("1101", {"pgd": "1001", "fgsm": "1101"}, latency_ms=[1.5, 2.25])
    write_json(tmp_path / "report.json", report, False)
    assert read_json(tmp_path / "report.json", Report, "a report") == report


def test_a_report_without_sets_survives_the_way_through_a_file(
    tmp_path: Path, make_report: Callable[..., Report]
) -> None:
    write_json(tmp_path / "report.json", make_report(), False)
    assert read_json(tmp_path / "report.json", Report, "a report") == make_report()


def test_a_manifest_survives_the_way_through_a_file(
    tmp_path: Path, make_set: Callable[..., Path]
) -> None:
    manifest = read_json(make_set() / MANIFEST, SetManifest, "a manifest")
    write_json(tmp_path / "again.json", manifest, False)
    assert read_json(tmp_path / "again.json", SetManifest, "a manifest") == manifest


def test_a_card_s_recipe_survives_as_it_is(make_report: Callable[..., Report]) -> None:
    plain = json.loads(to_json(make_report()))
    plain["artifact"]["card"]["recipe"] = {"beta": 6.0, "steps": [1, 2], "warm": None}
    report = from_json(sealed(Report, plain), Report, "here", "a report")
    assert report.artifact.card is not None
    assert report.artifact.card.recipe == {"beta": 6.0, "steps": [1, 2], "warm": None}


def test_a_whole_number_is_read_where_a_fraction_is_expected(
    make_report: Callable[..., Report],
) -> None:
    plain = json.loads(to_json(make_report("1", {"pgd": "1"}, epsilon=0.5)))
    plain["sets"][0]["manifest"]["attack"]["step_size"] = 1
    attack = from_json(sealed(Report, plain), Report, "here", "a report").sets[0].manifest.attack
    assert isinstance(attack.step_size, float)


def test_json_ends_with_a_newline(report_path: Path) -> None:
    assert report_path.read_text(encoding="utf-8").endswith("}\n")


def test_json_never_holds_nan() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        to_json({"accuracy": float("nan")})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda d: d.update(schema_version=99), "schema version 99 of a report of ardx bench"),
        (lambda d: d.update(schema_version=0), "schema version 1 to 6, came 0"),
        (lambda d: d.update(schema_version=True), "schema version 1 to 6, came True"),
        (lambda d: d.update(schema_version="1"), "schema version 1 to 6, came '1'"),
        (lambda d: d.pop("schema_version"), "without a schema_version"),
        (lambda d: d.pop("artifact"), "field 'artifact' is missing"),
        (lambda d: d["device"].pop("cores"), "device: field 'cores' is missing"),
        (lambda d: d.update(notes="mine"), "unknown field 'notes'"),
        (lambda d: d["latency"].update(mean_ms=1), "latency: unknown field 'mean_ms'"),
        (lambda d: d.update(peak_memory_bytes="1"), "peak_memory_bytes: expected int, found str"),
        (lambda d: d.update(peak_memory_bytes=1.5), "expected int, found float"),
        (lambda d: d.update(peak_memory_bytes=True), "expected int, found bool"),
        (lambda d: d.update(peak_memory_bytes=None), "expected int, found NoneType"),
        (lambda d: d.update(created=5), "created: expected str, found int"),
        (lambda d: d.update(artifact=[]), "artifact: expected fields of Artifact"),
        (lambda d: d.update(sets={}), "sets: expected .*found dict"),
        (lambda d: d["latency"].update(latency_ns=["1"]), "latency_ns: expected int, found str"),
        (
            lambda d: d["artifact"]["card"].update(input_shape=[8, 8]),
            "input_shape: expected a list of 3, found a list of 2",
        ),
        (lambda d: d["sets"][0]["manifest"].update(on_grid=1), "on_grid: expected bool"),
        (lambda d: d["sets"][0]["manifest"].update(arrays=[]), "arrays: expected .*found list"),
        (
            lambda d: d["sets"][0]["manifest"]["attack"].update(epsilon="8/255"),
            "epsilon: expected float, found str",
        ),
        (
            lambda d: d["sets"][0]["manifest"]["attack"].update(step_size=True),
            "step_size: expected float, found bool",
        ),
        (lambda d: d["sets"][0]["manifest"]["attack"].update(epsilon=8), "attack epsilon 8"),
        (
            lambda d: d["artifact"]["card"].update(classes=1),
            "expected 2 to 1048576 classes, came 1",
        ),
        (lambda d: d.update(clean_mask=""), "expected a mask of .* in clean_mask"),
    ],
)
def test_a_report_that_does_not_fit_is_refused_by_file_and_field(
    report_path: Path, change: Callable[[dict[str, Any]], object], sentence: str
) -> None:
    edit(report_path, change)
    with pytest.raises(InputError, match=sentence) as caught:
        read_json(report_path, Report, "a report of ardx bench")
    assert str(caught.value).startswith(str(report_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "7", "null", '"report"'])
def test_json_that_is_no_report_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"expected a report, found (JSON without|an empty file)"):
        read_json(path, Report, "a report")


def test_a_truncated_report_is_refused(report_path: Path) -> None:
    text = report_path.read_text(encoding="utf-8")
    report_path.write_text(text[: len(text) // 2], encoding="utf-8")
    with pytest.raises(InputError, match=r"expected a report as JSON, but .*make it again"):
        read_json(report_path, Report, "a report")


def test_a_report_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_bytes('{"schema_version": "é"}'.encode("latin-1"))
    with pytest.raises(InputError, match="expected a report as JSON"):
        read_json(path, Report, "a report")


def test_a_byte_order_mark_is_no_part_of_a_report(report_path: Path) -> None:
    plain = read_json(report_path, Report, "a report")
    report_path.write_bytes(b"\xef\xbb\xbf" + report_path.read_bytes())
    assert read_json(report_path, Report, "a report") == plain


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a report, found no file there"):
        require_file(tmp_path / "none.json", "a report")


def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a report, found a folder"):
        require_file(tmp_path, "a report")


def test_the_sha256_of_a_file_longer_than_a_block_is_the_known_one(tmp_path: Path) -> None:
    path = tmp_path / "million"
    path.write_bytes(b"a" * 1_000_000 + b"b" * 1_000_000)
    # coreutils' sha256sum of the same bytes.
    assert sha256_file(path) == "af1d4dc65b0fc058024a01f569b02a5ae351de9a8f9ea052a52c135d920c3e07"


def test_an_edited_report_is_refused_and_one_of_before_is_read(
    make_report: Callable[..., Report], tmp_path: Path
) -> None:
    path, plain = tmp_path / "report.json", make_report("1101", {"pgd": "1000"})
    write_report(path, plain, force=False)
    read = read_report(path)
    assert replace(read, content_sha256=None) == plain
    data = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(data), encoding="utf-8")  # Spaces and the order are no content.
    assert read_report(path) == read
    data["sets"][0]["mask"] = "1100"
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(InputError, match="does not have the sha256 that it names: it was edited"):
        read_report(path)
    del data["content_sha256"]
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(InputError, match="came one without: it was edited; run ardx bench again"):
        read_report(path)
    data |= {"schema_version": 2}
    path.write_text(json.dumps(data), encoding="utf-8")
    assert read_report(path).sets[0].mask == "1100"


@pytest.mark.parametrize("kind", [Baseline, BundleManifest, EngineRecord, Origin, Report])
def test_every_sealed_format_refuses_another_content_and_none(kind: type[Any]) -> None:
    newest = kind.FORMAT.version
    assert kind.FORMAT.sealed_from is not None
    written = sealed(kind, {"schema_version": newest, "a": 1})
    assert unsealed(written, kind, "file").items() >= {"a": 1}.items()
    for spoilt in (written | {"a": 2}, written | {"content_sha256": None}):
        with pytest.raises(InputError, match=f"file: expected {kind.FORMAT.name} .* it was edited"):
            unsealed(spoilt, kind, "file")
    before = {"schema_version": kind.FORMAT.sealed_from - 1, "a": 1}
    assert unsealed(before, kind, "file") == before


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("student.onnx", "student.onnx"),
        ("models/a/student.onnx", "models/a/student.onnx"),
        ("/home/mia/student.onnx", "student.onnx"),
        ("../mia/student.onnx", "student.onnx"),
        ("models/../../mia/student.onnx", "student.onnx"),
        ("~/student.onnx", "student.onnx"),
    ],
)
def test_a_path_that_travels_tells_nothing_of_where_it_was_given(given: str, told: str) -> None:
    assert public_path(Path(given)) == told


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"predicted": "1 0 0", "confidence": "9 0"}, "came 3 classes and 2 confidences"),
        ({"predicted": "-1 1", "confidence": "9 0"}, "classes and confidences of 0 or more"),
        ({"predicted": "1 1", "confidence": "9 10000"}, "confidence up to 10000"),
        ({"predicted": "1 x", "confidence": "9 0"}, "without gaps"),
    ],
)
def test_answers_that_cannot_be_are_refused(values: dict[str, str], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Answers(**values)


def test_answers_are_of_as_many_images_as_the_masks(make_report: Callable[..., Report]) -> None:
    report = make_report("1101", {"pgd": "1000"})
    for change in ({"labels": "1 1 1"}, {"clean_answers": Answers(predicted="1", confidence="1")}):
        with pytest.raises(InputError, match="labels and answers of 4 images"):
            replace(report, **change)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda d: d["sets"][0].update(mask="1"),
            "expected a mask of the . samples of its manifest",
        ),
        (lambda d: d["sets"].append(d["sets"][0]), "expected one set called pgd, came 2"),
        (
            lambda d: d["sets"][0].update(name="clean_mask", mask="1"),
            "set clean_mask: expected a mask of the",
        ),
        (
            lambda d: (
                d["sets"][0].update(name="clean_mask", mask="1"),
                d["sets"][0]["manifest"].update(samples=1),
            ),
            "expected masks of one length, came . clean images and 1 in clean_mask",
        ),
        (lambda d: d["sets"][0]["manifest"].update(samples=-1), "samples of 0 or more, came -1"),
        (lambda d: d["sets"][0]["manifest"].update(samples=10**400), "number in it is too large"),
        (lambda d: d["artifact"].update(size_bytes=-1), "size_bytes of 1 or more, came -1"),
        (lambda d: d.update(peak_memory_bytes=-1), "peak_memory_bytes of 0 or more, came -1"),
        (lambda d: d["latency"].update(warmup_runs=-1), "warmup_runs of 0 or more, came -1"),
        (
            lambda d: d["sets"][0]["manifest"]["attack"].update(epsilon=10**400),
            "a number in it is too large",
        ),
        (
            lambda d: d["sets"][0]["manifest"]["attack"].update(epsilon=10**4400),
            "a number in it is too large",
        ),
    ],
)
def test_masks_and_numbers_that_would_pass_a_gate_by_mistake_are_refused(
    report_path: Path, change: Callable[[dict[str, Any]], object], sentence: str
) -> None:
    most = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)  # To write the number, not to read it.
    try:
        edit(report_path, change)
    finally:
        sys.set_int_max_str_digits(most)
    with pytest.raises(InputError, match=sentence) as caught:
        read_json(report_path, Report, "a report of ardx bench")
    assert str(caught.value).startswith(str(report_path))
    assert len(str(caught.value)) < 500
