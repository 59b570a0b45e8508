"""No crash of ours, no code and no escape: what strangers may send, given to the command lines."""

from __future__ import annotations

import io
import json
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.reliability.children import run
from benchmarks.reliability.long_commands import BENCH, fresh
from benchmarks.reliability.outcome import Outcome, counted

PROMISE = "No input ends in a crash: refused in one sentence, with a documented code"
NO_CODE = "Nothing that strangers send runs, leaves its folder, or steers a terminal"
ESCAPES = "\x1b[2J\x1b]0;owned\x07\u202eexe.\r\x9b31m"
STEERING = ("\x1b", "\x07", "\u202e", "\x9b", "\r")
LIMIT_S = 60.0

GARBAGE: dict[str, bytes] = {
    "empty": b"",
    "one byte": b"\0",
    "noise": np.random.default_rng(0).bytes(5000),
    "text": b"hello\n",
    "deep JSON": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "long number": b'{"schema_version": ' + b"9" * 5000 + b"}",
    "NaN": b'{"schema_version": NaN}',
    "version of a list": b'{"schema_version": [1]}',
    "no object": b"[1, 2]",
    "half of a character": b'{"schema_version": "\\ud800"}',
    "field that stands twice": b'{"schema_version": 1, "schema_version": 2}',
    "byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": "{}".encode("utf-16"),
    "deep TOML": b"a = " + b"[" * 2000,
    "pickle": b"\x80\x04}\x94\x8c\x01a\x94K\x01s.",
    "long varint": b"\xff" * 64,
    "long field": b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
}

NETWORK = ("--arch", "resnet8:4", "--dataset", "digits")
COMMANDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "report": ("given.json", ("gate", "given.json", "--min-robust-accuracy", "0")),
    "report shown": ("given.json", ("report", "given.json", "--md", "out.md")),
    "report compared": ("given.json", ("compare", "report.json", "given.json")),
    "baseline": (
        "given.json",
        ("gate", "report.json", "--baseline", "given.json", "--require", "drop(clean) <= 1%"),
    ),
    "policy": ("given.toml", ("gate", "report.json", "--policy", "given.toml")),
    "artefact": (
        "given.onnx",
        ("bench", "given.onnx", "--sets", "sets", *BENCH, "--out", "o.json"),
    ),
    "bundle": ("given.ardx", ("bench", "given.ardx", *BENCH, "--out", "o.json")),
    "manifest of a set": (
        "sets/pgd5/manifest.json",
        ("bench", "model.onnx", "--sets", "sets", *BENCH, "--out", "o.json"),
    ),
    "array of a set": (
        "sets/pgd5/images.npy",
        ("bench", "model.onnx", "--sets", "sets", *BENCH, "--out", "o.json"),
    ),
    "fingerprint": (
        "model.fingerprint.npz",
        ("bench", "model.onnx", "--sets", "sets", *BENCH, "--out", "o.json"),
    ),
    "weights": ("given.safetensors", ("export", "given.safetensors", "--out", "o.onnx")),
    "weights of others": (
        "given.pt",
        (
            *("adopt", "given.pt", "--arch", "resnet8:4", "--dataset", "digits"),
            "--out",
            "o.safetensors",
        ),
    ),
    "recipe": (
        "given.toml",
        (
            *("teach", "--config", "given.toml", "--dataset", "digits", "--arch", "resnet8:4"),
            "--out",
            "o",
        ),
    ),
    "checkpoint": (
        "o/checkpoint.safetensors",
        ("teach", *NETWORK, "--out", "o", "--resume"),
    ),
    "arrays of others": (
        "given.npz",
        ("attack", "teacher.safetensors", "--import", "given.npz", "--out", "o"),
    ),
}


def tried(name: str, material: Path, folder: Path) -> Outcome:
    """The outcome of one of HOSTILE."""
    return HOSTILE[name](material, folder)


def _garbage(kind: str, material: Path, folder: Path) -> Outcome:
    file, arguments = COMMANDS[kind]

    def trial(what: str, content: bytes) -> str | None:
        place = fresh(material, folder)
        (place / file).parent.mkdir(parents=True, exist_ok=True)
        (place / file).write_bytes(content)
        ended = run(arguments, place, limit_s=LIMIT_S)
        if ended.crashed or ended.code == 0:
            return f"{what}: exit {ended.code}: {ended.said[-200:]}"
        return None

    trials = (trial(what, content) for what, content in GARBAGE.items())
    return counted(PROMISE, "18 files of garbage", kind, trials)


def _code(material: Path, folder: Path) -> Outcome:
    """Pickles wherever arrays or weights are read."""
    mark = folder.with_name(f"{folder.name}.ran")

    # By hand, in the oldest protocol: whoever loads it makes a folder.
    pickled = b"cos\nmkdir\n(V" + str(mark).encode() + b"\ntR."
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    objects = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + pickled

    def archived(name: str, content: bytes) -> bytes:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr(name, content)
        return stream.getvalue()

    contents = {
        "pickle": pickled,
        "array of objects": objects,
        "archive of a pickle": archived("archive/data.pkl", pickled),
        "archive of an array of objects": archived("images.npy", objects),
    }

    def trial(kind: str, what: str, content: bytes) -> str | None:
        file, arguments = COMMANDS[kind]
        place = fresh(material, folder)
        (place / file).parent.mkdir(parents=True, exist_ok=True)
        (place / file).write_bytes(content)
        ended = run(arguments, place, limit_s=LIMIT_S)
        if mark.exists():
            mark.rmdir()
            return f"{kind}, {what}: code of the file ran"
        return f"{kind}, {what}: {ended.said[-200:]}" if ended.crashed else None

    kinds = ("weights of others", "weights", "array of a set", "fingerprint", "arrays of others")
    trials = (trial(kind, what, content) for kind in kinds for what, content in contents.items())
    return counted(NO_CODE, "pickles", "weights, arrays and archives", trials)


def _bundles(material: Path, folder: Path) -> Outcome:
    """Members that would leave their folder."""
    names = (
        "../out",
        "/tmp/ardx-escaped",
        "sets/../../out",
        "C:\\out",
        "sets\\..\\out",
        "a\0b",
        "CON.",
    )

    def trial(name: str) -> str | None:
        place = fresh(material, folder)
        with zipfile.ZipFile(place / "bundle.ardx", "a") as archive:
            archive.writestr(zipfile.ZipInfo(name), b"out")
        temporary = place / "tmp"
        temporary.mkdir()
        before = {*place.rglob("*"), *temporary.parent.parent.glob("out")}
        ended = run(
            ["bench", "bundle.ardx", *BENCH, "--out", "o.json"],
            place,
            prepare=lambda: setattr(tempfile, "tempdir", str(temporary)),
            limit_s=LIMIT_S,
        )
        after = {*place.rglob("*"), *temporary.parent.parent.glob("out")}
        if after - before or Path("/tmp/ardx-escaped").exists():
            return f"{name!r}: left {after - before}"
        return f"{name!r}: exit {ended.code}" if ended.crashed or ended.code == 0 else None

    return counted(NO_CODE, "members outside of their folder", "bundles", map(trial, names))


def _printed(material: Path, folder: Path) -> Outcome:
    """Escapes of a terminal in whatever is printed."""

    def renamed_set(place: Path) -> list[str]:
        (place / "sets" / "fgsm").rename(place / "sets" / ESCAPES)
        return ["bench", "model.onnx", "--sets", "sets", *BENCH, "--out", "o.json"]

    def named_file(place: Path) -> list[str]:
        shutil.copyfile(place / "report.json", place / f"{ESCAPES}.json")
        return ["gate", f"{ESCAPES}.json", "--min-robust-accuracy", "0.99"]

    def missing(place: Path) -> list[str]:
        return ["bench", f"{ESCAPES}.onnx", "--out", "o.json"]

    def field(place: Path) -> list[str]:
        data = json.loads((place / "report.json").read_text())
        (place / "report.json").write_text(json.dumps(data | {ESCAPES: 1}))
        return ["gate", "report.json", "--min-robust-accuracy", "0"]

    def option(place: Path) -> list[str]:
        return ["bench", "model.onnx", "--backend", ESCAPES]

    def host(place: Path) -> list[str]:
        return ["bench", "model.onnx", "--host", ESCAPES]

    def recipe(place: Path) -> list[str]:
        (place / "r.toml").write_text(f'"{ESCAPES!r}" = 1\nmethod = "{ESCAPES.encode()!r}"\n')
        return ["teach", "--config", "r.toml", "--out", "o"]

    def trial(make: Callable[[Path], list[str]]) -> str | None:
        place = fresh(material, folder)
        ended = run(make(place), place, limit_s=LIMIT_S)
        found = [sign for sign in STEERING if sign in ended.said]
        return f"{make.__name__}: {found!r} in {ended.said[-150:]!r}" if found else None

    makers = (renamed_set, named_file, missing, field, option, host, recipe)
    return counted(NO_CODE, "escapes of a terminal", "names, paths and fields", map(trial, makers))


def _all() -> Iterator[tuple[str, Callable[[Path, Path], Outcome]]]:
    for kind in COMMANDS:

        def garbage(material: Path, folder: Path, kind: str = kind) -> Outcome:
            return _garbage(kind, material, folder)

        yield kind, garbage
    yield from (("code", _code), ("bundles", _bundles), ("printed", _printed))


HOSTILE: dict[str, Callable[[Path, Path], Outcome]] = dict(_all())
