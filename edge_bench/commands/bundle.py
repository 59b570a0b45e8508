"""The command `bundle`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from edge_bench.commands.console import print_json, progress
from edge_bench.commands.flags import Force, Json, command
from edge_bench.commands.gate import ConditionFlags


@dataclass(frozen=True, kw_only=True)
class BundleFlags:
    """The options of `bundle`."""

    model: Annotated[Path, typer.Argument(help="ONNX classifier with one image input.")]
    out: Annotated[Path, typer.Option(help="Bundle to write (.ardx).")]
    sets: Annotated[
        Path | None, typer.Option(help="Adversarial set, or a folder of them, to replay there.")
    ] = None
    gate_file: Annotated[
        Path | None,
        typer.Option(
            "--gate", help="TOML with conditions (min_robust_accuracy = 0.45); options win over it."
        ),
    ] = None
    held_to: ConditionFlags
    force: Force = False
    json_summary: Json = False


def run_bundle(flags: BundleFlags) -> None:
    """Pack artefact, sets, fingerprint and gate into one file that `bench` runs on a device.

    Example: ardx bundle student.onnx --sets sets/ --min-robust-accuracy 0.45 --out student.ardx
    """
    from edge_bench.core.errors import InputError
    from edge_bench.files.bundle import is_bundle, pack
    from edge_bench.files.store import sha256_file
    from edge_bench.report.gate import read_conditions

    out = flags.out
    if not is_bundle(out):
        raise InputError(f"--out {out}: expected a file name that ends in .ardx")
    with progress("bundle") as report_progress:
        manifest = pack(
            flags.model,
            out,
            sets=flags.sets,
            gate=read_conditions(flags.gate_file, flags.held_to.conditions()),
            baseline=flags.held_to.baseline,
            force=flags.force,
            report_progress=report_progress,
        )
    sha256, size_bytes = sha256_file(out), out.stat().st_size
    if flags.json_summary:
        members = sorted(manifest.members)
        print_json(
            {"bundle": str(out), "sha256": sha256, "size_bytes": size_bytes, "members": members}
        )
        return
    print(f"{out}: {len(manifest.members)} files, {size_bytes} bytes, sha256 {sha256}")


bundle = command("bundle", BundleFlags, run_bundle)
