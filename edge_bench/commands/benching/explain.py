"""`bench --explain` for people: the layers of the artefact here, and the first that departs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_bench.core.errors import InputError
from edge_bench.terminal.console import print_table, say

if TYPE_CHECKING:
    from edge_bench.commands.benching.asked import Asked
    from edge_bench.commands.benching.flags import BenchFlags


def explanation_path(report: Path) -> Path:
    """Where the explanation lies that belongs to a report."""
    return report.with_name(f"{report.stem}.explain.json")


def require_probe(flags: BenchFlags) -> None:
    """Refuse what cannot be explained before anything is measured."""
    from edge_bench.backends.registry import BACKENDS
    from edge_bench.explain import departures
    from edge_bench.files.bundle import is_bundle
    from edge_bench.files.store import refuse_existing_file

    if not flags.explain:
        return
    if flags.there.host or flags.backend == "all":
        option = "--host" if flags.there.host else "--backend all"
        raise InputError(
            f"--explain with {option}: is of one runtime on the machine where it is typed; give it "
            "there, with the runtime's name"
        )
    if is_bundle(flags.model):
        raise InputError(
            f"--explain: {flags.model} is a bundle, which brings no probe; give the artefact "
            "beside which ardx export --probe wrote one"
        )
    if BACKENDS[flags.backend].builds:
        shown = ", ".join(name for name, entry in BACKENDS.items() if not entry.builds)
        raise InputError(
            f"--explain with --backend {flags.backend}: an engine of TensorRT shows no layers; "
            f"give one of {shown}"
        )
    departures.require_probe(flags.model)
    refuse_existing_file(explanation_path(flags.out), flags.force)


def explain_here(asked: Asked) -> dict[str, Any]:
    """Run the probe, write what came of it beside the report, and tell it; for the summary."""
    from edge_bench.explain import told
    from edge_bench.explain.departures import explain
    from edge_bench.files.store import write_json

    found, out = explain(asked.parts.model, asked.options), explanation_path(asked.out)
    write_json(out, found, asked.force)
    if not asked.json_summary:
        print_table(f"layers, {found.images} images", told.HEADER, told.rows(found))
        say(told.sentence(found))
        say(f"explanation: {out}")
    first = found.first
    return {
        "explanation": str(out),
        "departs_first": None if first is None else first.layer,
        "explained": told.sentence(found),
    }
