"""`ardx`: the root command line. torch is imported inside command bodies only, so that the
device's commands and `--help` work, and start fast, where there is none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ard.commands import adopt, attack, evaluate, export, learn, teachers
from ard.commands import flags as o
from edge_bench.commands import attest as evidence
from edge_bench.commands import bench, bundle, compare, engine, gate, init, report, trend
from edge_bench.core.version import __version__
from edge_bench.terminal.console import Stages, print_json, print_table, progress, put, say


class AllStages(Stages):
    """The stages, and those of them that run below torchrun."""

    shared = frozenset({"teach", "distill", "evaluate", "attack"})


app = typer.Typer(
    cls=AllStages,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Small vision models that stay accurate under attack after compression, on the board "
    "where they run.\n\nteach -> distill -> evaluate -> export -> attack -> bundle -> bench -> "
    "gate",
)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Handle the options that belong to no stage."""
    if version:
        say(f"ardx {__version__}")
        raise typer.Exit


def demo(
    out: o.Out = Path("demo"),
    dataset: Annotated[str, typer.Option(help="Dataset to show it on.")] = "digits",
    seed: o.Seed = 0,
    force: o.Force = False,
    json_summary: o.Json = False,
) -> None:
    """The whole chain on scikit-learn's digits, without a download, in a few minutes.

    Example: ardx demo --out demo
    """
    from ard.commands.cores import warn_of_shared_cores
    from ard.commands.demo import HEADER, run_demo, table_rows
    from edge_bench.files.store import refuse_existing

    refuse_existing(out, force)
    warn_of_shared_cores()
    result = run_demo(out, dataset, seed=seed, force=force, monitor=progress)
    if json_summary:
        print_json(result.as_json())
        return
    print_table(f"{dataset}, L-inf {result.epsilon:g}", HEADER, table_rows(result))
    put(result.footnote)
    for sentence in result.gate_sentences:
        say(f"gate: {sentence}")
    say("gate: failed" if result.gate_sentences else "gate: passed")
    say(f"files: {out}/ (weights, student.onnx, student-int8.onnx, sets/, reports/)")


def doctor(json_summary: o.Json = False) -> None:
    """What this environment can and cannot do, and the command that mends it.

    Example: ardx doctor
    """
    from ard.commands.doctor import examine

    findings = examine()
    if json_summary:
        print_json({f.capability.strip(): {"found": f.found, "mend": f.mend} for f in findings})
        return
    rows = [[f.capability, f.found or "no", f.mend or "-"] for f in findings]
    print_table("this environment", ["capability", "found", "to get it"], rows)


for name, command in (
    ("teach", learn.teach),
    ("teachers", teachers.teachers),
    ("adopt", adopt.adopt),
    ("distill", learn.distill),
    ("evaluate", evaluate.evaluate),
    ("export", export.export_command),
    ("attack", attack.attack),
    ("engine", engine.engine),
    ("bundle", bundle.bundle),
    ("bench", bench.bench),
    ("gate", gate.gate),
    ("compare", compare.compare),
    ("report", report.report),
    ("attest", evidence.attest),
    ("verify", evidence.verify_command),
    ("trend", trend.trend),
    ("init", init.init),
    ("demo", demo),
    ("recipes", learn.recipes),
    ("doctor", doctor),
):
    settings = bench.SETTINGS if name == "bench" else None
    app.command(name, context_settings=settings)(command)
