"""An export's fingerprint, and a runtime that really computes something else."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from typer.testing import CliRunner

from deploy.artifact import export_artifact
from deploy.plan import ExportPlan, Int8Plan
from deploy.quantization.targets import TARGETS
from deploy.quantization.twin import open_as_target
from edge_bench.backends.ort import OrtBackend
from edge_bench.cli import app
from edge_bench.core.spec import ModelCard, Report
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

from ..emulated import EmulatedBoard, bench_on

CARD = ModelCard(architecture="test", dataset="noise", classes=4, input_shape=(3, 8, 8))
QUICK = (
    *("--runs", "3", "--seconds", "0", "--warmup", "0", "--settle-seconds", "0"),
    *("--threads", "1"),
)
INT8_ALLOWED = "session.qdqisint8allowed"


class Deep(nn.Module):
    """Sines in float between its integers: the two ways to run it in S8S8 lie steps apart."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.bodies = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, 3, padding=1),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.Conv2d(width, width, 3, padding=1),
                nn.BatchNorm2d(width),
            )
            for _ in range(depth)
        )
        self.head = nn.Linear(width * 64, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem((x - 0.5) / 0.25))
        for body in self.bodies:
            x = torch.sin(2 * (x + body(x)))
        logits: torch.Tensor = self.head(x.flatten(1))
        return logits


def exported(
    model: nn.Module,
    folder: Path,
    target: str | None,
    images: torch.Tensor,
    force: bool = False,
    **checks: torch.Tensor,
) -> Path:
    """The artefact of a network, calibrated and checked on `images`, with its fingerprint."""
    plan = ExportPlan(
        parent_sha256="f" * 64,
        int8=Int8Plan(target=target, calibration=images[:64]) if target else None,
        check_images={"clean": images[:16]} | checks,
        check_labels=torch.zeros(16, dtype=torch.int64),
        least_agreement=0.0,
    )
    out = folder / f"{target or 'fp32'}.onnx"
    export_artifact(model, CARD, plan, out, force=force)
    return out


def network(width: int, depth: int) -> tuple[nn.Module, torch.Tensor]:
    """A network with the batch statistics of noise, and noise (200, 3, 8, 8)."""
    torch.manual_seed(0)
    model = Deep(width, depth)
    images = torch.rand(200, 3, 8, 8)
    with torch.no_grad():
        for _ in range(10):
            model(torch.rand(64, 3, 8, 8))
    return model.eval(), images


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The deep network as fp32 and for Arm."""
    model, images = network(32, 12)
    folder = tmp_path_factory.mktemp("deep")
    targets = {"fp32": None, "arm": "arm"}
    return {name: exported(model, folder, target, images) for name, target in targets.items()}


def session(path: Path, level: str = "ENABLE_ALL", **entries: str) -> Callable[..., Any]:
    """The logits of 8-bit levels by ONNX Runtime itself, under options of its own."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_{level}")
    for key, value in entries.items():
        options.add_session_config_entry(f"session.{key}", value)
    opened = onnxruntime.InferenceSession(str(path), options)

    def scores(levels: NDArray[np.uint8]) -> NDArray[np.float32]:
        (logits,) = opened.run(None, {"images": levels.astype(np.float32) / 255})
        return np.asarray(logits)

    return scores


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


@pytest.fixture(scope="module")
def unsaid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The deep network for Arm, exported as if no session option were on its card."""
    model, images = network(32, 12)
    without = replace(TARGETS["arm"], session_options={})
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TARGETS, "arm", without)
        return exported(model, tmp_path_factory.mktemp("unsaid"), "arm", images)


def test_an_arm_board_answers_to_the_bit_as_this_machine_under_the_option_of_the_card(
    emulated_boards: dict[str, EmulatedBoard], deep: dict[str, Path], tmp_path: Path
) -> None:
    board = {"pi-5": emulated_boards["pi-5"]}
    ran = bench_on(board, tmp_path / "out", deep["arm"])["pi-5"]
    found = ran.report.fingerprint
    assert found is not None
    assert (found.largest_difference, found.same_class) == (0.0, SAMPLES)
    assert "something else" not in ran.warnings


def test_arm_boards_that_run_other_integers_than_were_validated_are_told(
    emulated_boards: dict[str, EmulatedBoard], unsaid: Path, tmp_path: Path
) -> None:
    """By default ONNX Runtime keeps an S8S8 file's integers on Arm, and not all of them here."""
    if platform.machine() != "x86_64":
        pytest.skip("the defaults of this machine are those of the boards")
    marks = read_fingerprint(fingerprint_path(unsaid), sha256_file(unsaid))
    here = compare(marks, session(unsaid, qdqisint8allowed="1"), "int8")
    for ran in bench_on(emulated_boards, tmp_path / "out", unsaid).values():
        found = ran.report.fingerprint
        assert found is not None
        assert differs(found)
        assert ran.summary["fingerprint"]["differs"] is True
        (warning,) = [line for line in ran.warnings.splitlines() if "something else" in line]
        assert re.search(r"validated with ort .*x86_64.*, here ort .*aarch64, Cortex-A7", warning)
        # All of the difference is the option's: under Arm's default it is the very same here.
        assert found.largest_difference == here.largest_difference
