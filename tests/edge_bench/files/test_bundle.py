"""Bundles: packed whole, the same bytes twice, run with what is in them, and never believed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx.external_data_helper import convert_model_to_external_data

from edge_bench.core.spec import BackendInfo, Report
from edge_bench.files.bundle import EPOCH, MANIFEST, is_safe
from edge_bench.files.external_data import model_files
from edge_bench.files.fingerprint import Fingerprint, Origin, fingerprint_path, write_fingerprint
from edge_bench.files.report_file import read_report, write_report
from edge_bench.files.store import identity, read_json
from edge_bench.files.unpack import unpacked

MakeModel = Callable[..., Path]
MakeSet = Callable[..., Path]
Invoke = Callable[..., tuple[int, str, str]]
QUICK = (
    *("--runs", "3", "--seconds", "0", "--warmup", "0", "--settle-seconds", "0"),
    *("--threads", "1"),
)


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, which must be empty again in the end."""
    place = tmp_path / "unpacked"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


@pytest.fixture
def model(make_model: MakeModel, clean: NDArray[np.uint8], weight: NDArray[np.float32]) -> Path:
    """The linear classifier with a fingerprint."""
    path = make_model("student.onnx")
    _mark(path, clean, weight)
    return path


@pytest.fixture
def sets(make_set: MakeSet) -> Path:
    make_set("fgsm")
    return make_set("pgd").parent


@pytest.fixture
def bundle(invoke: Invoke, model: Path, sets: Path, tmp_path: Path) -> Path:
    """A bundle with two sets, a fingerprint and a gate that passes."""
    out = tmp_path / "student.ardx"
    packed = invoke("bundle", model, "--sets", sets, "--min-clean-accuracy", 0.8, "--out", out)
    assert packed[0] == 0, packed
    return out


def _mark(path: Path, clean: NDArray[np.uint8], weight: NDArray[np.float32]) -> None:
    logits = (clean[:16].reshape(16, -1) / np.float32(255)) @ weight.T
    info = BackendInfo(name="ort", version="1.0", providers=("Some",), threads=None)
    sha256, _ = identity(model_files(path))
    origin = Origin(artifact_sha256=sha256, backend=info, architecture="riscv64", cpu=None)
    marks = Fingerprint(images=clean[:16], logits=logits.astype(np.float32), origin=origin)
    write_fingerprint(fingerprint_path(path), marks, force=True)


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
    gate = ("--baseline", old, "--max-robust-drop", 0.1)
    assert invoke("bundle", model, "--sets", sets, *gate, "--out", out)[0] == 0
    code, stdout, _ = invoke("bench", out, "--out", report, *QUICK)
    assert code == 1
    assert "gate: worst-case robust accuracy fell from 0.8000 to " in stdout


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
    _mark(model, clean, weight)
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


def test_external_data_outside_the_model_s_folder_is_refused(
    invoke: Invoke, make_model: MakeModel, tmp_path: Path
) -> None:
    model = make_model("big.onnx")
    _name_data(model, "../secrets")
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
    assert members == ["model/site.onnx", "requirements.lock", "manifest.json"]


def _name_data(model: Path, location: str) -> None:
    """Let the weights of a model lie elsewhere, without a file there."""
    graph = onnx.load(model)
    tensor = graph.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    model.write_bytes(graph.SerializeToString())


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


# --- bundles that are not believed ------------------------------------------------------------

Change = Callable[[list[tuple[zipfile.ZipInfo, bytes]]], list[tuple[zipfile.ZipInfo, bytes]]]


def _info(name: str, mode: int = stat.S_IFREG | 0o644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, EPOCH)
    info.external_attr = mode << 16
    return info


def _vouched(members: list[tuple[zipfile.ZipInfo, bytes]], **changes: Any) -> list[Any]:
    """The members with a manifest that vouches for all of them, as a forger would write it."""
    manifest = json.loads(next(c for i, c in members if i.filename == MANIFEST))
    manifest["members"] = {
        info.filename: {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
        for info, content in members
        if info.filename != MANIFEST
    }
    text = json.dumps(manifest | changes).encode()
    return [(i, text if i.filename == MANIFEST else c) for i, c in members]


def _adding(info: zipfile.ZipInfo, content: bytes = b"x") -> Change:
    return lambda members: _vouched([*members, (info, content)])


def _manifest_with(**changes: Any) -> Change:
    return lambda members: _vouched(members, **changes)


def _without(name: str) -> Change:
    return lambda members: [m for m in members if m[0].filename != name]


def _edited(name: str, content: bytes) -> Change:
    return lambda members: [(i, content if i.filename == name else c) for i, c in members]


def _compressed(members: list[tuple[zipfile.ZipInfo, bytes]]) -> list[Any]:
    bomb = _info("sets/pgd/bomb.npy")
    bomb.compress_type = zipfile.ZIP_DEFLATED
    return _vouched([*members, (bomb, bytes(50 << 20))])


def _size_lie(members: list[tuple[zipfile.ZipInfo, bytes]]) -> list[Any]:
    found = _vouched(members)
    manifest = json.loads(next(c for i, c in found if i.filename == MANIFEST))
    manifest["members"]["requirements.lock"]["size_bytes"] -= 1
    return [(i, json.dumps(manifest).encode() if i.filename == MANIFEST else c) for i, c in found]


def _repack(path: Path, change: Change) -> None:
    with zipfile.ZipFile(path) as archive:
        members = [(info, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(path, "w") as archive:
        for info, content in change(members):
            archive.writestr(info, content)


ESCAPE = "leaves its folder, or is none of a bundle"


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (_adding(_info("../x")), ESCAPE),
        (_adding(_info("sets/../../x")), ESCAPE),
        (_adding(_info("/tmp/abs")), ESCAPE),
        (_adding(_info("C:/x")), ESCAPE),
        (_adding(_info("sets\\..\\x")), ESCAPE),
        (_adding(_info("sets//x")), ESCAPE),
        (_adding(_info("sets/"), b""), ESCAPE),
        (_adding(_info(".bashrc")), ESCAPE),
        (_adding(_info("sets/link", stat.S_IFLNK | 0o777), b"/etc/passwd"), "is a link"),
        (_adding(_info("sets/pipe", stat.S_IFIFO | 0o644)), "is a link"),
        (_adding(_info("requirements.lock")), "requirements.lock is there twice"),
        (_adding(_info("Requirements.lock")), "Requirements.lock is there twice"),
        (_adding(_info("requirements.lock/x")), "lies below a member that is a file"),
        (_compressed, "sets/pgd/bomb.npy is compressed"),
        (_size_lie, "requirements.lock has"),
        (lambda m: [*m, (_info("sets/more"), b"x")], "sets/more is not in its manifest"),
        (_without("requirements.lock"), "requirements.lock is missing"),
        (_without(MANIFEST), "without manifest.json, so no bundle"),
        (_edited("sets/pgd/labels.npy", b"x"), "sets/pgd/labels.npy has 1 bytes, the manifest"),
        (_edited(MANIFEST, b"{"), "not a readable bundle"),
        (_edited(MANIFEST, b"[" * 100_000), "not a readable bundle"),
        (_edited(MANIFEST, b"{}"), "found JSON without a schema_version"),
        (_manifest_with(schema_version=2), "schema version 2 of a bundle"),
        (_manifest_with(model="../student.onnx"), "its model '../student.onnx' is missing"),
        (_manifest_with(model="requirements.lock"), "its model 'requirements.lock' is missing"),
        (_manifest_with(gate={"min_clean_accuracy": 80}), "expected a fraction from 0 to 1"),
        (_manifest_with(gate={"max_robust_drop": 0.1}), "has but one"),
    ],
)
def test_a_bundle_that_breaks_a_rule_is_refused_and_leaves_nothing(
    invoke: Invoke,
    bundle: Path,
    tmp_path: Path,
    places: Path,
    change: Change,
    sentence: str,
) -> None:
    _repack(bundle, change)
    before = sorted(tmp_path.rglob("*"))
    code, stdout, stderr = invoke("bench", bundle, "--out", tmp_path / "r.json", *QUICK)
    assert (code, stdout) == (2, ""), stderr
    assert_one_sentence(stderr)
    assert sentence in stderr
    assert str(bundle) in stderr
    assert str(places) not in stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_a_changed_byte_is_refused_by_its_hash(
    invoke: Invoke, bundle: Path, tmp_path: Path, places: Path
) -> None:
    with zipfile.ZipFile(bundle) as archive:
        size = archive.getinfo("sets/pgd/labels.npy").file_size
    # The same length, and a checksum of the archive that fits.
    _repack(bundle, _edited("sets/pgd/labels.npy", bytes(size)))
    code, _, stderr = invoke("bench", bundle, "--out", tmp_path / "r.json", *QUICK)
    assert code == 2
    assert_one_sentence(stderr)
    assert "the sha256 of sets/pgd/labels.npy is not the manifest's" in stderr
    assert list(places.iterdir()) == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: b"",
        lambda content: b"no zip at all",
        lambda content: content[:-10],
        lambda content: content[: len(content) // 2],
        lambda content: content[100:],
        lambda content: content.replace(b"PK\x03\x04", b"PK\x03\x05"),
        lambda content: content[:2000] + bytes([content[2000] ^ 1]) + content[2001:],
    ],
)
def test_a_torn_bundle_is_refused_in_one_sentence_and_leaves_nothing(
    invoke: Invoke,
    bundle: Path,
    tmp_path: Path,
    places: Path,
    spoil: Callable[[bytes], bytes],
) -> None:
    bundle.write_bytes(spoil(bundle.read_bytes()))
    code, stdout, stderr = invoke("bench", bundle, "--out", tmp_path / "r.json", *QUICK)
    assert (code, stdout) == (2, "")
    assert_one_sentence(stderr)
    assert list(places.iterdir()) == []


def test_entries_that_share_their_bytes_are_refused(
    invoke: Invoke, bundle: Path, tmp_path: Path
) -> None:
    # A central directory that names one entry's bytes many times over.
    big = bytes(200_000)
    _repack(bundle, lambda m: _vouched([*m, (_info("sets/big0"), big)]))
    with zipfile.ZipFile(bundle, "a") as archive:
        first = archive.getinfo("sets/big0")
        for number in range(1, 50):
            twin = _info(f"sets/big{number}")
            twin.header_offset, twin.CRC = first.header_offset, first.CRC
            twin.file_size = twin.compress_size = first.file_size
            archive.filelist.append(twin)
        archive.writestr(_info("sets/last"), b"x")
    code, _, stderr = invoke("bench", bundle, "--out", tmp_path / "r.json", *QUICK)
    assert code == 2
    assert_one_sentence(stderr)
    assert "its members claim more bytes than it has" in stderr


def test_a_model_that_reads_files_outside_the_bundle_is_refused(
    invoke: Invoke, bundle: Path, tmp_path: Path
) -> None:
    loose = tmp_path / "loose.onnx"
    original = zipfile.ZipFile(bundle).read("model/student.onnx")
    for secret, sentence in (
        ("/etc/passwd", "model/student.onnx: its external data '/etc/passwd' lies outside"),
        ("../sets/pgd/clean.npy", "model/student.onnx: its external data '../sets/pgd/clean.npy'"),
        ("x", "model/x: expected external data of student.onnx, found no file there"),
    ):
        loose.write_bytes(original)
        _name_data(loose, secret)

        def change(members: list[Any], content: bytes = loose.read_bytes()) -> list[Any]:
            return _vouched(
                [(i, content if i.filename == "model/student.onnx" else c) for i, c in members]
            )

        _repack(bundle, change)
        code, _, stderr = invoke("bench", bundle, "--out", tmp_path / "r.json", *QUICK)
        assert code == 2
        assert_one_sentence(stderr)
        assert sentence in stderr


def test_sets_beside_a_bundle_that_brings_its_own_are_refused(
    invoke: Invoke, bundle: Path, sets: Path, tmp_path: Path
) -> None:
    out = tmp_path / "r.json"
    code, _, stderr = invoke("bench", bundle, "--sets", sets, "--out", out, *QUICK)
    assert code == 2
    assert_one_sentence(stderr)
    assert "brings its own sets; leave --sets out" in stderr


def test_an_error_inside_a_bundle_names_the_bundle(
    invoke: Invoke, bundle: Path, tmp_path: Path, places: Path
) -> None:
    def change(members: list[Any]) -> list[Any]:
        return _vouched(
            [(i, b"{" if i.filename == "sets/pgd/manifest.json" else c) for i, c in members]
        )

    _repack(bundle, change)
    code, _, stderr = invoke("bench", bundle, "--out", tmp_path / "r.json", *QUICK)
    assert code == 2
    assert_one_sentence(stderr)
    assert stderr.startswith(f"error: {bundle}: sets/pgd/manifest.json: expected")
    assert str(places) not in stderr


def test_a_bundle_larger_than_the_room_for_it_ends_with_code_3(
    invoke: Invoke, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    code, _, stderr = invoke("bench", bundle, "--out", tmp_path / "r.json", *QUICK)
    assert code == 3
    assert_one_sentence(stderr)
    assert "has 10 left; free space there" in stderr


def test_a_member_above_the_limit_is_refused(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, invoke: Invoke, tmp_path: Path
) -> None:
    from edge_bench.files import unpack

    monkeypatch.setattr(unpack, "LARGEST_MEMBER", 100)
    code, _, stderr = invoke("bench", bundle, "--out", tmp_path / "r.json", *QUICK)
    assert code == 2
    assert "which cannot be" in stderr
    monkeypatch.setattr(unpack, "MOST_MEMBERS", 3)
    assert "entries, above 3" in invoke("bench", bundle, "--out", tmp_path / "r.json", *QUICK)[2]


def test_members_are_unpacked_whole_as_plain_files(bundle: Path, model: Path) -> None:
    with unpacked(bundle) as parts:
        assert parts.model.read_bytes() == model.read_bytes()
        assert parts.sets is not None
        assert not any(p.is_symlink() for p in parts.sets.rglob("*"))
        kept = parts.model
    assert not kept.exists()


@pytest.mark.parametrize("name", ["a", "sets/pgd-20 (b)/x.npy", "model/größe.onnx", "a/b.c/d"])
def test_plain_names_are_safe(name: str) -> None:
    assert is_safe(name)


@pytest.mark.parametrize(
    "name", ["", "/a", "a/", "a//b", "..", "a/..", ".a", "a\n", "a\x00b", "a\\b", "C:", "a.", "a "]
)
def test_other_names_are_not(name: str) -> None:
    assert not is_safe(name)


def test_a_link_out_of_a_folder_is_not_packed(
    invoke: Invoke, model: Path, sets: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "elsewhere" / "labels.npy"
    secret.parent.mkdir()
    (sets / "pgd" / "labels.npy").rename(secret)
    (sets / "pgd" / "labels.npy").symlink_to(secret)
    code, _, stderr = invoke("bundle", model, "--sets", sets, "--out", tmp_path / "a.ardx")
    assert code == 2
    assert_one_sentence(stderr)
    assert f"pgd/labels.npy: a link to {secret}, outside of its folder" in stderr
    assert not list(tmp_path.glob("*.ardx"))


def test_links_of_a_cache_of_models_are_packed(
    invoke: Invoke, model: Path, sets: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "snapshot"
    cache.mkdir()
    for file in (model, fingerprint_path(model)):
        (cache / file.name).symlink_to(file)
    (tmp_path / "linked").symlink_to(sets)
    words = ("bundle", cache / model.name, "--sets", tmp_path / "linked", "--out")
    assert invoke(*words, tmp_path / "a.ardx")[0] == 0


def test_more_files_than_bench_reads_back_are_refused_while_packing(
    invoke: Invoke, model: Path, sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Model, fingerprint, lock file, manifest, and five of each of two sets.
    for most, ended in ((14, 0), (13, 2)):
        monkeypatch.setattr("edge_bench.files.bundle.MOST_MEMBERS", most)
        monkeypatch.setattr("edge_bench.files.unpack.MOST_MEMBERS", most)
        out = tmp_path / f"{most}.ardx"
        code, _, stderr = invoke("bundle", model, "--sets", sets, "--out", out)
        assert code == ended
        if code:
            assert "at most 13 files, came 14, of which a set has 5; pack fewer" in stderr
        else:
            with unpacked(out):
                pass
