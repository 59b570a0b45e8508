"""One benchmark run: replay the sets, time the artefact, attack it, return the report."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from math import inf, isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_bench import __version__, devices
from edge_bench.backends import open_backend
from edge_bench.backends.base import Backend, ImageInput
from edge_bench.black_box import SquareOptions, attack_artefact, square_spec
from edge_bench.console import ProgressCallback, no_progress
from edge_bench.engine_cache import EngineOptions
from edge_bench.errors import InputError
from edge_bench.fingerprint import Fingerprint, compare, fingerprint_path, read_fingerprint
from edge_bench.metrics import BoolArray, encode_mask
from edge_bench.process import peak_memory_bytes, runtime_versions
from edge_bench.sets import AdversarialSet, release
from edge_bench.spec import Artifact, FingerprintResult, Measurement, Report, SetResult
from edge_bench.store import identity, model_files
from edge_bench.telemetry import recorder_of
from edge_bench.timing import measure

THROUGHPUT_RUNS = 10


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """How to run a benchmark.

    Attributes:
        device: key of `devices.DEVICES`, or `auto`.
        backend: key of `backends.BACKENDS`.
        threads: runtime threads; None leaves it to the runtime.
        batch_size: images per call in replay and throughput; latency is always one image.
        warmup_runs: calls that are dropped before timing.
        min_runs, min_seconds: both must be reached by each timing (min_runs up to
            THROUGHPUT_RUNS by that of throughput).
        idle_seconds: how long idle power is measured first, where a sensor tells power.
        mean, std: per-channel normalisation for graphs that do not hold their own.
        engine: how `trt` builds; its largest batch is `batch_size`.
    """

    device: str = "auto"
    backend: str = "ort"
    threads: int | None = None
    batch_size: int = 64
    warmup_runs: int = 20
    min_runs: int = 300
    min_seconds: float = 2.0
    idle_seconds: float = 5.0
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    engine: EngineOptions = field(default_factory=EngineOptions)

    def __post_init__(self) -> None:
        for option, value, least in (
            ("--batch-size", self.batch_size, 1),
            ("--runs", self.min_runs, 1),
            ("--warmup", self.warmup_runs, 0),
            ("--threads", 1 if self.threads is None else self.threads, 1),
        ):
            if value < least:
                raise InputError(f"{option} {value}: expected {least} or more")
        for option, seconds in (
            ("--seconds", self.min_seconds),
            ("--idle-seconds", self.idle_seconds),
        ):
            if not 0 <= seconds < inf:
                raise InputError(f"{option} {seconds:g}: expected a time of 0 or more")
        if len(self.mean or ()) != len(self.std or ()):
            raise InputError("--mean and --std: expected both, of as many values, or neither")
        if not all(isfinite(value) for value in self.mean or ()):
            raise InputError(f"--mean {self.mean}: expected finite values")
        if not all(0 < value < inf for value in self.std or ()):
            raise InputError(f"--std {self.std}: expected values above 0")


def run(
    model: Path,
    sets: list[AdversarialSet],
    options: BenchOptions,
    report_progress: ProgressCallback = no_progress,
    square: SquareOptions | None = None,
    root: Path = devices.ROOT,
) -> Report:
    """Measure the artefact `model` on this machine; `square` attacks it on the spot, too.

    `root` is where the device's own files lie.

    Raises:
        InputError: the model is no classifier of the sets' images, or gives NaN logits; or Square
            has no images or no one budget.
        CapabilityError: the device or the runtime is not here.
    """
    if square:
        square_spec(square, sets)  # Refused now rather than after all the rest.
    profile = devices.probe(options.device, root)
    engine = replace(options.engine, max_batch=options.batch_size)
    with (
        recorder_of(profile.device, root) as recorder,
        open_backend(options.backend, model, options.threads, engine, report_progress) as backend,
    ):
        sha256, size_bytes = identity(model_files(model))
        artifact = Artifact(
            path=str(model), sha256=sha256, size_bytes=size_bytes, card=backend.card
        )
        _check_preprocessing(backend, options)
        fingerprint = _fingerprint_of(model, sha256)
        for adversarial_set in sets:
            _check_fits(adversarial_set, backend, artifact)
        recorder.idle(options.idle_seconds)
        clean_mask, results = _replay(sets, backend, artifact, options, report_progress)
        phase = recorder.phase("latency")
        latency = _time(backend, sets, 1, options.min_runs, options, phase)
        # A batch takes long and its figure is a mean: the time asked for bounds it.
        batch_runs = min(options.min_runs, THROUGHPUT_RUNS)
        phase = recorder.phase("throughput")
        throughput = _time(backend, sets, options.batch_size, batch_runs, options, phase)
        telemetry = recorder.finish()
        peak = peak_memory_bytes()
        validated = _compare(fingerprint, backend) if fingerprint else None
        # Last of all: an attack may run for hours, and would time a hot device.
        if square and clean_mask:
            masks = (clean_mask, [result.mask for result in results])
            attacked = _attack(square, sets, masks, backend, artifact, options, report_progress)
            results = (*results, attacked)
        info = backend.info
    return Report(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        ardx_version=__version__,
        artifact=artifact,
        device=profile,
        backend=info,
        images_sha256=sets[0].images_sha256 if sets else None,
        clean_mask=clean_mask,
        sets=results,
        latency=latency,
        throughput=throughput,
        peak_memory_bytes=peak,
        fingerprint=validated,
        telemetry=telemetry,
    )


def _fingerprint_of(model: Path, sha256: str) -> Fingerprint | None:
    path = fingerprint_path(model)
    return read_fingerprint(path, sha256) if path.exists() else None


def _compare(fingerprint: Fingerprint, backend: Backend) -> FingerprintResult:
    """What the runtime makes of the inputs that it was validated with, where it was exported."""
    classes = fingerprint.logits.shape[1]
    precision = backend.card.precision if backend.card else "fp32"
    return compare(fingerprint, lambda images: stored_logits(backend, images, classes), precision)


def stored_logits(backend: Backend, images: NDArray[np.uint8], classes: int) -> NDArray[np.float32]:
    """(N, classes) logits of a fingerprint's images (N, C, H, W), by the graph as it is."""
    size = backend.input.batch_size or len(images)
    parts = [
        logits_of(backend, images[begin : begin + size], classes, BenchOptions(), "a fingerprint")
        for begin in range(0, len(images), size)
    ]
    return np.concatenate(parts)


def _replay(
    sets: list[AdversarialSet],
    backend: Backend,
    artifact: Artifact,
    options: BenchOptions,
    report_progress: ProgressCallback,
) -> tuple[str | None, tuple[SetResult, ...]]:
    """The mask of the clean images, and one of each set."""
    if not sets:
        return None, ()
    total = len(sets) + 1
    labels, classes = sets[0].labels, sets[0].manifest.classes
    clean = correct_mask(backend, sets[0].clean, labels, classes, options, "the clean set")
    report_progress(1, total, f"clean {clean.mean():.1%}")
    results: list[SetResult] = []
    for adversarial_set in sets:
        what = f"the set {adversarial_set.name}"
        mask = correct_mask(backend, adversarial_set.images, labels, classes, options, what)
        results.append(
            SetResult(
                name=adversarial_set.name,
                manifest=adversarial_set.manifest,
                relation=_relation(adversarial_set, artifact),
                mask=encode_mask(mask),
            )
        )
        report_progress(len(results) + 1, total, f"{adversarial_set.name} {mask.mean():.1%}")
    return encode_mask(clean), tuple(results)


def _attack(
    square: SquareOptions,
    sets: list[AdversarialSet],
    masks: tuple[str, list[str]],
    backend: Backend,
    artifact: Artifact,
    options: BenchOptions,
    report_progress: ProgressCallback,
) -> SetResult:
    """Square by the scores of the runtime itself; `masks` of the clean images and of each set."""

    def scores(images: NDArray[Any]) -> NDArray[np.float32]:
        classes = sets[0].manifest.classes
        return logits_of(backend, images, classes, options, "an image that Square tried")

    return attack_artefact(
        square,
        sets,
        masks,
        scores,
        artifact,
        versions=runtime_versions() | {backend.info.name: backend.info.version},
        batch_size=backend.input.batch_size or options.batch_size,
        report_progress=report_progress,
    )


def correct_mask(
    backend: Backend,
    images: NDArray[Any],
    labels: NDArray[np.int64],
    classes: int,
    options: BenchOptions,
    what: str,
) -> BoolArray:
    """(N,) booleans: is the largest logit the label's? Images (N, C, H, W) of `what`, streamed.

    Raises:
        InputError: NaN or infinite logits, or logits of the wrong shape.
    """
    size = backend.input.batch_size or options.batch_size
    correct = np.zeros(len(labels), dtype=np.bool_)
    for begin in range(0, len(labels), size):
        part = slice(begin, min(begin + size, len(labels)))
        which = f"an image among {begin} to {part.stop - 1} of {what}"
        logits = logits_of(backend, images[part], classes, options, which)
        correct[part] = logits.argmax(axis=1) == labels[part]
        release(images[part])
        release(labels[part])
    return correct


def logits_of(
    backend: Backend, images: NDArray[Any], classes: int, options: BenchOptions, what: str
) -> NDArray[np.float32]:
    """(B, classes) logits of at most one batch of images (B, C, H, W); `what` names one of them.

    A graph that is bound to a batch size gets its batch filled up.

    Raises:
        InputError: NaN or infinite logits, or logits of the wrong shape.
    """
    batch = prepare(images, backend.input, options)
    count, bound = len(batch), backend.input.batch_size
    if bound and count < bound:
        padding = np.repeat(batch[-1:], bound - count, axis=0)
        batch = np.concatenate([batch, padding])
    logits = backend.infer(batch)[:count]
    if logits.shape != (count, classes):
        raise InputError(
            f"the model's output: expected logits ({count}, {classes}), came {logits.shape}; "
            "craft a set from the dataset of that model"
        )
    if not np.isfinite(logits).all():
        raise InputError(
            f"the model's logits hold NaN or infinity for {what}; its accuracy would be "
            "meaningless, so export or quantise it again"
        )
    return logits


def prepare(images: NDArray[Any], image_input: ImageInput, options: BenchOptions) -> NDArray[Any]:
    """(B, C, H, W) uint8 levels or float32 in [0, 1] to what the graph's input declares."""
    if image_input.dtype == "uint8":
        if images.dtype != np.uint8:
            raise InputError(
                "the model reads uint8 images, but the set is not on the 8-bit grid; craft it "
                "without --off-grid"
            )
        batch: NDArray[Any] = images
    else:
        batch = images.astype(np.float32) / 255 if images.dtype == np.uint8 else images
        if options.mean is not None and options.std is not None:
            mean = np.asarray(options.mean, dtype=np.float32).reshape(1, -1, 1, 1)
            std = np.asarray(options.std, dtype=np.float32).reshape(1, -1, 1, 1)
            batch = (batch - mean) / std
        batch = batch.astype(image_input.dtype, copy=False)
    if image_input.channels_last:
        batch = batch.transpose(0, 2, 3, 1)
    return np.ascontiguousarray(batch)


def _check_preprocessing(backend: Backend, options: BenchOptions) -> None:
    if options.mean is None:
        return
    if backend.input.dtype == "uint8":
        raise InputError(
            "--mean and --std: the model reads uint8 images, so its graph normalises them itself; "
            "leave both out"
        )
    channels = backend.input.image_shape[0]
    if channels is not None and len(options.mean) != channels:
        raise InputError(
            f"--mean and --std: expected {channels} values, one per channel of the model, came "
            f"{len(options.mean)}"
        )


def _check_fits(adversarial_set: AdversarialSet, backend: Backend, artifact: Artifact) -> None:
    manifest = adversarial_set.manifest
    wanted = backend.input.image_shape
    if any(w is not None and w != s for w, s in zip(wanted, manifest.image_shape, strict=True)):
        raise InputError(
            f"{adversarial_set.path}: holds images of shape {manifest.image_shape} (C, H, W), but "
            f"{artifact.path} reads {wanted}; craft a set from the dataset of that model"
        )
    if backend.classes is not None and backend.classes != manifest.classes:
        raise InputError(
            f"{adversarial_set.path}: holds {manifest.classes} classes, but {artifact.path} has "
            f"{backend.classes} logits; craft a set from the dataset of that model"
        )
    if artifact.card is not None and artifact.card.dataset != manifest.dataset:
        raise InputError(
            f"{adversarial_set.path}: was crafted from {manifest.dataset}, but {artifact.path} "
            f"was trained on {artifact.card.dataset}; craft a set from that dataset"
        )


def _relation(adversarial_set: AdversarialSet, artifact: Artifact) -> str:
    source = adversarial_set.manifest.source_sha256
    if source == artifact.sha256:
        return "this artefact"
    if artifact.card is not None and source == artifact.card.parent_sha256:
        return "its parent"
    return "another model"


def _time(
    backend: Backend,
    sets: list[AdversarialSet],
    batch_size: int,
    min_runs: int,
    options: BenchOptions,
    timed: AbstractContextManager[None],
) -> Measurement:
    """Time whole calls; the context `timed` is around what is timed."""
    batch = batch_to_time(backend, sets, batch_size, options)
    measurement = measure(
        lambda: backend.infer(batch),
        batch_size=len(batch),
        warmup_runs=options.warmup_runs,
        min_runs=min_runs,
        min_seconds=options.min_seconds,
        timed=timed,
    )
    if not np.isfinite(backend.infer(batch)).all():
        raise InputError(
            "the model's logits hold NaN or infinity on the images that were timed; export or "
            "quantise it again"
        )
    return measurement


def batch_to_time(
    backend: Backend, sets: list[AdversarialSet], batch_size: int, options: BenchOptions
) -> NDArray[Any]:
    """A batch as the graph declares it, of real images where there are any, else of noise.

    Raises:
        InputError: neither sets nor a fixed image size.
    """
    size = backend.input.batch_size or batch_size
    if sets:
        images = np.resize(sets[0].clean[:size], (size, *sets[0].manifest.image_shape))
    else:
        if any(s is None for s in backend.input.image_shape):
            raise InputError(
                "the model leaves its image size open, so without --sets there is nothing to "
                "time; give --sets"
            )
        shape = [s for s in backend.input.image_shape if s is not None]
        images = np.random.default_rng(0).integers(0, 256, (size, *shape), dtype=np.uint8)
    return prepare(images, backend.input, options)
