"""The command `bench`: the run, the tables and the verdict. The rest of it is in `benching`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from edge_bench.commands.benching.asked import (
    Asked,
    bench_options,
    require_host,
    square_of,
    warn_of_saturation,
    with_bundled_engine,
)
from edge_bench.commands.benching.explain import explain_here, require_probe
from edge_bench.commands.benching.flags import BenchFlags
from edge_bench.commands.gate import print_verdict, verdict
from edge_bench.core.errors import EXIT_GATE_FAILED, EXIT_PASS
from edge_bench.terminal.console import print_json, print_table, progress, say, say_aside, warn
from edge_bench.terminal.flags import command

if TYPE_CHECKING:
    from edge_bench.core.gate import Gate, Violation
    from edge_bench.core.spec import Report
    from edge_bench.files.unpack import Unpacked
    from edge_bench.policy.baseline import Baseline


SETTINGS = {"allow_extra_args": True}
"""Of the command line: `--sweep threads=1,2 batch=1,8` has a word that is no option's value."""


def run_bench(flags: BenchFlags) -> None:
    """Replay adversarial sets and time the artefact on this device.

    Example: ardx bench student.onnx --sets sets/ --device local --backend ort --out report.json

    Example: ardx bench student.onnx --sets sets/ --attack square --queries 5000 --epsilon 8/255

    Example: ardx bench student.onnx --sets sets/ --attack rays --queries 2000

    Example: ardx bench student-int8.onnx --sets sets/ --backend trt --workspace-mib 512

    Example: ardx bench student-int8.onnx --sets sets/ --backend all --out report.json

    Example: ardx bench student-int8.onnx --pictures photos/ --pipeline opencv --out report.json

    Example: ardx bench student.ardx --out report.json

    Example: ardx bench student.onnx --scenario multi-stream --sweep threads=1,2,4 batch=1,8

    Example: ardx bench student-int8.onnx --backend openvino --explain --out report.json

    Example: ardx bench student.ardx --device rpi --host pi@board --host pi@other --out report.json

    A run that was stopped goes on where it was when the same command is given again.
    """
    from edge_bench.files.sets import open_sets
    from edge_bench.policy.baseline import read_baseline

    _refuse_what_does_not_fit(flags)
    options, square = bench_options(flags), square_of(flags.square)
    with _parts(flags.model, flags.sets) as parts:
        if flags.engine.bundled_engine:
            options = with_bundled_engine(options, parts.engines, flags.model)
        asked = Asked(
            parts=parts,
            path=_told_as(flags.model, parts),
            sets=open_sets(parts.sets) if parts.sets else [],
            options=options,
            square=square,
            out=flags.out,
            force=flags.force,
            json_summary=flags.json_summary,
        )
        old = read_baseline(parts.baseline) if parts.baseline else None
        if flags.there.host:
            from edge_bench.commands.benching.remote import bench_remote

            report, summary, code = bench_remote(flags.context, asked, old)
        else:
            report, summary, code = _bench_here(asked, flags.explain)
    violations = _judge(flags, report, summary, parts.gate, old)
    if violations or code:
        raise typer.Exit(EXIT_GATE_FAILED if violations else code)


bench = command("bench", BenchFlags, run_bench)


def _refuse_what_does_not_fit(flags: BenchFlags) -> None:
    """Refuse options, files that exist and strangers' bundles before anything is run."""
    from edge_bench.files.store import refuse_existing_file

    require_host(flags.there)
    _refuse_what_is_read(flags)
    if not flags.there.host:
        refuse_existing_file(flags.out, flags.force)
    require_probe(flags)
    _require_signed(flags)


def _refuse_what_is_read(flags: BenchFlags) -> None:
    """With --force a report would take the place of the artefact, or of what lies beside it."""
    from edge_bench.backends.engine_cache import record_path
    from edge_bench.backends.registry import BACKENDS
    from edge_bench.core.errors import InputError
    from edge_bench.explain.probe_file import reference_path
    from edge_bench.files.bundle import is_bundle
    from edge_bench.files.code.own_function import names_function
    from edge_bench.files.external_data import model_files
    from edge_bench.files.fingerprint import fingerprint_path
    from edge_bench.files.kinds import Kind, kind_of
    from edge_bench.files.sets import set_files
    from edge_bench.files.store import refuse_read
    from edge_bench.runs.every_backend import ALL, report_path

    model, outs = flags.model, [flags.out]
    if flags.backend == ALL:
        outs += [report_path(flags.out, name) for name in (*BACKENDS, ALL)]
    if not any(map(Path.exists, outs)):
        return  # What is read is there.
    read = [model, *(set_files(flags.sets) if flags.sets else ())]
    read += [flags.signers] if flags.signers else []
    pictures, pipeline = flags.shown.pictures, flags.shown.pipeline or ""
    if names_function(pipeline):
        module = f"{pipeline.partition(':')[0].replace('.', '/')}.py"
        read += [Path(folder, module) for folder in sys.path]
    if model.is_file() and not is_bundle(model):
        read += [*model_files(model), fingerprint_path(model), reference_path(model)]
    if kind_of(model) is Kind.ENGINE:
        read.append(record_path(model))
    for out in outs:
        refuse_read("--out", out, read)
        if pictures is not None and out.resolve().is_relative_to(pictures.resolve()):
            raise InputError(
                f"--out {out}: expected a file beside the pictures, came one of --pictures "
                f"{pictures}; name another"
            )


def _require_signed(flags: BenchFlags) -> None:
    """Before anything of the bundle is unpacked, run, or sent to another machine."""
    from edge_bench.core.errors import InputError
    from edge_bench.files.bundle import is_bundle
    from edge_bench.signing.openssh import verify

    if flags.signers is None:
        return
    if not is_bundle(flags.model):
        raise InputError(
            f"--signers: expected a bundle (.ardx), which carries all that is run, came "
            f"{flags.model}; pack it with ardx bundle --sign"
        )
    say_aside(f"{flags.model}: signed by {verify(flags.model, flags.signers)}")


def _told_as(model: Path, parts: Unpacked) -> str:
    """How sentences name the artefact."""
    return str(model) if parts.model == model else f"{model}: {parts.model.name}"


@contextmanager
def _parts(model: Path, sets: Path | None) -> Iterator[Unpacked]:
    """What `bench` runs: a model and the options beside it, or what a bundle brings."""
    from edge_bench.core.errors import InputError
    from edge_bench.files.bundle import is_bundle
    from edge_bench.files.unpack import Unpacked, unpacked

    if not is_bundle(model):
        yield Unpacked(model=model, sets=sets, gate=None, baseline=None)
        return
    with unpacked(model) as parts:
        if parts.sets and sets:
            raise InputError(f"--sets {sets}: {model} brings its own sets; leave --sets out")
        yield replace(parts, sets=parts.sets or sets)


def _bench_here(asked: Asked, explained: bool) -> tuple[Report, dict[str, Any], int]:
    """Run, write and warn; give the report, its summary and the exit code."""
    from edge_bench.files.journal import Journal
    from edge_bench.files.report_file import write_report
    from edge_bench.files.seals.graph import is_sealed
    from edge_bench.files.store import public_artifact
    from edge_bench.report.doubts import doubts_in
    from edge_bench.report.summary import summarise
    from edge_bench.runs.one_run import run

    parts, options, out = asked.parts, asked.options, asked.out
    with Journal(out) as journal:
        if options.backend == "all":
            from edge_bench.commands.benching.every_backend import bench_all

            ended = bench_all(asked)
        else:
            warn_of_saturation(parts.model, [options.backend])
            with progress("bench") as report_progress:
                report = run(
                    parts.model, asked.sets, options, report_progress, asked.square, journal=journal
                )
            report = replace(
                report, artifact=replace(report.artifact, path=public_artifact(asked.path))
            )
            write_report(out, report, asked.force)
            for sentence in doubts_in(report):
                warn(sentence)
            if report.fingerprint is None and not is_sealed(parts.model):
                say_aside(
                    f"note: {asked.path}: neither a hash inside nor a fingerprint beside it "
                    "vouches for its content, so damage to it would go unseen; ardx export writes "
                    "both"
                )
            ended = report, summarise(report) | {"report": str(out)}, EXIT_PASS
        journal.close_for(out)
    if explained:
        report, summary, code = ended
        return report, summary | explain_here(asked), code
    return ended


def _judge(
    flags: BenchFlags,
    report: Report,
    summary: dict[str, Any],
    gate: Gate | None,
    old: Baseline | None,
) -> list[Violation]:
    """Tell what was measured, then what the conditions of a bundle find in it.

    Raises:
        InconclusiveError: the conditions cannot be decided; what was measured is told all the same.
    """
    from edge_bench.policy.gate import check

    violations: list[Violation] = []
    try:
        if gate:
            violations = check(report, gate, old)
            summary |= {"gate": verdict(violations)}
    finally:
        if flags.json_summary:
            print_json(summary)
        else:
            _print_report(report, flags.out)
    if gate and not flags.json_summary:
        print_verdict(violations)
    return violations


def _print_report(report: Report, out: Path) -> None:
    """The tables, where people read."""
    from edge_bench.report.device_summary import device_rows
    from edge_bench.report.path import PATH_HEADER, path_rows
    from edge_bench.report.summary import (
        COMPARED_HEADER,
        SWEEP_HEADER,
        accuracy_rows,
        compared_rows,
        performance_rows,
        sweep_rows,
    )

    if rows := accuracy_rows(report):
        print_table("accuracy", ["images", "threat", "accuracy", "95% interval", "n"], rows)
    if rows := compared_rows(report):
        print_table("beside the parent", COMPARED_HEADER, rows)
    if rows := path_rows(report):
        print_table("from file to logits", PATH_HEADER, rows)
    print_table("performance", ["figure", "value"], performance_rows(report))
    if rows := device_rows(report):
        print_table("device", ["figure", "value"], rows)
    if rows := sweep_rows(report):
        print_table("sweep", SWEEP_HEADER, rows)
    say(f"report: {out}")
