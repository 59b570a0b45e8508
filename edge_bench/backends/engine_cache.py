"""Engines on disk: found again only where all that they depend on is the same, else built anew.

    CACHE/student-1a2b3c4d5e6f7081.engine        what TensorRT built
    CACHE/student-1a2b3c4d5e6f7081.engine.json   its record: key, sha256, the graph's outside
    CACHE/student-1a2b3c4d5e6f7081.engine.lock   held by the process that builds it
    CACHE/timing-tensorrt-10.3.0-sm87.cache      TensorRT's measurements of kernels

The record is written last, so an engine whose build was killed has none and is built again. An
engine is program code: the sha256 in its record finds damage and mix-ups, not a forger who
writes both. Load only engines that you built.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

from edge_bench.backends.gpu import Gpu, sm_of
from edge_bench.core.errors import InputError
from edge_bench.core.formats import Change, Format, without_writer
from edge_bench.core.progress import ProgressCallback, no_progress
from edge_bench.core.spec import ModelCard
from edge_bench.core.version import __version__
from edge_bench.files.external_data import model_files
from edge_bench.files.kinds import Kind
from edge_bench.files.store import (
    atomic_file,
    identity,
    read_json,
    require_file,
    to_json,
)
from edge_bench.options.engine import EngineOptions

SUFFIX = Kind.ENGINE.value
BUILD = 1
"""Raised when ardx builds otherwise, so that engines of before are stale."""


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """The optimisation profile of the image input: full shapes, batch first."""

    smallest: tuple[int, ...]
    tuned: tuple[int, ...]
    largest: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.smallest} to {self.largest}"

    def take(self, shape: tuple[int, ...]) -> bool:
        """Does the profile take a batch of this shape?"""
        return len(shape) == len(self.largest) and all(
            least <= size <= most
            for least, size, most in zip(self.smallest, shape, self.largest, strict=True)
        )


@dataclass(frozen=True, kw_only=True)
class EngineKey:
    """All that an engine depends on; the engine of another key is another engine.

    Attributes:
        compiler: title of what builds it, and `tensorrt` its version.
        gpu: the one that it is for; None where it is for all of `capabilities`, such as `8.6`.
    """

    onnx_sha256: str
    compiler: str = "TensorRT"
    tensorrt: str
    gpu: Gpu | None
    capabilities: tuple[str, ...] = ()
    shapes: Shapes
    workspace_mib: int | None
    build: int = BUILD

    def place(self) -> str:
        """Where it can run, for people."""
        if self.gpu is None:
            return f"for {', '.join(map(sm_of, self.capabilities))}"
        return f"on {_describe(self.gpu)}"

    def runs_on(self, gpu: Gpu) -> bool:
        """Is it for this GPU?"""
        if self.gpu is None:
            return gpu.compute_capability in self.capabilities
        return gpu == self.gpu

    def timing_file(self) -> str:
        """Name of the file that keeps the measurements of kernels for such engines."""
        gpus = (self.gpu.compute_capability,) if self.gpu else self.capabilities
        words = (self.compiler.lower().replace(" ", "-"), self.tensorrt, *map(sm_of, gpus))
        return f"timing-{'-'.join(words)}.cache"

    def digest(self) -> str:
        """A short name of the key, for files."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Outside:
    """The graph as its callers see it, kept so that an engine can be run without its ONNX file.

    `image_shape` is (C, H, W) without a batch; `batch_size` is None where it is free.
    """

    input: str
    dtype: str
    channels_last: bool
    image_shape: tuple[int, int, int]
    batch_size: int | None
    output: str
    classes: int | None


@dataclass(frozen=True, kw_only=True)
class EngineRecord:
    """What lies beside an engine. `card` is that of the ONNX file `source`."""

    FORMAT: ClassVar = Format(
        name="the record of an engine",
        history=(
            Change(ardx="0.1.0", what="the first form"),
            Change(
                ardx="0.2.0",
                what="ardx_version; compiler and capabilities in its key, whose GPU may be null; a "
                "model card of version 2 in it",
                upgrade=without_writer,
            ),
            Change(ardx="0.2.0", what="content_sha256: of all the rest"),
        ),
        sealed_from=3,
        anew="give the ONNX file, so that the engine is built again",
    )

    schema_version: int = FORMAT.version
    key: EngineKey
    engine_sha256: str
    source: str
    outside: Outside
    card: ModelCard | None
    ardx_version: str | None = __version__


Build = Callable[[Path, ProgressCallback], bytes]
"""Called with the timing cache to read and update, and a progress callback."""


def profile_shapes(outside: Outside, options: EngineOptions) -> Shapes:
    """The shapes that the engine of a graph must take; all one where its batch size is bound."""
    channels, height, width = outside.image_shape
    image = (height, width, channels) if outside.channels_last else (channels, height, width)
    if outside.batch_size is not None:
        bound = (outside.batch_size, *image)
        return Shapes(smallest=bound, tuned=bound, largest=bound)
    return Shapes(
        smallest=(1, *image),
        tuned=(options.tuned_batch, *image),
        largest=(options.max_batch, *image),
    )


def engine_key(
    onnx: Path,
    tensorrt: str,
    gpu: Gpu | None,
    outside: Outside,
    options: EngineOptions,
    *,
    compiler: str = "TensorRT",
    capabilities: tuple[str, ...] = (),
) -> EngineKey:
    """The key of the engine that `onnx` (and the files of its weights) would become."""
    return EngineKey(
        onnx_sha256=identity(model_files(onnx))[0],
        compiler=compiler,
        tensorrt=tensorrt,
        gpu=gpu,
        capabilities=capabilities,
        shapes=profile_shapes(outside, options),
        workspace_mib=options.workspace_mib,
    )


def cached_engine(
    onnx: Path,
    key: EngineKey,
    outside: Outside,
    card: ModelCard | None,
    cache: Path,
    build: Build,
    report_progress: ProgressCallback = no_progress,
) -> tuple[bytes, EngineRecord]:
    """The engine of `key`: from the cache where it is whole and of that very key, else built.

    Of several processes that want one engine, one builds and the others wait for it.
    """
    folder = cache.expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{onnx.stem}-{key.digest()}{SUFFIX}"
    if found := _whole(path, key):
        return found  # Without the lock: the folder may be one that may only be read.
    with _locked(path.with_name(path.name + ".lock"), onnx, report_progress):
        if found := _whole(path, key):
            return found
        for remains in folder.glob(f".{path.stem}.*partial-*"):
            remains.unlink(missing_ok=True)  # Of a build that was killed: this lock was its, too.
        engine = build(folder / key.timing_file(), report_progress)
        record = write_engine(path, engine, key, onnx.name, outside, card)
        report_progress(
            1, 1, "engine built; a second run measures without the builder's memory and heat"
        )
        return engine, record


def write_engine(
    path: Path, engine: bytes, key: EngineKey, source: str, outside: Outside, card: ModelCard | None
) -> EngineRecord:
    """Write an engine and then its record over those that are there; both are whole before."""
    record = EngineRecord(
        key=key,
        engine_sha256=hashlib.sha256(engine).hexdigest(),
        source=source,
        outside=outside,
        card=card,
    )
    with (
        atomic_file(record_path(path), force=True) as marks,
        atomic_file(path, force=True) as partial,
    ):
        marks.write_text(to_json(record) + "\n", encoding="utf-8")
        partial.write_bytes(engine)
    return record


def given_engine(
    path: Path, tensorrt: str, gpu: Gpu, compiler: str = "TensorRT"
) -> tuple[bytes, EngineRecord]:
    """An engine file that was named itself; it must fit its record and this machine.

    Raises:
        InputError: no record, another file than it speaks of, or made for another machine.
    """
    require_file(path, "a TensorRT engine")
    require_file(record_path(path), f"the record that lies beside the engine {path.name}")
    record = read_json(record_path(path), EngineRecord, "the record of an engine")
    found = record.key
    fits = found.runs_on(gpu) and (found.compiler, found.tensorrt) == (compiler, tensorrt)
    if not fits or found.build != BUILD:
        raise InputError(
            f"{path}: was built by {found.compiler} {found.tensorrt} {found.place()}, and this is "
            f"{compiler} {tensorrt} on {_describe(gpu)}; give its ONNX file ({record.source}), so "
            "that an engine is built here"
        )
    engine = path.read_bytes()
    came = hashlib.sha256(engine).hexdigest()
    if came != record.engine_sha256:
        raise InputError(
            f"{path}: has sha256 {came[:12]}..., but its record speaks of "
            f"{record.engine_sha256[:12]}...; give its ONNX file ({record.source}), so that the "
            "engine is built again"
        )
    return engine, record


def bundled_engine(folder: Path, key: EngineKey, gpu: Gpu) -> tuple[bytes, EngineRecord]:
    """The engine of a bundle that does what that of `key` would, on this GPU.

    Raises:
        InputError: none of them does.
    """
    seen = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        record = read_json(record_path(path), EngineRecord, "the record of an engine")
        found, asked = record.key, (key.shapes.smallest, key.shapes.largest)
        seen.append(f"by {found.compiler} {found.tensorrt} {found.place()} of {found.shapes}")
        same = (found.onnx_sha256, found.compiler, found.tensorrt, found.build) == (
            *(key.onnx_sha256, key.compiler, key.tensorrt, key.build),
        )
        if same and found.runs_on(gpu) and all(map(found.shapes.take, asked)):
            return given_engine(path, key.tensorrt, gpu, key.compiler)
    raise InputError(
        f"--bundled-engine: the bundle brings engines {' and '.join(seen) or '(none)'}, but this "
        f"is {key.compiler} {key.tensorrt} on {_describe(gpu)}, for images {key.shapes}; leave "
        "--bundled-engine out, so that an engine is built here, or pack the bundle with --for "
        f"{sm_of(gpu.compute_capability)}"
    )


def record_path(engine: Path) -> Path:
    """Where the record of an engine lies."""
    return engine.with_name(engine.name + ".json")


def _whole(path: Path, key: EngineKey) -> tuple[bytes, EngineRecord] | None:
    """The engine at `path` where its record is whole, of `key`, and of these very bytes."""
    try:
        record = read_json(record_path(path), EngineRecord, "the record of an engine")
        engine = path.read_bytes()
    except (InputError, OSError):
        return None
    whole = record.key == key and record.engine_sha256 == hashlib.sha256(engine).hexdigest()
    return (engine, record) if whole else None


@contextmanager
def _locked(path: Path, onnx: Path, report_progress: ProgressCallback) -> Iterator[None]:
    """Hold `path` against other processes; the kernel lets go of it when a process is killed."""
    import fcntl

    with path.open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report_progress(0, 1, f"waiting: another process builds the engine of {onnx.name}")
            fcntl.flock(file, fcntl.LOCK_EX)
        # The file stays: removing it would let two processes hold two files of one name.
        yield


def _describe(gpu: Gpu) -> str:
    return f"{gpu.name} (sm {gpu.compute_capability}, {gpu.multiprocessors} multiprocessors)"
