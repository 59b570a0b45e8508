"""An export's fingerprint, and a runtime that really computes something else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from typer.testing import CliRunner

from deploy.quantization.targets import TARGETS
from deploy.quantization.twin import open_as_target
from edge_bench.backends.ort import OrtBackend
from edge_bench.cli import app
from edge_bench.core.spec import Report
from edge_bench.files.fingerprint import (
    SAMPLES,
    compare,
    differs,
    fingerprint_path,
    read_fingerprint,
    write_fingerprint,
)
from edge_bench.files.seals.graph import BLANK, KEY, seal
from edge_bench.files.store import read_json, sha256_file

from .sines import exported, network, session

QUICK = (
    *("--runs", "3", "--seconds", "0", "--warmup", "0", "--settle-seconds", "0"),
    *("--threads", "1"),
)
INT8_ALLOWED = "session.qdqisint8allowed"


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The deep network as fp32 and for Arm."""
    # Not of all seeds: some value has to lie near a tie, which the two ways break apart.
    model, images = network(16, 12, seed=4)
    folder = tmp_path_factory.mktemp("deep")
    targets = {"fp32": None, "arm": "arm"}
    return {name: exported(model, folder, target, images) for name, target in targets.items()}


def with_card(path: Path, **changes: Any) -> None:
    """Write other fields into the card of an artefact, and its sha256 into its fingerprint."""
    marks = read_fingerprint(fingerprint_path(path), sha256_file(path))
    graph = onnx.load(path)
    properties = {p.key: p.value for p in graph.metadata_props}
    properties["ardx_card"] = json.dumps(json.loads(properties["ardx_card"]) | changes)
    onnx.helper.set_model_props(graph, properties | {KEY: BLANK})
    onnx.save(graph, path)
    seal(path)
    origin = replace(marks.origin, artifact_sha256=sha256_file(path))
    write_fingerprint(fingerprint_path(path), replace(marks, origin=origin), force=True)


class Killed(BaseException):
    """Stands for the end of the process, at which nothing more is put in place."""


@pytest.mark.parametrize("last", ["fp32.onnx", "fp32.fingerprint.npz"])
@pytest.mark.parametrize("replaces", [True, False])
def test_an_artefact_has_its_own_fingerprint_or_none_whenever_its_export_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str, replaces: bool
) -> None:
    model, images = network(4, 1)
    if replaces:
        exported(model, tmp_path, None, images)
    other, _ = network(5, 1)
    put = Path.replace

    def replace_until(path: Path, target: Path) -> Path:
        if target.name == last:
            raise Killed
        return put(path, target)

    monkeypatch.setattr(Path, "replace", replace_until)
    with pytest.raises(Killed):
        exported(other, tmp_path, None, images, force=True)
    out = tmp_path / "fp32.onnx"
    marks = fingerprint_path(out)
    assert out.exists() == replaces
    # Refuses one of another artefact.
    assert not out.exists() or not marks.exists() or read_fingerprint(marks, sha256_file(out))
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("target", [None, *TARGETS])
def test_an_export_leaves_the_logits_of_clean_and_adversarial_inputs_beside_the_artefact(
    tmp_path: Path, target: str | None
) -> None:
    model, images = network(4, 1)
    moved = (images[:16] + 0.05).clamp(0, 1)
    path = exported(model, tmp_path, target, images, adversarial=moved)
    marks = read_fingerprint(fingerprint_path(path), sha256_file(path))
    assert (marks.images.shape, marks.logits.shape) == ((SAMPLES, 3, 8, 8), (SAMPLES, 4))
    half = SAMPLES // 2
    assert np.all(marks.images[half:].astype(int) >= marks.images[:half])
    assert np.any(marks.images[half:] != marks.images[:half])
    assert marks.origin.backend.version == onnxruntime.__version__
    with open_as_target(path) as backend:
        assert backend.card is not None
        options = backend.card.session_options
        assert options == (TARGETS[target].session_options if target else {})
        again = backend.infer(marks.images.astype(np.float32) / 255)
    assert np.array_equal(again, marks.logits)


def test_the_session_options_of_the_card_are_those_of_the_session(deep: dict[str, Path]) -> None:
    with OrtBackend(deep["arm"]) as backend:
        opened: Any = vars(backend)["_session"]
        assert opened.get_session_options().get_session_config_entry(INT8_ALLOWED) == "1"


def test_the_same_runtime_gives_the_same_bits(deep: dict[str, Path]) -> None:
    path = deep["arm"]
    marks = read_fingerprint(fingerprint_path(path), sha256_file(path))
    result = compare(marks, session(path, qdqisint8allowed="1"), "int8")
    assert (result.largest_difference, result.same_class) == (0.0, SAMPLES)
    assert not differs(result)


@pytest.mark.parametrize("how", [{"qdqisint8allowed": "0"}, {"level": "DISABLE_ALL"}])
def test_a_runtime_that_runs_other_integers_is_told_from_the_validated_one(
    deep: dict[str, Path], how: dict[str, str]
) -> None:
    path = deep["arm"]
    marks = read_fingerprint(fingerprint_path(path), sha256_file(path))
    result = compare(marks, session(path, **how), "int8")
    assert differs(result)
    # A step is 1/255 of the logits' range, which the spread of 16 inputs cannot exceed.
    assert 1.5 / 256 <= result.tolerance < 3 / 255


def test_another_order_of_sums_in_fp32_is_no_difference(deep: dict[str, Path]) -> None:
    path = deep["fp32"]
    marks = read_fingerprint(fingerprint_path(path), sha256_file(path))
    result = compare(marks, session(path, level="DISABLE_ALL"), "fp32")
    # Twelve sines in a row amplify it; a network without them stays far lower.
    assert 0 < result.largest_difference < result.tolerance / 3
    assert not differs(result)


def test_bench_warns_of_a_runtime_under_other_session_options_than_were_validated(
    deep: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "student.onnx"
    path.write_bytes(deep["arm"].read_bytes())
    fingerprint_path(path).write_bytes(fingerprint_path(deep["arm"]).read_bytes())
    out = tmp_path / "report.json"
    command = ["bench", str(path), "--out", str(out), "--force", *QUICK]
    ended = CliRunner().invoke(app, command)
    assert ended.exit_code == 0, ended.output
    assert "something else" not in ended.stderr

    with_card(path, session_options={INT8_ALLOWED: "0"})
    ended = CliRunner().invoke(app, command)
    assert ended.exit_code == 0, ended.output
    found = read_json(out, Report, "a report").fingerprint
    assert found is not None
    assert found.largest_difference > found.tolerance
    (warning,) = [line for line in ended.stderr.splitlines() if "something else" in line]
    assert f"the same class on {found.same_class} of 16 stored inputs" in warning
    assert f"validated with ort {onnxruntime.__version__}" in warning
