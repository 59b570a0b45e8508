"""No silent wrong number: a file with one flipped bit, or cut, is refused or says the same."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from benchmarks.reliability.outcome import Outcome, counted
from edge_bench.core.errors import ArdxError

PROMISE = "A damaged file is refused, or says the same numbers"
TRUNCATIONS = 100


@dataclass(frozen=True, kw_only=True)
class Readable:
    """A kind of file: where one lies, what is copied beside it, and all that is read from it."""

    name: str
    file: str
    read: Callable[[Path], Any]
    beside: tuple[str, ...] = ()


def _report(path: Path) -> Any:
    from edge_bench.files.report_file import read_report

    return asdict(read_report(path))


def _baseline(path: Path) -> Any:
    from edge_bench.policy.baseline import read_baseline

    return asdict(read_baseline(path))


def _evaluation(path: Path) -> Any:
    from ard.evaluation.record import EvaluationRecord
    from edge_bench.files.store import read_json

    return asdict(read_json(path, EvaluationRecord, "an evaluation"))


def _set(path: Path) -> Any:
    from edge_bench.files.sets import open_set

    found = open_set(path.parent)
    return asdict(found.manifest), found.images_sha256, _hash(found.images, found.source_success)


def _weights(path: Path) -> Any:
    from ard.models.weight_files import load_model

    model, card = load_model(path)
    state = model.state_dict()
    return asdict(card), _hash(*(state[name].numpy() for name in sorted(state)))


def _checkpoint(path: Path) -> Any:
    from ard.learning.run_state import read_checkpoint

    tensors, metadata = read_checkpoint(path)
    return metadata, _hash(*(tensors[name].numpy() for name in sorted(tensors)))


def _recipe(path: Path) -> Any:
    from ard.learning.recipes import read_recipe

    return sorted(read_recipe(path).items())


def _artefact(path: Path) -> Any:
    from edge_bench.backends import open_backend
    from edge_bench.files.fingerprint import fingerprint_path, read_fingerprint
    from edge_bench.files.store import sha256_file
    from edge_bench.robustness.inference import stored_logits

    if fingerprint_path(path).exists():
        read_fingerprint(fingerprint_path(path), sha256_file(path))
    images = np.random.default_rng(0).integers(0, 256, (16, 1, 8, 8), dtype=np.uint8)
    with open_backend("ort", path, 1) as backend:
        logits = stored_logits(backend, images, 10)
        return backend.card and asdict(backend.card), asdict(backend.input), _hash(logits)


def _fingerprint(path: Path) -> Any:
    from edge_bench.files.fingerprint import read_fingerprint
    from edge_bench.files.store import sha256_file

    found = read_fingerprint(path, sha256_file(path.with_name("model.onnx")))
    return asdict(found.origin), _hash(found.images, found.logits)


def _bundle(path: Path) -> Any:
    from edge_bench.files.sets import open_sets
    from edge_bench.files.store import sha256_file
    from edge_bench.files.unpack import unpacked

    with unpacked(path) as found:
        assert found.sets is not None
        sets = [asdict(opened.manifest) for opened in open_sets(found.sets)]
        return found.model.name, sha256_file(found.model), found.gate, sets


def _engine_record(path: Path) -> Any:
    from edge_bench.backends.engine_cache import EngineRecord
    from edge_bench.files.store import read_json

    return asdict(read_json(path, EngineRecord, "the record of an engine"))


def _journal(path: Path) -> Any:
    """What a run that goes on by it works with; where it is not believed, asked again."""
    from edge_bench.files.journal import Journal

    with Journal(path.with_name("report.json")) as journal:
        journal.begin({"asked": 1})
        return [journal.answer(partial(_answer, number)) for number in range(20)]


def _answer(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def _unfinished(path: Path) -> Any:
    """The masks of a whole evaluation: those that are believed, and the others found again."""
    from ard.evaluation.ledger import Ledger

    found = Ledger(path.with_name("evaluation.json"), {"asked": 1}).masks
    again = {name: _mask(name) for name in ("clean", "fgsm", "pgd20")}
    return {name: found.get(name, mask).tolist() for name, mask in again.items()}, set(found) <= {
        *again
    }


def _mask(name: str) -> Any:
    return np.random.default_rng(len(name)).random(64) < 0.5


def _half_made(path: Path) -> Any:
    """The set that a run which goes on ends with."""
    return _made_set(path.parents[1] if path.parent.name == "set" else path.parent, None)


def _made_set(partial: Path, stop_after: int | None) -> Any:
    from edge_bench.core.spec import AttackSpec, SetManifest
    from edge_bench.files.set_writer import SetPlan, SetWriter

    attack = AttackSpec(name="pgd", epsilon=0.9, step_size=0.1, steps=1)
    manifest = SetManifest(
        samples=16,
        image_shape=(1, 4, 4),
        classes=4,
        dataset="digits",
        attack=attack,
        source_sha256="0" * 64,
        source_name="teacher.safetensors",
        on_grid=True,
        arrays={},
        versions={},
    )
    plan = SetPlan(manifest=manifest, batch_size=4, made_from={})
    out = partial.with_name(partial.name.removesuffix(".partial").removeprefix("."))
    images = np.random.default_rng(0).integers(0, 256, (16, 1, 4, 4), dtype=np.uint8)
    labels, right = np.arange(16, dtype=np.int64) % 4, np.arange(16) % 2 == 0
    with SetWriter(out, plan) as writer:
        while writer.done < 16 and writer.done != stop_after:
            part = slice(writer.done, writer.done + 4)
            writer.append(images[part], images[part], labels[part], right[part])
        if stop_after is None:
            writer.finish()
    if stop_after is not None:
        return None
    found = sorted((file.name, file.read_bytes()) for file in out.iterdir())
    shutil.rmtree(out)
    return found


def _hash(*arrays: Any) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


def make_unfinished(folder: Path) -> None:
    """What only interrupted commands leave, and an engine's record, beside the other material."""
    from ard.evaluation.ledger import Ledger
    from edge_bench.backends.engine_cache import EngineKey, Outside, Shapes, write_engine
    from edge_bench.backends.gpu import Gpu
    from edge_bench.files.journal import Journal, journal_path

    with Journal(folder / "report.json") as journal:
        journal.begin({"asked": 1})
        for number in range(20):
            journal.answer(partial(_answer, number))
    journal_path(folder / "report.json").rename(folder / "bench.journal")
    ledger = Ledger(folder / "evaluation.json", {"asked": 1})
    for name in ("clean", "fgsm", "pgd20"):
        ledger.add(name, _mask(name))
    ledger.path.rename(folder / "unfinished.json")
    _made_set(folder / ".half.partial", 8)
    (folder / ".half.partial").rename(folder / "half.partial")
    shape = (1, 1, 8, 8)
    write_engine(
        folder / "model.engine",
        b"an engine",
        EngineKey(
            onnx_sha256="0" * 64,
            tensorrt="10.3",
            gpu=Gpu(name="Orin", compute_capability="8.7", multiprocessors=8),
            shapes=Shapes(smallest=shape, tuned=shape, largest=shape),
            workspace_mib=None,
        ),
        "model.onnx",
        Outside(
            input="images",
            dtype="float32",
            channels_last=False,
            image_shape=(1, 8, 8),
            batch_size=1,
            output="logits",
            classes=10,
        ),
        None,
    )


HALF = ("half.partial",)
READABLE: tuple[Readable, ...] = (
    Readable(name="report", file="report.json", read=_report),
    Readable(name="baseline", file="baseline.json", read=_baseline),
    Readable(name="evaluation", file="evaluation.json", read=_evaluation),
    Readable(name="manifest of a set", file="sets/pgd5/manifest.json", read=_set),
    Readable(name="images of a set", file="sets/pgd5/images.npy", read=_set),
    Readable(name="weights", file="teacher.safetensors", read=_weights),
    Readable(name="checkpoint", file="checkpoint.safetensors", read=_checkpoint),
    Readable(name="recipe as saved", file="recipe.toml", read=_recipe),
    Readable(
        name="ONNX file with its fingerprint",
        file="model.onnx",
        beside=("model.fingerprint.npz",),
        read=_artefact,
    ),
    Readable(name="ONNX file alone", file="model.onnx", read=_artefact),
    Readable(
        name="fingerprint", file="model.fingerprint.npz", beside=("model.onnx",), read=_fingerprint
    ),
    Readable(name="bundle", file="bundle.ardx", read=_bundle),
    Readable(name="engine's record", file="model.engine.json", read=_engine_record),
    Readable(name="journal of a bench", file="bench.journal", read=_journal),
    Readable(name="unfinished evaluation", file="unfinished.json", read=_unfinished),
    Readable(name="count of a half-made set", file="half.partial/progress.json", read=_half_made),
    Readable(name="images of a half-made set", file="half.partial/set/images.npy", read=_half_made),
)
PLACES = {
    "bench.journal": ".report.json.journal",
    "unfinished.json": ".evaluation.unfinished.json",
    "half.partial": ".half.partial",
}
"""Hidden names, by those that the material has for them."""


def damaged(kind: Readable, material: Path, folder: Path, flips: int, seed: int) -> Outcome:
    """Single flipped bits, and the file cut at TRUNCATIONS lengths or fewer."""
    original = (material / kind.file).read_bytes()
    expected = _read(kind, material, folder, original)
    if isinstance(expected, str):
        raise RuntimeError(f"{kind.name}: the whole file is not read: {expected}")
    random = Random(seed)

    def contents() -> Iterator[tuple[str, bytes]]:
        for _ in range(flips):
            bit = random.randrange(8 * len(original))
            flipped = bytearray(original)
            flipped[bit // 8] ^= 1 << bit % 8
            yield f"bit {bit}", bytes(flipped)
        for _ in range(min(TRUNCATIONS, flips)):
            length = random.randrange(len(original))
            yield f"cut to {length} bytes", original[:length]

    def trial(what: str, content: bytes) -> str | None:
        found = _read(kind, material, folder, content)
        if isinstance(found, str):
            return None if found == REFUSED else f"{what}: {found}"
        return None if found == expected else f"{what}: other numbers, and nobody says so"

    return counted(
        PROMISE,
        "a flipped bit, or cut at a length",
        kind.name,
        (trial(*each) for each in contents()),
    )


REFUSED = "refused"


def _read(kind: Readable, material: Path, folder: Path, content: bytes) -> Any:
    """What the file says with that content, in a folder of its own; REFUSED, or a crash."""
    shutil.rmtree(folder, ignore_errors=True)
    top, _, rest = kind.file.partition("/")
    path = folder / PLACES.get(top, top) / rest if rest else folder / PLACES.get(top, top)
    path.parent.mkdir(parents=True)
    if rest:
        source = material / top
        if top == "sets":
            source, path = source / "pgd5", folder / "pgd5" / path.name
            shutil.rmtree(folder)
            shutil.copytree(source, folder / "pgd5")
        else:
            shutil.rmtree(folder)
            shutil.copytree(source, folder / PLACES.get(top, top))
    for name in kind.beside:
        shutil.copyfile(material / name, folder / name)
    path.write_bytes(content)
    try:
        return (kind.read(path),)
    except (ArdxError, OSError):
        return REFUSED
    except Exception as error:
        return f"{type(error).__name__}: {error}"
