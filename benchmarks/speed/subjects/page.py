"""How long gate, compare and the report's page take on reports of many images."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.replay.memory import make_model, make_set
from benchmarks.speed.finding import Asked, Case, Finding, alone
from benchmarks.speed.turns import by_turns, command, python
from edge_bench.core.series import encode_series
from edge_bench.core.spec import Report
from edge_bench.files.report_file import read_report, write_report
from edge_bench.statistics.metrics import encode_mask

TITLE = "Page, compare and gate"
SECONDS = 26.0
ABOUT = """Seconds of the whole command, start of Python included, on reports of drawn answers
under two attacks and 2,000 latencies; the gate has a policy of four conditions and a baseline, the
page no pictures."""
LEFT = """cProfile: a gate on two reports of 1,000,000 images takes 0.5 s of processor, of which
0.35 are the start; the rest reads two JSON texts of 5 MB, checks masks and digests, and reads
their labels. `compare` adds lists of the 230,000 samples that changed, for each attack."""

CALLS = 2_000
POLICY = """confidence = 0.95
critical = ["worst_case >= 10%", "drop(worst_case) <= 3%", "class:* >= 1%", "latency_p95_ms <= 30"]
"""
COMMANDS = {
    "gate": (("gate", "new.json", "--policy", "gate.toml", "--baseline", "old.json"), 0.5),
    "compare": (("compare", "old.json", "new.json"), 1.0),
    "report": (("report", "new.json", "--html", "page.html"), 5.0),
}
"""What is asked, and the seconds that it may take."""
DECIDED = (0, 1, 4)
SIZES = (10_000, 1_000_000)


def cases(asked: Asked) -> dict[str, Case]:
    """A case for each number of images."""
    sizes = (1_000,) if asked.quick else SIZES
    return {f"{size:,} images": partial(measured, size, asked.turns) for size in sizes}


def measured(images: int, turns: int) -> list[Finding]:
    """Seconds of each command on two reports of so many images."""
    found = timed(images, turns)
    return [
        alone(
            [took for took, _ in runs],
            rival=f"`{name}`",
            bar=COMMANDS[name][1],
            note=f"{max(peak for _, peak in runs):.0f} MiB",
        )
        for name, runs in found.items()
    ]


def timed(images: int, turns: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds and MiB of each command, in each turn."""
    with reports(images) as folder:
        return by_turns(
            {
                name: partial(command, python("-m", "edge_bench", *words), folder, DECIDED)
                for name, (words, _) in COMMANDS.items()
            },
            turns,
        )


@contextmanager
def reports(images: int) -> Iterator[Path]:
    """A folder with old.json, new.json and gate.toml."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = _benchmarked(folder)
        for seed, file in enumerate(("old.json", "new.json")):
            write_report(folder / file, drawn(source, images, seed), force=True)
        (folder / "gate.toml").write_text(POLICY, encoding="utf-8")
        yield folder


def _benchmarked(folder: Path) -> Report:
    """A report of this machine: what it is of does not matter, since its figures are replaced."""
    model, made = make_model(folder / "linear.onnx"), make_set(folder / "zeros", 64)
    out = folder / "source.json"
    quick = ("--threads", "1", "--seconds", "0", "--runs", "1", "--settle-seconds", "0")
    words = ("bench", str(model), "--sets", str(made), "--out", str(out), *quick)
    command(python("-m", "edge_bench", *words), folder)
    return read_report(out)


def drawn(report: Report, images: int, seed: int) -> Report:
    """The report with drawn figures; two attacks, whatever it had."""
    generator = np.random.default_rng(seed)
    result = replace(report.sets[0], answers=None)
    manifest = replace(result.manifest, samples=images)
    masks = [encode_mask(generator.random(images) < rate) for rate in (0.9, 0.5, 0.5)]
    calls = 1e6 * (1 + generator.exponential(size=CALLS))
    return replace(
        report,
        clean_mask=masks[0],
        clean_answers=None,
        labels=encode_series(i % manifest.classes for i in range(images)),
        sets=tuple(
            replace(result, name=name, manifest=manifest, mask=mask)
            for name, mask in zip(("a", "b"), masks[1:], strict=True)
        ),
        latency=replace(report.latency, latency_ns=tuple(int(call) for call in calls)),
        content_sha256=None,
    )
