"""The command that makes an artefact of a learned model: `export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ard import options as o
from edge_bench.console import print_json, print_table
from edge_bench.errors import InputError


def export_command(
    model: Annotated[Path, typer.Argument(help="Weights written by teach or distill.")],
    out: o.Out,
    int8: Annotated[bool, typer.Option("--int8", help="Quantise to static INT8 (QDQ).")] = False,
    target: Annotated[
        str | None,
        typer.Option(
            help="INT8 settings: x86 (default), x86-vnni, arm or tensorrt; of weights by "
            "distill --qat, what they were trained for."
        ),
    ] = None,
    calibration_images: Annotated[
        int, typer.Option(help="Training images that set the INT8 ranges.", min=1)
    ] = 512,
    min_agreement: Annotated[
        float | None,
        typer.Option(
            help="Least share of equal classes; default 0.999, for INT8 0.9.", min=0, max=1
        ),
    ] = None,
    dataset: o.OptionalDatasetName = None,
    data_dir: o.DataDir = o.DEFAULT_DATA_DIR,
    download: o.Download = False,
    image_size: o.ImageSize = None,
    seed: o.Seed = 0,
    force: o.Force = False,
    json_summary: o.Json = False,
) -> None:
    """Export to ONNX, fp32 or INT8, checked on clean and adversarial images before it is written.

    Example: ardx export runs/student/student.safetensors --out student.onnx --int8 --target arm
    """
    from dataclasses import asdict

    from ard.checkpoint import load_model
    from ard.datasets import load_dataset
    from ard.stages import export
    from edge_bench.store import refuse_existing_file, sha256_file

    if out.suffix != ".onnx":
        raise InputError(f"--out {out}: expected a file name that ends in .onnx")
    if target is not None and not int8:
        raise InputError(f"--target {target}: chooses INT8 settings; add --int8, or leave it out")
    refuse_existing_file(out, force)
    _, card = load_model(model)
    int8_target = (target or card.recipe.get("qat") or "x86") if int8 else None
    data = load_dataset(dataset or card.dataset, data_dir, download=download, image_size=image_size)
    parities = export(
        model,
        data,
        out,
        int8_target=int8_target,
        calibration_images=calibration_images,
        least_agreement=min_agreement,
        seed=seed,
        force=force,
    )
    if json_summary:
        checks = [asdict(parity) for parity in parities]
        print_json({"artifact": str(out), "sha256": sha256_file(out), "parity": checks})
        return
    rows = [
        [
            parity.images,
            f"{parity.largest_difference:.2g}",
            f"{parity.agreement:.2%}",
            f"{100 * parity.torch_accuracy:.1f} %",
            f"{100 * parity.artifact_accuracy:.1f} %",
            str(parity.samples),
        ]
        for parity in parities
    ]
    header = ["held-out images", "largest logit difference", "same class", "torch", "onnx", "n"]
    print_table(f"{out} ({f'int8 {int8_target}' if int8 else 'fp32'})", header, rows)
