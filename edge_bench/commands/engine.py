"""The command `engine`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from edge_bench.options.setting import MOST_BATCH
from edge_bench.terminal.console import print_json, progress, say
from edge_bench.terminal.flags import Force, Json, command


@dataclass(frozen=True, kw_only=True)
class AheadFlags:
    """The options of `engine`."""

    model: Annotated[Path, typer.Argument(help="ONNX classifier with one image input.")]
    out: Annotated[
        Path, typer.Option(help="Engine to write (.engine); its record is written beside it.")
    ]
    engine_for: Annotated[
        str, typer.Option("--for", help="Compute capabilities to build for: sm86,sm120.")
    ]
    batch_size: Annotated[
        int, typer.Option(help="Largest batch that it takes; as of bench.", min=1, max=MOST_BATCH)
    ] = 64
    tuned_batch: Annotated[int, typer.Option(help="Batch that kernels are chosen for.")] = 1
    workspace_mib: Annotated[
        int | None, typer.Option(help="Most GPU memory for a kernel's workspace.")
    ] = None
    force: Force = False
    json_summary: Json = False


def run_engine(flags: AheadFlags) -> None:
    """Build an engine of TensorRT for RTX ahead of time, on a machine that needs no GPU.

    `bench NAME.engine --backend trt-rtx` runs it, on a GPU of one of these capabilities and by the
    same version of TensorRT for RTX. An engine is program code: run only those that you built.

    Example: ardx engine student-int8.onnx --for sm86,sm120 --out student.engine
    """
    import tempfile

    from edge_bench.backends.trt_rtx import build_ahead
    from edge_bench.options.engine import EngineOptions

    with tempfile.TemporaryDirectory() as folder, progress("engine") as told:
        options = EngineOptions(
            # Nothing is measured where no GPU need be, so there is nothing to keep.
            cache=Path(folder),
            workspace_mib=flags.workspace_mib,
            tuned_batch=flags.tuned_batch,
            max_batch=flags.batch_size,
        )
        wanted, force = flags.engine_for, flags.force
        record = build_ahead(
            flags.model, flags.out, wanted, options, force=force, report_progress=told
        )
    key, size_bytes = record.key, flags.out.stat().st_size
    if flags.json_summary:
        print_json(
            {
                "engine": str(flags.out),
                "sha256": record.engine_sha256,
                "size_bytes": size_bytes,
                "compiler": f"{key.compiler} {key.tensorrt}",
                "capabilities": list(key.capabilities),
            }
        )
        return
    say(
        f"{flags.out}: {size_bytes} bytes {key.place()}, by {key.compiler} {key.tensorrt}, "
        f"sha256 {record.engine_sha256}"
    )


engine = command("engine", AheadFlags, run_engine)
