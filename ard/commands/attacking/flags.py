"""The options of `attack`, in the order in which help shows them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ard.attacks.registry import KNOWN, KNOWN_DIFFERENTIAL
from ard.commands import flags as o
from ard.crafting.corruptions import CORRUPTIONS
from edge_bench.core.threats.attack import DIRECTIONS


@dataclass(kw_only=True)
class AttackFlags:
    """The options of `attack`."""

    model: Annotated[
        Path | None,
        typer.Argument(help="Weights of teach or distill, or an ONNX file of anyone's."),
    ] = None
    out: o.Out
    attack_name: Annotated[
        str | None,
        typer.Option(
            "--attack",
            help=f"{KNOWN} (pgd20; square5000 for --threat blackbox); with --threat differential "
            f"{KNOWN_DIFFERENTIAL} (apgd_apart100); with --import, what to call it.",
        ),
    ] = None
    threat: Annotated[
        str | None,
        typer.Option(
            help="white-box (weights, or an ONNX file's own graph), bpda (an artefact's logits, "
            "--parent's gradients or those through its roundings), blackbox (scores alone), "
            "transfer (on --from, for MODEL) or differential (an artefact against its --parent: "
            "images on which one errs and the other does not). Default: white-box or bpda."
        ),
    ] = None
    direction: Annotated[
        str | None,
        typer.Option(
            help="With --threat differential: which is to err where the other is right, "
            f"{' or '.join(DIRECTIONS)}. Default: {DIRECTIONS[0]}."
        ),
    ] = None
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="With --threat transfer: the weights, or the artefact, that are attacked.",
        ),
    ] = None
    parent: o.Parent = None
    backend: o.Backend = "ort"
    output: o.Output = None
    mean: o.GraphMean = None
    std: o.GraphStd = None
    epsilon: o.OptionalEpsilon = None
    norm: o.Norm = "linf"
    step_size: o.StepSize = None
    restarts: o.Restarts = 1
    target_class: o.TargetClass = None
    corruption: Annotated[
        str | None,
        typer.Option(
            help="Make no attack, but NAME:SEVERITY of the common corruptions, 1 to 5 (fog:3): "
            f"{', '.join(CORRUPTIONS)}. What MODEL, or --parent, makes of them is stored, too."
        ),
    ] = None
    refresh: Annotated[
        Path | None,
        typer.Option(
            help="Start from the images of this set: keep what fools MODEL still, and attack again "
            "what it stands. The set says whose it was before."
        ),
    ] = None
    on: Annotated[
        Path | None, typer.Option("--on", help="With --refresh: another way to name MODEL.")
    ] = None
    off_grid: Annotated[
        bool, typer.Option("--off-grid", help="Keep float images instead of 8-bit levels.")
    ] = False
    import_file: o.Import = None
    import_key: o.ImportKey = None
    images: o.Images = None
    pictures: Annotated[
        Path | None,
        typer.Option(
            help="Attack these pictures (one folder per class) at their own size, through the "
            "resize that the card says, and store PNGs for bench --pictures; the budget is on the "
            "picture as the camera gives it."
        ),
    ] = None
    limit: o.Limit = None
    dataset: o.OptionalDatasetName = None
    data_dir: o.DataDir = o.DEFAULT_DATA_DIR
    download: o.Download = False
    image_size: o.ImageSize = None
    resize: o.Resize = None
    torch_device: o.TorchDevice = "auto"
    seed: o.Seed = 0
    force: o.Force = False
    json_summary: o.Json = False


OF_CRAFTING = ("--threat", "--direction", "--from", "--step-size", "--target-class", "--off-grid")
"""What only an attack that is made here heeds."""
OF_IMAGES = ("--images", "--dataset", "--image-size", "--resize", "--limit")
"""Which images, where they are not those of a set."""
NAMED_OTHERWISE = {"--attack": "attack_name", "--from": "source", "--import": "import_file"}
"""Fields of options that Python's own words, or nothing else, would be called by."""


def refuse(flags: AttackFlags, reason: str, *options: str) -> None:
    """Refuse those of the options that were given, since `reason`.

    Raises:
        InputError: names the first.
    """
    values = {}
    for option in options:
        field = NAMED_OTHERWISE.get(option, option.removeprefix("--").replace("-", "_"))
        value, default = getattr(flags, field), AttackFlags.__dataclass_fields__[field].default
        # What is as it would be without the option changes nothing.
        values[option] = None if value == default else value
    o.refuse_beside(reason, values)
