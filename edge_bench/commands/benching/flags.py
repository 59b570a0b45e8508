"""The options of `bench`, by what they are about."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from edge_bench.backends.registry import BACKENDS
from edge_bench.core.pictures.walked import CARD
from edge_bench.devices import DEVICES
from edge_bench.pictures.pipelines import PIPELINES
from edge_bench.terminal.flags import Force, Json


@dataclass(frozen=True, kw_only=True)
class TimingFlags:
    """What is timed, and for how long."""

    warmup: Annotated[int, typer.Option(help="Least number of runs dropped before timing.")] = 20
    settle_seconds: Annotated[
        float, typer.Option(help="The warm-up goes on this long for latency to settle.")
    ] = 5.0
    runs: Annotated[int, typer.Option(help="Least number of timed runs.")] = 300
    seconds: Annotated[float, typer.Option(help="Least time of each timing.")] = 2.0
    scenario: Annotated[
        list[str] | None,
        typer.Option(
            help="Time this, too: multi-stream (a query of --streams images), offline (over "
            "--batches); single-stream and offline of --batch-size are always timed."
        ),
    ] = None
    streams: Annotated[
        int | None, typer.Option(help="Images of a query of multi-stream; default: 8.")
    ] = None
    batches: Annotated[
        str | None,
        typer.Option(help="Batch sizes of offline: 1,8,32; default: 1, 2, 4 to --batch-size."),
    ] = None
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            help="Time every combination of settings, too: threads=1,2,4 batch=1,8 "
            "affinity=0,0-1,0+2."
        ),
    ] = None
    soak: Annotated[
        float, typer.Option(help="Go on with single-stream for this many minutes; tell its drift.")
    ] = 0.0
    idle_seconds: Annotated[
        float, typer.Option(help="Idle power is measured this long first, where a sensor tells it.")
    ] = 5.0


@dataclass(frozen=True, kw_only=True)
class SquareFlags:
    """The attack on the spot, without gradients."""

    attack: Annotated[
        str | None,
        typer.Option(
            help="Attack the images of --sets here, by this artefact's scores alone (square) or by "
            "the class that it answers alone (rays). Only samples that stood everything before are "
            "attacked, so its accuracy is the worst case."
        ),
    ] = None
    queries: Annotated[
        int | None, typer.Option(help="--attack: queries a sample; default: 5000.")
    ] = None
    epsilon: Annotated[
        str | None, typer.Option(help="--attack: L-inf budget; default: that of the sets.")
    ] = None
    seed: Annotated[int | None, typer.Option(help="--attack square: seed; default: 0.")] = None
    attack_all: Annotated[
        bool,
        typer.Option(
            "--attack-all",
            help="Attack all samples right on their clean image: the attack's own accuracy.",
        ),
    ] = False


@dataclass(frozen=True, kw_only=True)
class PictureFlags:
    """Pictures in their files, as a product gets them."""

    pictures: Annotated[
        Path | None,
        typer.Option(
            help="Pictures in one folder per class: decode, resize and convert each here, tell "
            "accuracy, latency of each stage and energy from file to logits. With --host: an "
            "absolute path there."
        ),
    ] = None
    pipeline: Annotated[
        str | None,
        typer.Option(
            help="--pictures: how the product makes images of them. "
            + "; ".join(f"{name}: {each.text}" for name, each in PIPELINES.items())
            + "; or MODULE:FUNCTION of yours, from a path to the model's input or to (height, "
            f"width, 3) uint8. What another than {CARD} does to accuracy is told as path gap."
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class EngineFlags:
    """How TensorRT builds its engine."""

    workspace_mib: Annotated[
        int | None, typer.Option(help="trt, trt-rtx: most GPU memory for a kernel's workspace.")
    ] = None
    tuned_batch: Annotated[
        int | None,
        typer.Option(help="trt, trt-rtx: batch that kernels are chosen for; default: 1."),
    ] = None
    engine_cache: Annotated[
        Path | None,
        typer.Option(help="trt, trt-rtx: folder of engines; default: ~/.cache/ardx/engines."),
    ] = None
    bundled_engine: Annotated[
        bool,
        typer.Option(
            "--bundled-engine",
            help="trt-rtx: run the engine that the bundle brings, not one built here. An engine is "
            "program code: only where you trust who packed it.",
        ),
    ] = False


@dataclass(frozen=True, kw_only=True)
class HostFlags:
    """Another machine, on which the benchmark runs."""

    host: Annotated[
        list[str] | None,
        typer.Option(
            help="Benchmark there, over your own ssh (pi@board, or a name in your config); several "
            "make a fleet, with a report each. It runs on if the connection breaks, and the same "
            "command finds it again. Only the environment in ~/.cache/ardx/remote stays there."
        ),
    ] = None
    wheels: Annotated[
        Path | None,
        typer.Option(help="--host: folder of wheels, for a board that has no network."),
    ] = None
    remote_python: Annotated[
        str | None, typer.Option(help="--host: Python there, 3.10 or newer; default: python3.")
    ] = None
    ssh_config: Annotated[
        Path | None, typer.Option(help="--host: ssh's config file; default: your own.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class BenchFlags:
    """All of them, in the order in which help shows them."""

    context: typer.Context
    model: Annotated[
        Path, typer.Argument(help="ONNX classifier (or its TensorRT engine), or a bundle (.ardx).")
    ]
    sets: Annotated[
        Path | None, typer.Option(help="Adversarial set, or a folder of them, to replay.")
    ] = None
    signers: Annotated[
        Path | None,
        typer.Option(help="Refuse a bundle that none of these allowed signers signed."),
    ] = None
    device: Annotated[str, typer.Option(help=f"auto, {', '.join(DEVICES)}.")] = "auto"
    backend: Annotated[
        str,
        typer.Option(
            help=f"Runtime: {', '.join(BACKENDS)}; or all here, "
            "with a report each (--out with its name) and that of the fastest in --out."
        ),
    ] = "ort"
    out: Annotated[Path, typer.Option(help="Report to write.")] = Path("report.json")
    threads: Annotated[int | None, typer.Option(help="Runtime threads.")] = None
    batch_size: Annotated[int, typer.Option(help="Batch of replay and throughput.")] = 64
    timing: TimingFlags
    output: Annotated[
        str | None,
        typer.Option(help="Output of the graph that gives the logits, where several could."),
    ] = None
    mean: Annotated[
        str | None,
        typer.Option(help="Channel means, for graphs of others without their own: 0.5,0.5,0.5."),
    ] = None
    std: Annotated[str | None, typer.Option(help="Channel deviations, like --mean.")] = None
    square: SquareFlags
    shown: PictureFlags
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Say at which layer this runtime departs from the one that validated the "
            "artefact, by the probe of `ardx export --probe` beside it; in OUT.explain.json, too.",
        ),
    ] = False
    engine: EngineFlags
    there: HostFlags
    force: Force = False
    json_summary: Json = False
