"""Bundles: packed whole, the same bytes twice, and run with what is in them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx.external_data_helper import convert_model_to_external_data

from edge_bench.core.spec import Report
from edge_bench.files.fingerprint import fingerprint_path
from edge_bench.files.locks import writing
from edge_bench.files.report_file import read_report, write_report
from edge_bench.files.store import read_json, write_json
from edge_bench.files.unpack import unpacked
from edge_bench.policy.baseline import baseline_of
from edge_bench.remote.ssh import Disconnected
from tests.edge_bench.files.bundles.parts import mark, name_data

MakeModel = Callable[..., Path]
MakeSet = Callable[..., Path]
Invoke = Callable[..., tuple[int, str, str]]
QUICK = (
    *("--runs", "3", "--seconds", "0", "--warmup", "0", "--settle-seconds", "0"),
    *("--threads", "1"),
)


def test_an_error_about_a_bundle_names_it_and_stays_of_its_kind(bundle: Path) -> None:
    # Such as is made of more than its text.
    told = r"board: ssh: .*student\.ardx: model"
    with pytest.raises(Disconnected, match=told) as raised, unpacked(bundle) as parts:
        raise Disconnected("board", f"ssh: {parts.model}: connection refused")
    assert "/unpacked/" not in str(raised.value)


def assert_one_sentence(text: str) -> None:
    assert text.startswith("error: ")
    assert text.count("\n") == 1


# --- round trips ------------------------------------------------------------------------------


def test_a_bundle_is_run_with_its_sets_fingerprint_and_gate(
    invoke: Invoke, bundle: Path, model: Path, sets: Path, tmp_path: Path, places: Path
) -> None:
    direct, through = tmp_path / "direct.json", tmp_path / "through.json"
    assert invoke("bench", model, "--sets", sets, "--out", direct, *QUICK)[0] == 0
    for path in (model, fingerprint_path(model)):
        path.unlink()
    code, stdout, _ = invoke("bench", bundle, "--out", through, *QUICK)
    assert (code, stdout.splitlines()[-1]) == (0, "gate: passed")
    ours, theirs = (read_json(path, Report, "a report") for path in (through, direct))
    assert [s.mask for s in ours.sets] == [s.mask for s in theirs.sets]
    assert [s.name for s in ours.sets] == ["fgsm", "pgd"]
    assert (ours.clean_mask, ours.images_sha256) == (theirs.clean_mask, theirs.images_sha256)
    assert ours.fingerprint == theirs.fingerprint
    assert ours.fingerprint is not None
    assert ours.artifact.sha256 == theirs.artifact.sha256
    assert ours.artifact.path == f"{bundle.name}: student.onnx"
    assert list(places.iterdir()) == []


def test_a_gate_that_fails_ends_bench_with_code_1_and_its_sentences(
    invoke: Invoke, model: Path, sets: Path, tmp_path: Path
) -> None:
    out, report = tmp_path / "a.ardx", tmp_path / "report.json"
    gate = tmp_path / "gate.toml"
    gate.write_text("min_clean_accuracy = 0.81\nmax_size_bytes = 10\n", encoding="utf-8")
    assert invoke("bundle", model, "--sets", sets, "--gate", gate, "--out", out)[0] == 0
    code, stdout, _ = invoke("bench", out, "--out", report, *QUICK)
    assert code == 1
    lines = stdout.splitlines()[-3:]
    assert lines[0].startswith("gate: clean accuracy is 0.8000 on 30 samples")
    assert lines[1].startswith("gate: the artefact has ")
    assert lines[2] == "gate: failed"
    assert report.exists()

    code, stdout, _ = invoke("bench", out, "--out", report, "--force", "--json", *QUICK)
    assert code == 1
    assert [v["condition"] for v in json.loads(stdout)["gate"]["violations"]] == [
        "--min-clean-accuracy",
        "--max-size-bytes",
    ]


def test_an_option_wins_over_the_gate_file(
    invoke: Invoke, model: Path, sets: Path, tmp_path: Path
) -> None:
    out, gate = tmp_path / "a.ardx", tmp_path / "gate.toml"
    gate.write_text("min_clean_accuracy = 0.81\n", encoding="utf-8")
    options = ("--gate", gate, "--min-clean-accuracy", 0.5)
    assert invoke("bundle", model, "--sets", sets, *options, "--out", out)[0] == 0
    assert invoke("bench", out, "--out", tmp_path / "report.json", *QUICK)[0] == 0


def test_a_bundle_brings_the_baseline_of_its_gate(
    invoke: Invoke, model: Path, sets: Path, tmp_path: Path
) -> None:
    out, old, report = (tmp_path / name for name in ("a.ardx", "old.json", "report.json"))
    assert invoke("bench", model, "--sets", sets, "--out", old, *QUICK)[0] == 0
    found = read_report(old)
    better = tuple(replace(result, mask="1" * 30) for result in found.sets)
    write_report(old, replace(found, sets=better), force=True)
    # As gate --update-baseline writes one, which people commit.
    small = tmp_path / "baseline.json"
    write_json(small, baseline_of(read_report(old)), False)
    for baseline in (old, small):
        gate = ("--baseline", baseline, "--max-robust-drop", 0.1)
        assert invoke("bundle", model, "--sets", sets, *gate, "--out", out, "--force")[0] == 0
        code, stdout, _ = invoke("bench", out, "--out", report, "--force", *QUICK)
        assert code == 1
        assert "gate: worst-case robust accuracy fell from 0.8000 to " in stdout
    small.write_text("{}", encoding="utf-8")
    code, _, stderr = invoke("bundle", model, "--sets", sets, *gate, "--out", out, "--force")
    assert (code, stderr.count("\n")) == (2, 1)
    assert f"{small}: " in stderr


def test_what_was_measured_is_told_where_the_conditions_cannot_be_decided(
    invoke: Invoke, model: Path, sets: Path, tmp_path: Path
) -> None:
    out, report = tmp_path / "a.ardx", tmp_path / "report.json"
    gate = ("--max-latency-p95-ms", 1000)
    assert invoke("bundle", model, "--sets", sets, *gate, "--out", out)[0] == 0
    code, stdout, stderr = invoke("bench", out, "--out", report, *QUICK)
    assert code == 4
    assert "error: p95 latency needs 130 samples" in stderr
    for word in ("worst case", "latency p95", f"report: {report}"):
        assert word in stdout
    assert "gate: " not in stdout
    code, stdout, _ = invoke("bench", out, "--out", report, "--force", "--json", *QUICK)
    assert code == 4
    assert json.loads(stdout)["report"] == str(report)


def test_a_bundle_without_a_gate_passes_none(invoke: Invoke, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.ardx"
    assert invoke("bundle", model, "--out", out)[0] == 0
    code, stdout, _ = invoke("bench", out, "--out", tmp_path / "r.json", *QUICK)
    assert code == 0
    assert "gate: " not in stdout


def test_external_data_travels_along(
    invoke: Invoke,
    make_model: MakeModel,
    clean: NDArray[np.uint8],
    weight: NDArray[np.float32],
    tmp_path: Path,
) -> None:
    model, out = make_model("big.onnx"), tmp_path / "big.ardx"
    graph = onnx.load(model)
    convert_model_to_external_data(graph, location="big.weights", size_threshold=0)
    onnx.save(graph, model)
    mark(model, clean, weight)
    assert invoke("bundle", model, "--out", out)[0] == 0
    (tmp_path / "big.weights").unlink()
    assert invoke("bench", out, "--out", tmp_path / "r.json", *QUICK)[0] == 0
    assert "model/big.weights" in zipfile.ZipFile(out).namelist()


def test_the_same_files_give_the_same_bytes(
    invoke: Invoke, bundle: Path, model: Path, sets: Path, tmp_path: Path
) -> None:
    for path in (model, *sets.rglob("*.npy")):
        os.utime(path, (0, 0))
        path.chmod(0o600)
    again = tmp_path / "again.ardx"
    assert (
        invoke("bundle", model, "--sets", sets, "--min-clean-accuracy", 0.8, "--out", again)[0] == 0
    )
    assert again.read_bytes() == bundle.read_bytes()


def test_the_lock_file_names_what_is_installed_here(bundle: Path) -> None:
    lock = zipfile.ZipFile(bundle).read("requirements.lock").decode().splitlines()
    assert f"numpy=={np.__version__}" in lock
    assert [line.partition("==")[0] for line in lock] == ["numpy", "onnxruntime", "psutil", "typer"]
    assert f"onnxruntime=={onnxruntime.__version__}" in lock


def test_packing_and_running_need_neither_torch_nor_onnx(bundle: Path, tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'ard', 'deploy'): sys.modules[name] = None\n"
        "from edge_bench.cli import app\n"
        "app()\n"
    )
    command = [sys.executable, "-B", "-c", script, "bench", str(bundle), *QUICK]
    ended = subprocess.run(
        [*command, "--out", str(tmp_path / "r.json")], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


# --- packing that fails -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("none.onnx",), "expected an ONNX model, found no file there"),
        (("student.onnx", "--sets", "none"), "expected a folder of adversarial sets"),
        (("student.onnx", "--gate", "none.toml"), "expected a TOML file of gate conditions"),
        (("student.onnx", "--gate", "torn.toml"), "torn.toml: expected TOML, but"),
        (("student.onnx", "--gate", "odd.toml"), "odd.toml: no condition min_accuracy; known are"),
        (("student.onnx", "--gate", "text.toml"), "expected a number for min_clean_accuracy"),
        (("student.onnx", "--gate", "percent.toml"), "expected a fraction from 0 to 1"),
        (("student.onnx", "--max-robust-drop", "0.1"), "expected both or neither"),
        (("student.onnx", "--baseline", "odd.toml"), "expected both or neither"),
        (("other.onnx",), "came that of another"),
        (("student.onnx", "--sets", "hidden"), "do not begin with a dot; rename it"),
        (("gpu.engine",), "an engine of TensorRT, program code for one kind of GPU"),
    ],
)
def test_what_cannot_be_packed_ends_with_one_sentence_and_no_bundle(
    invoke: Invoke,
    model: Path,
    make_model: MakeModel,
    weight: NDArray[np.float32],
    sets: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    sentence: str,
) -> None:
    monkeypatch.chdir(model.parent)
    other = make_model("other.onnx", weight=2 * weight)
    fingerprint_path(other).write_bytes(fingerprint_path(model).read_bytes())
    Path("gpu.engine").write_bytes(b"code")
    Path("torn.toml").write_text("a =", encoding="utf-8")
    Path("odd.toml").write_text("min_accuracy = 1", encoding="utf-8")
    Path("text.toml").write_text("min_clean_accuracy = '1'", encoding="utf-8")
    Path("percent.toml").write_text("min_clean_accuracy = 80", encoding="utf-8")
    (sets / "pgd").rename(".pgd")
    Path("hidden").symlink_to(".pgd")
    (sets / "fgsm").rename("fgsm")
    arguments = tuple(".pgd" if a == "hidden" else a for a in arguments)
    code, stdout, stderr = invoke("bundle", *arguments, "--out", "a.ardx")
    assert (code, stdout) == (2, "")
    assert_one_sentence(stderr)
    assert sentence in stderr
    assert not list(Path().glob("*.ardx*")) + list(Path().glob(".a*"))


def test_sets_whose_names_differ_in_case_alone_are_refused(
    invoke: Invoke, model: Path, sets: Path, tmp_path: Path
) -> None:
    shutil.copytree(sets / "pgd", sets / "PGD")
    out = tmp_path / "a.ardx"
    code, _, stderr = invoke("bundle", model, "--sets", sets, "--out", out)
    assert code == 2
    assert_one_sentence(stderr)
    assert all(str(sets / name / "manifest.json") in stderr for name in ("pgd", "PGD"))
    assert "differ in upper and lower case alone" in stderr
    assert not out.exists()


def test_external_data_outside_the_model_s_folder_is_refused(
    invoke: Invoke, make_model: MakeModel, tmp_path: Path
) -> None:
    model = make_model("big.onnx")
    name_data(model, "../secrets")
    for command, out in (("bundle", "a.ardx"), ("bench", "r.json")):
        code, _, stderr = invoke(command, model, "--out", tmp_path / out)
        assert code == 2
        assert_one_sentence(stderr)
        assert "external data '../secrets' lies outside its folder" in stderr
        assert not (tmp_path / out).exists()


def test_metadata_that_speaks_of_a_location_name_no_file(
    invoke: Invoke, make_model: MakeModel, tmp_path: Path
) -> None:
    model = make_model("site.onnx")
    (tmp_path / "secrets").write_text("of somebody")
    graph = onnx.load(model)
    onnx.helper.set_model_props(graph, {"location": "secrets"})
    onnx.save(graph, model)
    assert invoke("bundle", model, "--out", tmp_path / "a.ardx")[0] == 0
    members = zipfile.ZipFile(tmp_path / "a.ardx").namelist()
    assert members == ["model/site.onnx", "requirements.lock", "sbom.cdx.json", "manifest.json"]


def test_an_existing_bundle_is_kept_without_force(
    invoke: Invoke, bundle: Path, model: Path
) -> None:
    before = bundle.read_bytes()
    code, _, stderr = invoke("bundle", model, "--out", bundle)
    assert code == 2
    assert_one_sentence(stderr)
    assert bundle.read_bytes() == before
    assert invoke("bundle", model, "--out", bundle, "--force")[0] == 0
    assert bundle.read_bytes() != before


def test_another_suffix_is_refused(invoke: Invoke, model: Path, tmp_path: Path) -> None:
    code, _, stderr = invoke("bundle", model, "--out", tmp_path / "a.zip")
    assert code == 2
    assert "expected a file name that ends in .ardx" in stderr


def test_a_kill_while_packing_leaves_the_old_bundle_or_none(
    bundle: Path, model: Path, tmp_path: Path
) -> None:
    before = bundle.read_bytes()
    # The kernel kills the process at the third member, with two of them on the disk.
    script = (
        "import os, signal, sys\n"
        "from edge_bench import cli\n"
        "from edge_bench.files import bundle\n"
        "real, seen = bundle._add_file, []\n"
        "def add(archive, name, file):\n"
        "    seen.append(name)\n"
        "    if len(seen) == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(archive, name, file)\n"
        "bundle._add_file = add\n"
        "cli.app(sys.argv[1:])\n"
    )
    command = ["bundle", str(model), "--out", str(bundle), "--force"]
    ended = subprocess.run([sys.executable, "-B", "-c", script, *command], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert bundle.read_bytes() == before


def test_of_two_that_write_one_bundle_the_second_says_so(
    invoke: Invoke, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a.ardx"
    with writing(out):
        code, _, stderr = invoke("bundle", model, "--out", out)
    assert (code, out.exists()) == (2, False)
    assert stderr.startswith(f"error: {out}: another process is writing it; wait for it to end")
