"""The command that takes a trained network of the user's in: `adopt`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ard.commands import flags as o
from ard.data.registry import KNOWN
from edge_bench.terminal.console import print_json, say, warn

if TYPE_CHECKING:
    from ard.learning.adopt import Adopted


@dataclass(frozen=True, kw_only=True)
class AdoptFlags:
    """What `adopt` takes."""

    weights: Annotated[
        Path,
        typer.Argument(
            help="A trained network: .safetensors, .pt or .pth of tensors, bare or below "
            "state_dict, model, net or ema, with or without wrappers' prefixes."
        ),
    ]
    arch: Annotated[str, typer.Option(help=o.ARCHITECTURE)]
    dataset: Annotated[str, typer.Option(help=f"What it was trained on: {KNOWN}.")]
    out: o.Out
    foreign: o.ForeignFlags
    data_dir: o.DataDir = o.DEFAULT_DATA_DIR
    download: o.Download = False
    image_size: o.ImageSize = None
    resize: o.Resize = None
    torch_device: o.TorchDevice = "auto"
    force: o.Force = False
    json_summary: o.Json = False


def _adopt(flags: AdoptFlags) -> None:
    """Make one of ardx's files of a trained network of yours, and judge it on your test images.

    The file holds the weights and a card: classes, their names, image shape, normalisation, and of
    an architecture of yours the digest of its source. evaluate, attack, export and distill (as
    --teacher or --init) take it from there. Again on a file of ardx's, it takes a source that
    changed for the one that is meant.

    Example: ardx adopt best.pt --arch mymodel:build --dataset imagefolder:pictures --image-size 96
    --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --out model.safetensors
    """
    from edge_bench.files.locks import writing
    from edge_bench.files.store import refuse_existing_file

    refuse_existing_file(flags.out, flags.force)
    with writing(flags.out):
        _print(_adopted(flags), flags.json_summary)


def _adopted(flags: AdoptFlags) -> Adopted:
    """What `adopt` does once nobody else writes there."""
    from ard.data.datasets import load_dataset
    from ard.learning.adopt import adopt as adopt_weights

    size, resize = o.size_for(flags.dataset, flags.image_size, flags.resize, flags.weights)
    data = load_dataset(
        flags.dataset, flags.data_dir, download=flags.download, image_size=size, resize=resize
    )
    o.tell_skipped(data.skipped)
    return adopt_weights(
        flags.weights,
        flags.arch,
        data,
        flags.out,
        reading=o.reading_of(flags.foreign),
        force=flags.force,
        torch_device=o.resolve_torch_device(flags.torch_device),
        tell=warn,
    )


adopt = o.command("adopt", AdoptFlags, _adopt)


def _print(adopted: Adopted, json_summary: bool) -> None:
    if adopted.doubt:
        warn(f"{adopted.weights}: {adopted.doubt}")
    if json_summary:
        print_json(
            {
                "weights": str(adopted.weights),
                "sha256": adopted.sha256,
                "architecture": adopted.card.architecture,
                "clean_accuracy": adopted.clean_accuracy,
                "images": adopted.images,
                "doubt": adopted.doubt,
            }
        )
        return
    card = adopted.card
    say(
        f"{adopted.weights}: {card.architecture} of {card.classes} classes on "
        f"{'x'.join(map(str, card.input_shape))} images; clean accuracy "
        f"{100 * adopted.clean_accuracy:.1f} % of {adopted.images:,} test images of {card.dataset}"
    )
