"""The command `bench`: its options, the run, the tables and the verdict."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_bench.commands.bench_values import (
    engine_of,
    floats_of,
    require_host,
    scenarios_of,
    square_of,
    sweep_words,
    with_bundled_engine,
)
from edge_bench.commands.gate import Force, Json, print_verdict, verdict
from edge_bench.console import print_json, print_table, progress, warn
from edge_bench.errors import EXIT_GATE_FAILED, EXIT_PASS

if TYPE_CHECKING:
    from edge_bench.bench_options import BenchOptions
    from edge_bench.black_box import SquareOptions
    from edge_bench.sets import AdversarialSet
    from edge_bench.spec import Report
    from edge_bench.unpack import Unpacked


SETTINGS = {"allow_extra_args": True}
"""Of the command line: `--sweep threads=1,2 batch=1,8` has a word that is no option's value."""


def bench(
    context: typer.Context,
    model: Annotated[
        Path, typer.Argument(help="ONNX classifier (or its TensorRT engine), or a bundle (.ardx).")
    ],
    sets: Annotated[
        Path | None, typer.Option(help="Adversarial set, or a folder of them, to replay.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, local, jetson or rpi.")] = "auto",
    backend: Annotated[
        str,
        typer.Option(
            help="Runtime: ort, openvino, trt, trt-rtx, ort-cuda, ort-tensorrt; or all here, "
            "with a report each (--out with its name) and that of the fastest in --out."
        ),
    ] = "ort",
    out: Annotated[Path, typer.Option(help="Report to write.")] = Path("report.json"),
    threads: Annotated[int | None, typer.Option(help="Runtime threads.")] = None,
    batch_size: Annotated[int, typer.Option(help="Batch of replay and throughput.")] = 64,
    warmup: Annotated[int, typer.Option(help="Least number of runs dropped before timing.")] = 20,
    settle_seconds: Annotated[
        float, typer.Option(help="The warm-up goes on this long for latency to settle.")
    ] = 5.0,
    runs: Annotated[int, typer.Option(help="Least number of timed runs.")] = 300,
    seconds: Annotated[float, typer.Option(help="Least time of each timing.")] = 2.0,
    scenario: Annotated[
        list[str] | None,
        typer.Option(
            help="Time this, too: multi-stream (a query of --streams images), offline (over "
            "--batches); single-stream and offline of --batch-size are always timed."
        ),
    ] = None,
    streams: Annotated[
        int | None, typer.Option(help="Images of a query of multi-stream; default: 8.")
    ] = None,
    batches: Annotated[
        str | None,
        typer.Option(help="Batch sizes of offline: 1,8,32; default: 1, 2, 4 to --batch-size."),
    ] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            help="Time every combination of settings, too: threads=1,2,4 batch=1,8 "
            "affinity=0,0-1,0+2."
        ),
    ] = None,
    soak: Annotated[
        float, typer.Option(help="Go on with single-stream for this many minutes; tell its drift.")
    ] = 0.0,
    idle_seconds: Annotated[
        float, typer.Option(help="Idle power is measured this long first, where a sensor tells it.")
    ] = 5.0,
    mean: Annotated[
        str | None, typer.Option(help="Channel means, for graphs without their own: 0.5,0.5,0.5.")
    ] = None,
    std: Annotated[str | None, typer.Option(help="Channel deviations, like --mean.")] = None,
    attack: Annotated[
        str | None,
        typer.Option(
            help="square: attack the images of --sets by this artefact's scores alone. Only "
            "samples that stood everything before are attacked, so its accuracy is the worst case."
        ),
    ] = None,
    queries: Annotated[
        int | None, typer.Option(help="Square's queries a sample; default: 5000.")
    ] = None,
    epsilon: Annotated[
        str | None, typer.Option(help="Square's L-inf budget; default: that of the sets.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of Square; default: 0.")] = None,
    attack_all: Annotated[
        bool,
        typer.Option(
            "--attack-all",
            help="Attack all samples right on their clean image: Square's own accuracy.",
        ),
    ] = False,
    workspace_mib: Annotated[
        int | None, typer.Option(help="trt, trt-rtx: most GPU memory for a kernel's workspace.")
    ] = None,
    tuned_batch: Annotated[
        int | None,
        typer.Option(help="trt, trt-rtx: batch that kernels are chosen for; default: 1."),
    ] = None,
    engine_cache: Annotated[
        Path | None,
        typer.Option(help="trt, trt-rtx: folder of engines; default: ~/.cache/ardx/engines."),
    ] = None,
    bundled_engine: Annotated[
        bool,
        typer.Option(
            "--bundled-engine",
            help="trt-rtx: run the engine that the bundle brings, not one built here. An engine is "
            "program code: only where you trust who packed it.",
        ),
    ] = False,
    host: Annotated[
        list[str] | None,
        typer.Option(
            help="Benchmark there, over your own ssh (pi@board, or a name in your config); several "
            "make a fleet, with a report each. It runs on if the connection breaks, and the same "
            "command finds it again. Only the environment in ~/.cache/ardx/remote stays there."
        ),
    ] = None,
    wheels: Annotated[
        Path | None,
        typer.Option(help="--host: folder of wheels, for a board that has no network."),
    ] = None,
    remote_python: Annotated[
        str | None, typer.Option(help="--host: Python there, 3.10 or newer; default: python3.")
    ] = None,
    ssh_config: Annotated[
        Path | None, typer.Option(help="--host: ssh's config file; default: your own.")
    ] = None,
    force: Force = False,
    json_summary: Json = False,
) -> None:
    """Replay adversarial sets and time the artefact on this device.

    Example: ardx bench student.onnx --sets sets/ --device local --backend ort --out report.json

    Example: ardx bench student.onnx --sets sets/ --attack square --queries 5000 --epsilon 8/255

    Example: ardx bench student-int8.onnx --sets sets/ --backend trt --workspace-mib 512

    Example: ardx bench student-int8.onnx --sets sets/ --backend all --out report.json

    Example: ardx bench student.ardx --out report.json

    Example: ardx bench student.onnx --scenario multi-stream --sweep threads=1,2,4 batch=1,8

    Example: ardx bench student.ardx --device rpi --host pi@board --host pi@other --out report.json

    A run that was stopped goes on where it was when the same command is given again.
    """
    from edge_bench.bench_options import BenchOptions
    from edge_bench.report.device_summary import device_rows
    from edge_bench.report.gate import check
    from edge_bench.report.summary import (
        SWEEP_HEADER,
        accuracy_rows,
        performance_rows,
        sweep_rows,
    )
    from edge_bench.sets import open_sets
    from edge_bench.spec import Report
    from edge_bench.store import read_json, refuse_existing_file
    from edge_bench.timing.setting import read_sweep

    require_host(host, wheels, remote_python, ssh_config)
    if not host:
        refuse_existing_file(out, force)
    options = BenchOptions(
        device=device,
        backend=backend,
        threads=threads,
        batch_size=batch_size,
        warmup_runs=warmup,
        min_runs=runs,
        min_seconds=seconds,
        settle_seconds=settle_seconds,
        **scenarios_of(scenario or [], streams, batches),
        sweep=read_sweep(sweep_words(context, sweep)),
        soak_minutes=soak,
        idle_seconds=idle_seconds,
        mean=floats_of(mean, "--mean"),
        std=floats_of(std, "--std"),
        engine=engine_of(backend, batch_size, workspace_mib, tuned_batch, engine_cache),
    )
    square = square_of(attack, queries, epsilon, seed, attack_all)
    with _parts(model, sets) as parts:
        if bundled_engine:
            options = with_bundled_engine(options, parts.engines, model)
        opened = open_sets(parts.sets) if parts.sets else []
        old = read_json(parts.baseline, Report, "a report") if parts.baseline else None
        # A folder that is gone tomorrow is nobody's path.
        path = str(model) if parts.model == model else f"{model}: {parts.model.name}"
        if host:
            from edge_bench.commands.bench_remote import bench_remote

            report, summary, code = bench_remote(context, parts, path, old)
        else:
            report, summary, code = _bench_here(
                parts, path, opened, options, square, out, force, json_summary
            )
    if not json_summary:
        if rows := accuracy_rows(report):
            print_table("accuracy", ["images", "threat", "accuracy", "95% interval", "n"], rows)
        print_table("performance", ["figure", "value"], performance_rows(report))
        if rows := device_rows(report):
            print_table("device", ["figure", "value"], rows)
        if rows := sweep_rows(report):
            print_table("sweep", SWEEP_HEADER, rows)
        print(f"report: {out}")
    violations = check(report, parts.gate, old) if parts.gate else []
    if json_summary:
        print_json(summary | ({"gate": verdict(violations)} if parts.gate else {}))
    elif parts.gate:
        print_verdict(violations)
    if violations:
        raise typer.Exit(EXIT_GATE_FAILED)
    if code:
        raise typer.Exit(code)


@contextmanager
def _parts(model: Path, sets: Path | None) -> Iterator[Unpacked]:
    """What `bench` runs: a model and the options beside it, or what a bundle brings."""
    from edge_bench.bundle import is_bundle
    from edge_bench.errors import InputError
    from edge_bench.unpack import Unpacked, unpacked

    if not is_bundle(model):
        yield Unpacked(model=model, sets=sets, gate=None, baseline=None)
        return
    with unpacked(model) as parts:
        if parts.sets and sets:
            raise InputError(f"--sets {sets}: {model} brings its own sets; leave --sets out")
        yield replace(parts, sets=parts.sets or sets)


def _bench_here(
    parts: Unpacked,
    path: str,
    sets: list[AdversarialSet],
    options: BenchOptions,
    square: SquareOptions | None,
    out: Path,
    force: bool,
    json_summary: bool,
) -> tuple[Report, dict[str, Any], int]:
    """Run, write and warn; give the report, its summary and the exit code."""
    from edge_bench.bench import run
    from edge_bench.journal import Journal
    from edge_bench.report.doubts import doubts_about
    from edge_bench.report.summary import summarise
    from edge_bench.store import write_json

    with Journal(out) as journal:
        if options.backend == "all":
            from edge_bench.commands.bench_all import bench_all

            ended = bench_all(parts, path, sets, options, square, out, force, json_summary)
        else:
            with progress("bench") as report_progress:
                report = run(parts.model, sets, options, report_progress, square, journal=journal)
            report = replace(report, artifact=replace(report.artifact, path=path))
            write_json(out, report, force)
            for sentence in doubts_about(report, sets):
                warn(sentence)
            ended = report, summarise(report) | {"report": str(out)}, EXIT_PASS
        journal.close_for(out)
    return ended
