"""Every parser of files and texts from outside, as a function of bytes that may raise ArdxError.

Anything else that one raises is a fault: `test_parsers.py` tries them for seconds, `make fuzz` for
as long as it is told.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_bench.core.errors import ArdxError

SAMPLES = Path(__file__).parents[1] / "data" / "formats"
OLD = SAMPLES / "0.1.0"


def _json(kind: str, module: str) -> Callable[[Path], object]:
    def read(path: Path) -> object:
        from importlib import import_module

        from edge_bench.files.store import read_json

        return read_json(path, getattr(import_module(module), kind), "a file")

    return read


def _baseline(path: Path) -> object:
    from edge_bench.policy.baseline import is_baseline, read_baseline

    return is_baseline(path), read_baseline(path)


def _policy(path: Path) -> object:
    from edge_bench.policy.policy_file import read_policy

    return read_policy(path)


def _gate(path: Path) -> object:
    from edge_bench.policy.gate import read_conditions

    return read_conditions(path, {})


def _recipe(path: Path) -> object:
    from ard.learning.recipes import build_config, read_recipe

    settings = read_recipe(path)
    return build_config(settings) if "epsilon" in settings else settings


def _setting(path: Path) -> object:
    from ard.learning.recipes import parse_sets

    return parse_sets([path.read_text(encoding="utf-8", errors="replace")])


def _condition(path: Path) -> object:
    from edge_bench.policy.condition import parse_condition

    return parse_condition(path.read_text(encoding="utf-8", errors="replace"))


def _budget(path: Path) -> object:
    from edge_bench.core.spec import parse_epsilon

    return parse_epsilon(path.read_text(encoding="utf-8", errors="replace"))


def _onnx(path: Path) -> object:
    from edge_bench.files.external_data import model_files
    from edge_bench.files.onnx_file import read_card, read_onnx
    from edge_bench.files.seals.graph import require_as_sealed

    read_card(path)
    require_as_sealed(path)
    return model_files(path), read_onnx(path)


def _bundle(path: Path) -> object:
    from edge_bench.files.unpack import unpacked

    with unpacked(path) as found:
        return found.gate


def _fingerprint(path: Path) -> object:
    from edge_bench.files.fingerprint import read_fingerprint
    from edge_bench.files.store import sha256_file

    return read_fingerprint(path, sha256_file(OLD / "model.onnx"))


def _array(path: Path) -> object:
    """An array of a set, whose hash fits, since whoever made it wrote both."""
    from edge_bench.core.spec import SetManifest
    from edge_bench.files.sets import MANIFEST, open_set
    from edge_bench.files.store import read_json, sha256_file, write_json

    folder = path.with_name("set")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(OLD / "sets" / "fgsm", folder)
    shutil.copyfile(path, folder / "images.npy")
    manifest = read_json(folder / MANIFEST, SetManifest, "a manifest")
    manifest.arrays["images.npy"] = sha256_file(folder / "images.npy")
    write_json(folder / MANIFEST, manifest, force=True)
    return open_set(folder)


def _foreign_arrays(path: Path) -> object:
    from ard.data.npz import keys_of, open_member

    members = [open_member(path, key) for key in keys_of(path)[:4]]
    # One number has no rows; `foreign` refuses it by its shape.
    return [list(member.batches(1 << 10)) for member in members if member.shape]


def _tensors(path: Path) -> object:
    from ard.models.weight_files import load_tensors

    return load_tensors(path, "tensors")


def _weights(path: Path) -> object:
    from ard.models.weight_files import load_model

    return load_model(path)


def _checkpoint(path: Path) -> object:
    from ard.learning.run_state import read_checkpoint

    return read_checkpoint(path)


def _journal(path: Path) -> object:
    from edge_bench.files.journal import Journal, journal_path

    report = path.with_name("r.json")
    shutil.copyfile(path, journal_path(report))
    with Journal(report) as journal:
        journal.begin({"asked": 1})
        return [journal.answer(bytes) for _ in range(4)]


def _ledger(path: Path) -> object:
    from ard.evaluation.ledger import Ledger

    ledger = Ledger(path.with_name("e.json"), {"asked": 1})
    shutil.copyfile(path, ledger.path)
    return Ledger(path.with_name("e.json"), {"asked": 1}).masks


def _statement(path: Path) -> object:
    from edge_bench.signing.statement import read_statement

    return read_statement(path)


def _answer(path: Path) -> object:
    """What a board says, as far as its bytes are taken for words of ours."""
    from edge_bench.core.parse import json_of
    from edge_bench.files.store import typed
    from edge_bench.remote.client import State

    try:
        data = json_of(path.read_bytes().decode(errors="replace"))
    except ValueError:
        return None
    return typed(data, State, "its answer")


def _printed(path: Path) -> object:
    """What is printed of a text from outside steers no terminal."""
    from edge_bench.core.markdown import plain

    shown = plain(path.read_bytes().decode(errors="surrogateescape"))
    shown.encode("utf-8")
    assert not any(unicodedata.category(sign) in STEERING for sign in shown), repr(shown)
    assert not any(unicodedata.bidirectional(sign) in TURNING for sign in shown), repr(shown)
    return shown


STEERING = ("Cc", "Cs", "Zl", "Zp")
TURNING = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
"""Categories of Unicode that steer a terminal, and those that turn the writing round."""


@dataclass(frozen=True, kw_only=True)
class Parser:
    """What reads a file or text, the suffix it expects, and whole examples to begin from."""

    read: Callable[[Path], object]
    suffix: str
    examples: tuple[Path | bytes, ...]


SPEC, RECORD = "edge_bench.core.spec", "ard.evaluation.record"
PARSERS: dict[str, Parser] = {
    "report": Parser(read=_json("Report", SPEC), suffix=".json", examples=(OLD / "report.json",)),
    "manifest of a set": Parser(
        read=_json("SetManifest", SPEC),
        suffix=".json",
        examples=(OLD / "sets" / "fgsm" / "manifest.json",),
    ),
    "evaluation": Parser(
        read=_json("EvaluationRecord", RECORD), suffix=".json", examples=(OLD / "evaluation.json",)
    ),
    "comparison": Parser(
        read=_json("Comparison", "edge_bench.report.compare"),
        suffix=".json",
        examples=(OLD / "comparison.json",),
    ),
    "engine's record": Parser(
        read=_json("EngineRecord", "edge_bench.backends.engine_cache"),
        suffix=".json",
        examples=tuple((OLD / "engines").glob("*.json")),
    ),
    "count of a half-made set": Parser(
        read=_json("SetProgress", "edge_bench.files.set_writer"),
        suffix=".json",
        examples=(OLD / "progress.json",),
    ),
    "baseline": Parser(
        read=_baseline,
        suffix=".json",
        examples=(SAMPLES / "0.2.0" / "baseline.json", OLD / "report.json"),
    ),
    "policy": Parser(
        read=_policy,
        suffix=".toml",
        examples=(b'confidence = 0.95\nrequire = ["worst_case >= 45%", "drop(clean) <= 1%"]\n',),
    ),
    "conditions of a gate": Parser(read=_gate, suffix=".toml", examples=(OLD / "gate.toml",)),
    "recipe": Parser(read=_recipe, suffix=".toml", examples=(OLD / "config.toml",)),
    "setting": Parser(
        read=_setting, suffix="", examples=(b"loss.ranking.k=5", b"milestones=[1, 2]")
    ),
    "condition": Parser(
        read=_condition, suffix="", examples=(b"worst_case >= 45%", b"p95 <= 30 ms")
    ),
    "budget": Parser(read=_budget, suffix="", examples=(b"8/255", b"0.03")),
    "ONNX file": Parser(read=_onnx, suffix=".onnx", examples=(OLD / "model.onnx",)),
    "bundle": Parser(read=_bundle, suffix=".ardx", examples=(OLD / "model.ardx",)),
    "fingerprint": Parser(
        read=_fingerprint, suffix=".npz", examples=(OLD / "model.fingerprint.npz",)
    ),
    "array of a set": Parser(
        read=_array, suffix=".npy", examples=(OLD / "sets" / "fgsm" / "images.npy",)
    ),
    "arrays of others": Parser(
        read=_foreign_arrays, suffix=".npz", examples=(OLD / "model.fingerprint.npz",)
    ),
    "tensors": Parser(read=_tensors, suffix=".safetensors", examples=(OLD / "model.safetensors",)),
    "weights": Parser(read=_weights, suffix=".safetensors", examples=(OLD / "model.safetensors",)),
    "checkpoint": Parser(
        read=_checkpoint,
        suffix=".safetensors",
        examples=(OLD / "checkpoint.safetensors",),
    ),
    "journal": Parser(
        read=_journal, suffix="", examples=(b'\x0c\0\0\0\x11\x22\x33\x44{"asked": 1}',)
    ),
    "unfinished evaluation": Parser(
        read=_ledger, suffix=".json", examples=(b'{"masks": {"clean": "101"}, "sha256": "00"}',)
    ),
    "statement": Parser(
        read=_statement,
        suffix=".json",
        examples=(b'{"_type": "https://in-toto.io/Statement/v1", "subject": [], "predicate": {}}',),
    ),
    "answer of a board": Parser(
        read=_answer, suffix="", examples=(b'{"state": "new", "folder": "/x", "missing": []}',)
    ),
    "text that is printed": Parser(read=_printed, suffix="", examples=(b"a \x1b[31mname\n",)),
}


def examples_of(parser: Parser) -> list[bytes]:
    """The bytes that fuzzing begins from."""
    return [e if isinstance(e, bytes) else e.read_bytes() for e in parser.examples]


class Harness:
    """A parser as a function of bytes, with a folder in memory for its file."""

    def __init__(self, parser: Parser) -> None:
        shared = Path("/dev/shm")
        place = shared if os.access(shared, os.W_OK) else None
        self._folder = tempfile.TemporaryDirectory(prefix="ardx-fuzz-", dir=place)
        self._path = Path(self._folder.name) / f"file{parser.suffix}"
        self._parser = parser
        self.examples = examples_of(parser)
        self.refused = self.read = 0

    def __call__(self, content: bytes) -> None:
        """Read the bytes; a refusal is an answer, anything else is raised."""
        self._path.write_bytes(content)
        try:
            # Overflows in headers are told by numpy's warnings.
            with np.errstate(all="ignore"):
                self._parser.read(self._path)
        except ArdxError as error:
            sentence = str(error)
            assert sentence
            assert "Traceback" not in sentence
            self.refused += 1
        else:
            self.read += 1

    def close(self) -> None:
        """Remove the folder."""
        self._folder.cleanup()


def mutated(content: bytes, draws: Any) -> bytes:
    """A copy of `content` with a few changes, as `draws` (a `random.Random`) decides."""
    found = bytearray(content)
    for _ in range(draws.choice((1, 1, 1, 2, 4, 16))):
        at = draws.randrange(len(found) + 1)
        kind = draws.randrange(6)
        if kind == 0 and found:
            found[at % len(found)] ^= 1 << draws.randrange(8)
        elif kind == 1 and found:
            found[at % len(found)] = draws.randrange(256)
        elif kind == 2:
            del found[at : at + draws.choice((1, 2, 8, 64, 1 << 20))]
        elif kind == 3:
            found[at:at] = draws.choice(TOKENS)
        elif kind == 4:
            end = at + draws.choice((1, 4, 8, 32))
            found[at:at] = found[at:end]
        else:
            found[at : at + 8] = draws.choice(NUMBERS)
    return bytes(found)


TOKENS = (
    *(b"null", b"NaN", b"-Infinity", b"1e999", b"-1", b"9" * 5000, b"[" * 3000, b'{"a":' * 500),
    *(
        b'"',
        b"\\ud800",
        b"\x00",
        b"\xff\xfe",
        b"\x1b[2J",
        "\u202e".encode(),
        b"../",
        b"/etc/passwd",
    ),
    *(b"true", b"[]", b"{}", b'""', b"=", b"#", b"'", b"1/0", b"0x", b"\r\n"),
)
NUMBERS = (bytes(8), b"\xff" * 8, b"\xff" * 7 + b"\x7f", b"\0\0\0\0\0\0\0\x80", b"\x80" * 8)
