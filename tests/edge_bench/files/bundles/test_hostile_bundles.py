"""A bundle is never believed: what is not what its manifest says is refused."""

from __future__ import annotations

import hashlib
import json
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_bench.files.bundle import EPOCH, MANIFEST, BundleManifest, is_safe
from edge_bench.files.fingerprint import fingerprint_path
from edge_bench.files.seals.content import sealed
from edge_bench.files.unpack import unpacked
from tests.edge_bench.files.bundles.parts import name_data

MakeModel = Callable[..., Path]
MakeSet = Callable[..., Path]
Invoke = Callable[..., tuple[int, str, str]]
QUICK = (
    *("--runs", "3", "--seconds", "0", "--warmup", "0", "--settle-seconds", "0"),
    *("--threads", "1"),
)


def assert_one_sentence(text: str) -> None:
    assert text.startswith("error: ")
    assert text.count("\n") == 1


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
    text = json.dumps(sealed(BundleManifest, manifest | changes)).encode()
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
    text = json.dumps(sealed(BundleManifest, manifest)).encode()
    return [(i, text if i.filename == MANIFEST else c) for i, c in found]


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
        (_manifest_with(schema_version=5), "schema version 5 of a bundle"),
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
        name_data(loose, secret)

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
    # Model, fingerprint, lock file, its bill of materials, manifest, and five of each of two sets.
    for most, ended in ((15, 0), (14, 2)):
        monkeypatch.setattr("edge_bench.files.bundle.MOST_MEMBERS", most)
        monkeypatch.setattr("edge_bench.files.unpack.MOST_MEMBERS", most)
        out = tmp_path / f"{most}.ardx"
        code, _, stderr = invoke("bundle", model, "--sets", sets, "--out", out)
        assert code == ended
        if code:
            assert "at most 14 files, came 15, of which a set has 5; pack fewer" in stderr
        else:
            with unpacked(out):
                pass


def with_a_comment(content: bytes) -> bytes:
    """As long as one may be, and a byte more."""
    return content[:-2] + b"\xff\xff" + b"x" * (1 << 16)


def whose_end_looks_like_another(content: bytes) -> bytes:
    """The directory's place written so that a search from behind finds an end in it."""
    return content[:-6] + b"PK\x05\x06" + b"\0\0"


def of_64_bits(content: bytes) -> bytes:
    """The end of 64 bits in front of the usual one, which says little."""
    end = content.rindex(b"PK\x05\x06")
    size, offset = struct.unpack_from("<2L", content, end + 12)
    last = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, size, offset)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, end, 1)
    few = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, 46, 0, 0)
    return content[:end] + last + locator + few


@pytest.mark.parametrize(
    "disguised", [bytes, with_a_comment, whose_end_looks_like_another, of_64_bits]
)
def test_a_long_directory_is_refused_before_it_is_read(
    invoke: Invoke,
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    disguised: Callable[[bytes], bytes],
) -> None:
    with zipfile.ZipFile(bundle, "a") as archive:
        for i in range(1000):
            archive.writestr(f"sets/pgd/{i}{'x' * 2200}", b"")
    bundle.write_bytes(disguised(bundle.read_bytes()))
    monkeypatch.setattr(
        zipfile.ZipInfo, "_decodeExtra", lambda *_: pytest.fail("the directory was read")
    )
    code, _, stderr = invoke("bench", bundle, "--out", tmp_path / "report.json", *QUICK)
    assert code == 2
    assert "bytes: more than 2000 entries, or names too long" in stderr
    assert_one_sentence(stderr)
