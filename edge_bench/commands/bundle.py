"""The command `bundle`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_bench.commands.gate import (
    Baseline,
    Force,
    Json,
    MaxDrop,
    MaxEnergy,
    MaxLatency,
    MaxSize,
    MinClean,
    MinRobust,
    NoThrottling,
)
from edge_bench.console import print_json, progress


def bundle(
    model: Annotated[Path, typer.Argument(help="ONNX classifier with one image input.")],
    out: Annotated[Path, typer.Option(help="Bundle to write (.ardx).")],
    sets: Annotated[
        Path | None, typer.Option(help="Adversarial set, or a folder of them, to replay there.")
    ] = None,
    engine_for: Annotated[
        str | None,
        typer.Option(
            "--for",
            help="Take along an engine of TensorRT for RTX, built now and without a GPU, for these "
            "compute capabilities: sm86,sm120.",
        ),
    ] = None,
    gate_file: Annotated[
        Path | None,
        typer.Option(
            "--gate", help="TOML with conditions (min_robust_accuracy = 0.45); options win over it."
        ),
    ] = None,
    min_robust_accuracy: MinRobust = None,
    min_clean_accuracy: MinClean = None,
    max_latency_p95_ms: MaxLatency = None,
    max_size_bytes: MaxSize = None,
    max_energy_mj: MaxEnergy = None,
    no_throttling: NoThrottling = False,
    baseline: Baseline = None,
    max_robust_drop: MaxDrop = None,
    force: Force = False,
    json_summary: Json = False,
) -> None:
    """Pack artefact, sets, fingerprint and gate into one file that `bench` runs on a device.

    Example: ardx bundle student.onnx --sets sets/ --min-robust-accuracy 0.45 --out student.ardx

    Example: ardx bundle student-int8.onnx --for sm86,sm120 --out student.ardx
    """
    import tempfile

    from edge_bench.backends.engine_cache import EngineOptions
    from edge_bench.backends.trt_rtx import build_ahead
    from edge_bench.bundle import is_bundle, pack
    from edge_bench.errors import InputError
    from edge_bench.report.gate import read_conditions
    from edge_bench.store import refuse_existing_file, sha256_file

    if not is_bundle(out):
        raise InputError(f"--out {out}: expected a file name that ends in .ardx")
    options = {
        "min_robust_accuracy": min_robust_accuracy,
        "min_clean_accuracy": min_clean_accuracy,
        "max_latency_p95_ms": max_latency_p95_ms,
        "max_size_bytes": max_size_bytes,
        "max_energy_mj": max_energy_mj,
        "no_throttling": no_throttling or None,
        "max_robust_drop": max_robust_drop,
    }
    refuse_existing_file(out, force)
    gate = read_conditions(gate_file, options)
    with (
        tempfile.TemporaryDirectory() as timings,
        tempfile.TemporaryDirectory() as engines,
        progress("bundle") as report_progress,
    ):
        if engine_for is not None:
            engine = Path(engines) / f"{model.stem}.engine"
            build = EngineOptions(cache=Path(timings))
            build_ahead(
                model, engine, engine_for, build, force=False, report_progress=report_progress
            )
        manifest = pack(
            model,
            out,
            sets=sets,
            gate=gate,
            baseline=baseline,
            engines=Path(engines) if engine_for is not None else None,
            force=force,
            report_progress=report_progress,
        )
    sha256, size_bytes = sha256_file(out), out.stat().st_size
    if json_summary:
        members = sorted(manifest.members)
        print_json(
            {"bundle": str(out), "sha256": sha256, "size_bytes": size_bytes, "members": members}
        )
        return
    print(f"{out}: {len(manifest.members)} files, {size_bytes} bytes, sha256 {sha256}")
