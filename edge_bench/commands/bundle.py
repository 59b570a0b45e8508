"""The command `bundle`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_bench.commands.attest import Key
from edge_bench.commands.gate import ConditionFlags
from edge_bench.terminal.console import print_json, progress, say
from edge_bench.terminal.flags import Force, Json, command

if TYPE_CHECKING:
    from edge_bench.core.gate import Gate
    from edge_bench.files.bundle import BundleManifest


@dataclass(frozen=True, kw_only=True)
class BundleFlags:
    """The options of `bundle`."""

    model: Annotated[Path, typer.Argument(help="ONNX classifier with one image input.")]
    out: Annotated[Path, typer.Option(help="Bundle to write (.ardx).")]
    sets: Annotated[
        Path | None, typer.Option(help="Adversarial set, or a folder of them, to replay there.")
    ] = None
    engine_for: Annotated[
        str | None,
        typer.Option(
            "--for",
            help="Take along an engine of TensorRT for RTX, built now and without a GPU, for these "
            "compute capabilities: sm86,sm120.",
        ),
    ] = None
    gate_file: Annotated[
        Path | None,
        typer.Option(
            "--gate", help="TOML with conditions (min_robust_accuracy = 0.45); options win over it."
        ),
    ] = None
    held_to: ConditionFlags
    sign: Key = None
    force: Force = False
    json_summary: Json = False


def run_bundle(flags: BundleFlags) -> None:
    """Pack artefact, sets, fingerprint and gate into one file that `bench` runs on a device.

    Example: ardx bundle student.onnx --sets sets/ --min-robust-accuracy 0.45 --out student.ardx

    Example: ardx bundle student-int8.onnx --for sm86,sm120 --out student.ardx

    Example: ardx bundle student.onnx --out student.ardx --sign ~/.ssh/id_ed25519
    """
    import tempfile

    from edge_bench.backends.trt_rtx import build_ahead
    from edge_bench.files.bundle import pack
    from edge_bench.files.locks import writing
    from edge_bench.files.store import refuse_existing_file
    from edge_bench.options.engine import EngineOptions
    from edge_bench.signing.openssh import (
        require_key,
        signature_of,
        signature_path,
        write_signature,
    )

    out, key, signatures = flags.out, flags.sign, list[str]()
    gate, wanted = _conditions(flags), flags.engine_for
    if key is not None:
        require_key(key)
        refuse_existing_file(signature_path(out), flags.force)
    with (
        writing(out),
        tempfile.TemporaryDirectory() as timings,
        tempfile.TemporaryDirectory() as engines,
        progress("bundle") as told,
    ):
        if wanted is not None:
            engine, build = Path(engines) / f"{flags.model.stem}.engine", Path(timings)
            options = EngineOptions(cache=build)
            build_ahead(flags.model, engine, wanted, options, force=False, report_progress=told)
        manifest = pack(
            flags.model,
            out,
            sets=flags.sets,
            gate=gate,
            baseline=flags.held_to.baseline,
            engines=None if wanted is None else Path(engines),
            force=flags.force,
            report_progress=told,
            seal=None
            if key is None
            else lambda packed: signatures.append(signature_of(packed, key)),
        )
    signature = write_signature(out, signatures[0], flags.force) if signatures else None
    _tell(out, manifest, signature, flags.json_summary)


def _conditions(flags: BundleFlags) -> Gate:
    """What the bundle is to bring, once its name and its baseline are seen to be what they must."""
    from edge_bench.core.errors import InputError
    from edge_bench.files.bundle import is_bundle
    from edge_bench.files.store import refuse_existing_file
    from edge_bench.policy.baseline import read_baseline
    from edge_bench.policy.gate import read_conditions

    if not is_bundle(flags.out):
        raise InputError(f"--out {flags.out}: expected a file name that ends in .ardx")
    refuse_existing_file(flags.out, flags.force)
    gate = read_conditions(flags.gate_file, flags.held_to.conditions())
    if gate.max_robust_drop is not None and flags.held_to.baseline is not None:
        read_baseline(flags.held_to.baseline)
    return gate


def _tell(out: Path, manifest: BundleManifest, signature: Path | None, json_summary: bool) -> None:
    from edge_bench.files.store import sha256_file

    sha256, size_bytes = sha256_file(out), out.stat().st_size
    if json_summary:
        members = sorted(manifest.members)
        summary = {"bundle": str(out), "sha256": sha256, "size_bytes": size_bytes}
        signed = {} if signature is None else {"signature": str(signature)}
        print_json({**summary, "members": members, **signed})
        return
    say(f"{out}: {len(manifest.members)} files, {size_bytes} bytes, sha256 {sha256}")
    if signature is not None:
        say(f"signature: {signature}")


bundle = command("bundle", BundleFlags, run_bundle)
