"""What the harness costs: ardx against bare loops over `session.run`, by turns in one run.

    python -m benchmarks.replay.overhead MODEL.onnx --set sets/pgd20 --threads 1

With `pip install mlcommons-loadgen`, MLPerf's load generator times the same call, too. Prints one
JSON line; docs/results/overhead.md holds those of the committed figures.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from time import perf_counter, perf_counter_ns
from typing import Annotated, Any, TypeVar

import numpy as np
import typer

from benchmarks.lines import commit, machine
from benchmarks.replay.loadgen import single_stream
from edge_bench.backends.ort import OrtBackend
from edge_bench.files.sets import AdversarialSet, open_set
from edge_bench.options.bench import BenchOptions
from edge_bench.robustness.inference import prepare
from edge_bench.robustness.replay import correct_mask
from edge_bench.timing.measure import measure

T = TypeVar("T")
Percentiles = dict[int, float]

ROUNDS = 21
PERCENTS = (50, 90)
BARE_PROCESS = """
import sys, numpy as np, onnxruntime as ort
options = ort.SessionOptions()
options.intra_op_num_threads = int(sys.argv[2])
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
image = session.get_inputs()[0]
kind = np.uint8 if "uint8" in image.type else np.float32
for size in (1, 64, 1, 64):  # As ardx does; the arena of the runtime keeps memory for each.
    session.run(None, {image.name: np.zeros((size, *image.shape[1:]), dtype=kind)})
print([l for l in open("/proc/self/status") if l.startswith("VmHWM")][0].split()[1])
"""


def by_turns(rivals: Mapping[str, Callable[[], T]]) -> dict[str, list[T]]:
    """What each rival found in each round; who begins changes from round to round."""
    names = list(rivals)
    found: dict[str, list[T]] = {name: [] for name in names}
    for index in range(ROUNDS):
        first = index % len(names)
        for name in names[first:] + names[:first]:
            found[name].append(rivals[name]())
    return found


def ratios(ours: list[float], theirs: list[float]) -> dict[str, float]:
    """Median, 10th and 90th percentile of one figure over another, round by round."""
    over = [one / other for one, other in zip(ours, theirs, strict=True)]
    low, high = np.quantile(over, (0.1, 0.9))
    return {"median": round(median(over), 4), "low": round(low, 4), "high": round(high, 4)}


def replay_throughput(
    backend: OrtBackend, session: Any, opened: AdversarialSet, options: BenchOptions, limit: int
) -> dict[str, Any]:
    """Images a second of the replay over those of a loop that is given prepared arrays."""
    images, labels = opened.images[:limit], opened.labels[:limit]
    prepared = prepare(np.asarray(images), backend.input, options)
    name, size = backend.input.name, options.batch_size

    def bare() -> float:
        begin = perf_counter()
        for at in range(0, len(prepared), size):
            session.run(None, {name: prepared[at : at + size]})
        return len(prepared) / (perf_counter() - begin)

    def ours() -> float:
        begin = perf_counter()
        correct_mask(backend, images, labels, opened.manifest.classes, options, "the set")
        return len(images) / (perf_counter() - begin)

    found = by_turns({"ours": ours, "bare": bare})
    batch_ms = 1e3 * size / median(found["bare"])
    extra_ms = median(1e3 * size * (1 / o - 1 / b) for o, b in zip(*found.values(), strict=True))
    return {
        "replay throughput over bare": ratios(found["ours"], found["bare"]),
        "bare batch, ms": round(batch_ms, 3),
        "the replay's share of a batch, ms": round(extra_ms, 3),
    }


def latency(
    backend: OrtBackend, session: Any, opened: AdversarialSet, options: BenchOptions
) -> dict[str, Any]:
    """p50 and p90 of ours over those of a bare loop and of the load generator."""
    image = prepare(np.asarray(opened.images[:1]), backend.input, options)
    name = backend.input.name

    def call() -> None:
        session.run(None, {name: image})

    def bare() -> Percentiles:
        samples = []
        for _ in range(calls):
            begin = perf_counter_ns()
            session.run(None, {name: image})
            samples.append(perf_counter_ns() - begin)
        return percentiles(samples)

    def ours() -> Percentiles:
        timed = measure(
            lambda: backend.infer(image),
            batch_size=1,
            warmup_runs=0,
            min_runs=calls,
            min_seconds=0,
        )
        return percentiles(timed.latency_ns)

    calls = 50
    calls = max(300, int(0.3e9 / bare()[50]))
    rivals: dict[str, Callable[[], Percentiles]] = {"ours": ours, "bare": bare}
    if find_spec("mlperf_loadgen"):
        rivals["loadgen"] = lambda: single_stream(call, calls)
    found = by_turns(rivals)
    figures: dict[str, Any] = {"calls": calls}
    for percent in PERCENTS:
        of = {name: [one[percent] for one in rounds] for name, rounds in found.items()}
        figures[f"p{percent} bare, ms"] = round(median(of["bare"]) / 1e6, 4)
        for rival in of.keys() - {"ours"}:
            figures[f"p{percent} over {rival}"] = ratios(of["ours"], of[rival])
    return figures


def percentiles(samples_ns: Sequence[int]) -> Percentiles:
    """p50 and p90 as ardx reports them: samples that were seen."""
    found = np.quantile(samples_ns, [p / 100 for p in PERCENTS], method="higher")
    return dict(zip(PERCENTS, map(float, found), strict=True))


def processes(model: Path, threads: int) -> dict[str, Any]:
    """Start of the command, and resident memory above that of a bare session."""
    ardx = [sys.executable, "-m", "edge_bench", "bench"]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        once = [
            *(*ardx, str(model), "--out", str(report), "--force", "--threads", str(threads)),
            *("--runs", "1", "--seconds", "0", "--warmup", "0", "--settle-seconds", "0"),
        ]
        found = by_turns({"help": seconds([*ardx, "--help"]), "first": seconds(once)})
        ours = json.loads(report.read_text(encoding="utf-8"))["peak_memory_bytes"]
    command = [sys.executable, "-c", BARE_PROCESS, str(model), str(threads)]
    bare = subprocess.run(command, check=True, capture_output=True, text=True)
    return {
        "help, s": round(median(found["help"]), 3),
        "whole run of one inference a timing, s": round(median(found["first"]), 3),
        "peak memory above a bare session, MB": round((ours - int(bare.stdout) * 1024) / 1e6, 1),
    }


def seconds(command: list[str]) -> Callable[[], float]:
    """A call that gives how long the command takes."""

    def timed() -> float:
        begin = perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return perf_counter() - begin

    return timed


def main(
    model: Annotated[Path, typer.Argument(help="ONNX classifier.")],
    set_folder: Annotated[Path, typer.Option("--set", help="Adversarial set to replay.")],
    threads: Annotated[int, typer.Option(help="Runtime threads.")] = 1,
    limit: Annotated[int, typer.Option(help="Images of the set.")] = 2048,
) -> None:
    """Print what the harness costs on this artefact."""
    opened = open_set(set_folder)
    options = BenchOptions(threads=threads)
    with OrtBackend(model, threads) as backend:
        # The same session: another one's memory lies elsewhere, which alone is worth 5 percent.
        session = backend._session
        line = {
            "model": model.name,
            "threads": threads,
            **replay_throughput(backend, session, opened, options, limit),
            **latency(backend, session, opened, options),
            **processes(model, threads),
            "commit": commit(),
            "machine": machine(),
            "onnxruntime": backend.info.version,
        }
    print(json.dumps(line))


if __name__ == "__main__":
    typer.run(main)
