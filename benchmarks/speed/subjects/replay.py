"""What replay and timing cost over bare calls of the runtime."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np

from benchmarks.replay.loadgen import single_stream
from benchmarks.speed.finding import Asked, Case, Finding, against, missing
from benchmarks.speed.networks import CLASSES, NAMES, SHAPE, files
from benchmarks.speed.turns import by_turns, seconds
from edge_bench.backends.ort import OrtBackend
from edge_bench.files.journal import Journal
from edge_bench.options.bench import BenchOptions
from edge_bench.robustness.inference import prepare
from edge_bench.robustness.replay import correct_mask
from edge_bench.timing.measure import measure

TITLE = "Replay and the timing loop"
SECONDS = 153.0
ABOUT = """Images replayed from a file, in batches of 64 and one thread, beside a loop of
`session.run` over float arrays that were made before, in the same session; with the journal that a
real run keeps; and the median latency of one image beside that of a bare loop, and of MLPerf's
load generator around the same call. Three times as many turns as elsewhere, since each takes a
fraction of a second."""
LEFT = """By the processor's own clock, of a batch of a ResNet-8 in INT8: scaling bytes to floats
takes 0.8 % (in a thread, while the batch before is answered), checking logits and their records 1
%, and what remains changes with where memory comes to lie. MobileNetV2's 50 ms a batch hide it, 15
ms do not wholly."""

IMAGES, MORE_TURNS, LEAST = 2048, 3, 0.98
CASES = (("resnet8", "int8"), ("resnet8", "fp32"), ("mobilenet_v2", "int8"))


def cases(asked: Asked) -> dict[str, Case]:
    """Small networks, by which the harness shows most."""
    chosen = CASES[:1] if asked.quick else CASES
    return {
        f"{NAMES[architecture]}, {form.upper()}": partial(measured, architecture, form, asked)
        for architecture, form in chosen
    }


def measured(architecture: str, form: str, asked: Asked) -> list[Finding]:
    """Replay and latency of one file."""
    model = files(architecture, asked) / f"{form}.onnx"
    with OrtBackend(model, asked.threads) as backend:
        return [*_replay(backend, asked), *_latency(backend, asked)]


def _replay(backend: OrtBackend, asked: Asked) -> list[Finding]:
    options = BenchOptions(threads=asked.threads)
    count = IMAGES // 8 if asked.quick else IMAGES
    # The same session: another one's memory lies elsewhere, which alone is worth 5 percent.
    session: Any = backend._session
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        levels = np.random.default_rng(0).integers(0, 256, (count, *SHAPE), np.uint8)
        np.save(folder / "images.npy", levels)
        stored = np.load(folder / "images.npy", mmap_mode="r")
        labels = np.zeros(count, dtype=np.int64)
        ready = prepare(levels, backend.input, options)
        size, key = options.batch_size, backend.input.name

        def bare() -> None:
            for at in range(0, count, size):
                session.run(None, {key: ready[at : at + size]})

        plain = partial(correct_mask, backend, stored, labels, CLASSES, options, "")
        # One journal for all turns, as one run has: its first sync is no turn's.
        with Journal(folder / "report.json") as journal:
            journal.begin({"of": "the suite"})
            rivals: dict[str, Callable[[], object]] = {
                "bare": bare,
                "plain": plain,
                "journal": partial(plain, journal.answer),
            }
            rivals["journal"]()
            turns = MORE_TURNS * asked.turns
            found = by_turns({name: seconds(each) for name, each in rivals.items()}, turns)
            journal.discard()
    note = f"{1e3 * float(np.median(found['bare'])) * size / count:.3g} ms a batch"
    return [
        against(found[name], found["bare"], "times as fast", rival=rival, bar=LEAST, note=note)
        for name, rival in (
            ("plain", "`session.run` over ready arrays"),
            ("journal", "the same, journal included"),
        )
    ]


def _latency(backend: OrtBackend, asked: Asked) -> list[Finding]:
    image = prepare(np.zeros((1, *SHAPE), np.uint8), backend.input, BenchOptions())
    session: Any = backend._session
    key, calls = backend.input.name, 20 if asked.quick else 300

    def call() -> None:
        session.run(None, {key: image})

    def bare() -> float:
        samples = []
        for _ in range(calls):
            begin = perf_counter_ns()
            call()
            samples.append(perf_counter_ns() - begin)
        return float(np.median(samples)) / 1e9

    def ours() -> float:
        timed = measure(
            lambda: backend.infer(image),
            batch_size=1,
            warmup_runs=0,
            min_runs=calls,
            min_seconds=0,
        )
        return float(np.median(timed.latency_ns)) / 1e9

    rivals: dict[str, Callable[[], float]] = {"ours": ours, "bare": bare}
    if find_spec("mlperf_loadgen"):
        rivals["loadgen"] = lambda: single_stream(call, calls)[50] / 1e9
    found = by_turns(rivals, MORE_TURNS * asked.turns)
    one = [against(found["ours"], found["bare"], "over", rival="median latency of a bare loop")]
    generator = "median latency by MLPerf's LoadGen"
    if "loadgen" not in found:
        return [*one, missing(generator, "over", "mlcommons-loadgen is not installed")]
    return [*one, against(found["ours"], found["loadgen"], "over", rival=generator)]
