"""One benchmark run: replay the sets, time the artefact, attack it, return the report."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_bench import devices
from edge_bench.backends import open_backend
from edge_bench.backends.base import Backend
from edge_bench.core.classes import require_same
from edge_bench.core.errors import InputError
from edge_bench.core.progress import ProgressCallback, no_progress
from edge_bench.core.spec import Artifact, DeviceProfile, FingerprintResult, Report, SetResult
from edge_bench.core.version import __version__
from edge_bench.devices.process import peak_memory_bytes, runtime_versions
from edge_bench.files.external_data import model_files
from edge_bench.files.fingerprint import Fingerprint, compare, fingerprint_path, read_fingerprint
from edge_bench.files.journal import Answer, Journal, ask_anew
from edge_bench.files.sets import AdversarialSet
from edge_bench.files.store import identity, public_path
from edge_bench.options.bench import BenchOptions
from edge_bench.options.square import SquareOptions
from edge_bench.pictures.walk import PHASE, open_walk, walked
from edge_bench.robustness.black_box import attack_artefact, square_spec
from edge_bench.robustness.inference import logits_of, stored_logits
from edge_bench.robustness.replay import RECORD, replay
from edge_bench.telemetry.recorder import Recorder, recorder_of
from edge_bench.timing.clocks import check_clock
from edge_bench.timing.scenarios import first_inference_ns, require_batches, time_scenarios
from edge_bench.timing.sweep import check_sweep, run_sweep


def run(
    model: Path,
    sets: list[AdversarialSet],
    options: BenchOptions,
    report_progress: ProgressCallback = no_progress,
    square: SquareOptions | None = None,
    root: Path = devices.ROOT,
    journal: Journal | None = None,
) -> Report:
    """Measure the artefact `model` on this machine; `square` attacks it on the spot, too.

    Example:
        report = run(Path("student.onnx"), open_sets(Path("sets")), BenchOptions(threads=1))

    `root` is where the device's own files lie. What `journal` holds of an interrupted run of the
    same is not asked again; timings always are.

    Raises:
        InputError: the model is no classifier of the sets' images, or gives NaN logits; or Square
            has no images or no one budget.
        CapabilityError: the device or the runtime is not here.
    """
    # Refused now rather than after all the rest.
    check_clock()
    check_sweep(options)
    if square:
        square_spec(square, sets)
    profile = devices.probe(options.device, root)
    engine = replace(options.engine, max_batch=options.batch_size)
    with (
        recorder_of(profile.device, root) as recorder,
        open_backend(
            options.backend, model, options.threads, engine, report_progress, options.output
        ) as backend,
    ):
        require_batches(backend.input.batch_size, options)
        bench = _Bench(
            model=model,
            sets=sets,
            options=options,
            square=square,
            profile=profile,
            journal=journal if sets else None,
            report_progress=report_progress,
        )
        return _measured(bench, backend, recorder)


@dataclass(frozen=True, kw_only=True)
class _Bench:
    """What is measured, and how; `journal` where there is something to replay."""

    model: Path
    sets: list[AdversarialSet]
    options: BenchOptions
    square: SquareOptions | None
    profile: DeviceProfile
    journal: Journal | None
    report_progress: ProgressCallback


def _measured(bench: _Bench, backend: Backend, recorder: Recorder) -> Report:
    """The benchmark itself, in the order in which one step disturbs the next least."""
    sets, options, tell, journal = bench.sets, bench.options, bench.report_progress, bench.journal
    artifact = _artifact(bench, backend)
    walk = open_walk(options.pictures, backend, artifact) if options.pictures else None
    fingerprint = _fingerprint_of(bench.model, artifact.sha256)
    first_ns = first_inference_ns(backend, sets, options)
    answer = journal.answer if journal else ask_anew
    if journal:
        asked = _asked(artifact, sets, backend, bench.profile, options, bench.square)
        if begun := journal.begin(asked):
            tell(0, len(sets) + 1, begun)
    recorder.idle(options.idle_seconds)
    replayed = replay(sets, backend, artifact, options, tell, answer)
    results = replayed.results
    if journal:
        journal.sync()  # Not while the artefact is timed.
    pictures = walked(walk, backend, options, recorder.phase(PHASE), tell) if walk else None
    timings = time_scenarios(backend, sets, options, first_ns, recorder, tell)
    telemetry = recorder.finish()
    peak = peak_memory_bytes()
    validated = _compare(fingerprint, backend) if fingerprint else None
    swept = run_sweep(bench.model, sets, options, tell)
    # Last of all: an attack may run for hours, and would time a hot device.
    if bench.square and replayed.clean_mask:
        stood = [result.mask for result in results if not result.manifest.is_compared]
        masks = (replayed.clean_mask, stood)
        attacked = _attack(bench.square, sets, masks, backend, artifact, options, tell, answer)
        results = (*results, attacked)
    return Report(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        ardx_version=__version__,
        artifact=artifact,
        device=bench.profile,
        backend=backend.info,
        images_sha256=sets[0].images_sha256 if sets else None,
        clean_mask=replayed.clean_mask,
        clean_answers=replayed.clean_answers,
        labels=replayed.labels,
        sets=results,
        latency=timings.latency,
        throughput=timings.throughput,
        peak_memory_bytes=peak,
        fingerprint=validated,
        telemetry=telemetry,
        multi_stream=timings.multi_stream,
        offline=timings.offline,
        sweep=swept,
        soak=timings.soak,
        output=options.output,
        pictures=pictures,
    )


def _artifact(bench: _Bench, backend: Backend) -> Artifact:
    """The file that is measured, once preprocessing and sets are seen to fit it."""
    sha256, size_bytes = identity(model_files(bench.model))
    artifact = Artifact(
        path=public_path(bench.model), sha256=sha256, size_bytes=size_bytes, card=backend.card
    )
    _check_preprocessing(backend, bench.options)
    for adversarial_set in bench.sets:
        _check_fits(adversarial_set, backend, artifact)
    return artifact


def _asked(
    artifact: Artifact,
    sets: list[AdversarialSet],
    backend: Backend,
    profile: DeviceProfile,
    options: BenchOptions,
    square: SquareOptions | None,
) -> dict[str, Any]:
    """All that masks follow from, by what a person would call it."""
    return {
        "artefact": [artifact.sha256, artifact.card and asdict(artifact.card)],
        "set": [[opened.name, asdict(opened.manifest)] for opened in sets],
        "runtime": [asdict(backend.info), backend.engine_sha256],
        "device": [
            *(profile.device, profile.board, profile.soc, profile.cpu),
            *(profile.architecture, profile.cores, profile.vnni),
        ],
        "batch size": [backend.input.batch_size, options.batch_size],
        "kept of an answer": RECORD.descr,
        "preprocessing": [options.mean, options.std],
        **({"output": options.output} if options.output else {}),
        "attack": asdict(square_spec(square, sets)) | asdict(square) if square else None,
        "version of ardx, numpy or Python": runtime_versions(),
    }


def _fingerprint_of(model: Path, sha256: str) -> Fingerprint | None:
    path = fingerprint_path(model)
    return read_fingerprint(path, sha256) if path.exists() else None


def _compare(fingerprint: Fingerprint, backend: Backend) -> FingerprintResult:
    """What the runtime makes of the inputs that it was validated with, where it was exported."""
    classes = fingerprint.logits.shape[1]
    precision = backend.card.precision if backend.card else "fp32"
    return compare(fingerprint, lambda images: stored_logits(backend, images, classes), precision)


def _attack(
    square: SquareOptions,
    sets: list[AdversarialSet],
    masks: tuple[str, list[str]],
    backend: Backend,
    artifact: Artifact,
    options: BenchOptions,
    report_progress: ProgressCallback,
    answer: Answer,
) -> SetResult:
    """An attack by the runtime's own answers; `masks` of the clean images and of each set."""

    def scores(images: NDArray[Any]) -> NDArray[np.float32]:
        classes = sets[0].manifest.classes
        return logits_of(
            backend, images, classes, options, f"an image that --attack {square.attack} tried"
        )

    return attack_artefact(
        square,
        sets,
        masks,
        scores,
        artifact,
        versions=runtime_versions() | {backend.info.name: backend.info.version},
        batch_size=backend.input.batch_size or options.batch_size,
        report_progress=report_progress,
        answer=answer,
    )


def _check_preprocessing(backend: Backend, options: BenchOptions) -> None:
    if options.mean is None:
        return
    if backend.input.dtype == "uint8":
        raise InputError(
            "--mean and --std: the model reads uint8 images, so its graph normalises them itself; "
            "leave both out"
        )
    if backend.card is not None:
        raise InputError(
            "--mean and --std: the model holds a card of ardx, which always puts the normalisation "
            "into the graph, and would be normalised twice; leave both out"
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
    if artifact.card is not None:
        require_same(
            artifact.card.class_names,
            manifest.class_names,
            str(adversarial_set.path),
            artifact.path,
        )
    if artifact.card is not None and artifact.card.dataset != manifest.dataset:
        raise InputError(
            f"{adversarial_set.path}: was crafted from {manifest.dataset}, but {artifact.path} "
            f"was trained on {artifact.card.dataset}; craft a set from that dataset"
        )
