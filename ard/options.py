"""Command-line options that several stages share, so that they read the same everywhere."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, field, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from edge_bench.errors import CapabilityError, InputError
from edge_bench.spec import ModelCard, parse_epsilon

Data = "Data"
Importing = "Importing a set"
Training = "Training"
Ranking = "Ranking distillation"
Quantised = "From trained weights"

DEFAULT_TARGET = "x86"
"""Of INT8: what runs rightly on every x86 processor."""

DATASETS = "digits, fashion-mnist, cifar10, cifar100, tiny-imagenet or imagefolder:PATH."

OptionalDatasetName = Annotated[
    str | None,
    typer.Option(
        "--dataset", help="Default: the dataset the model was trained on.", rich_help_panel=Data
    ),
]
DataDir = Annotated[
    Path,
    typer.Option(
        envvar="ARDX_DATA_DIR",
        help="Folder that holds the dataset's official files.",
        rich_help_panel=Data,
    ),
]
Download = Annotated[
    bool,
    typer.Option("--download", help="Fetch the dataset into --data-dir.", rich_help_panel=Data),
]
ImageSize = Annotated[
    int | None,
    typer.Option(
        help="Resize an image folder's pictures to this side.", min=1, rich_help_panel=Data
    ),
]
Images = Annotated[
    Path | None,
    typer.Option(
        help="Attack these images instead of the test images: a folder with one folder of pictures "
        "per class (sorted, as torchvision's ImageFolder), or with images.npy and labels.npy.",
        rich_help_panel=Data,
    ),
]
Import = Annotated[
    Path | None,
    typer.Option(
        "--import",
        help="Make no attack: take the images of another library from this .npz file.",
        rich_help_panel=Importing,
    ),
]
ImportKey = Annotated[
    str | None,
    typer.Option(
        help="Names of the arrays in it, and the images' layout where their shape does not tell. "
        "Default: images=images,clean=clean,labels=labels; also layout=nchw or layout=nhwc.",
        rich_help_panel=Importing,
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(help="Use N stratified test images instead of all.", rich_help_panel=Data),
]
OptionalEpsilon = Annotated[
    str | None,
    typer.Option("--epsilon", help="Budget; default: what the model was trained against."),
]
StepSize = Annotated[
    str | None,
    typer.Option(help="Attack step on images in [0, 1]; default: epsilon / 4 for pgdN and cwN."),
]
Norm = Annotated[str, typer.Option(help="Norm of the budget: linf or l2.")]
Restarts = Annotated[int, typer.Option(help="Random starts of pgdN and cwN.", min=1)]
TargetClass = Annotated[
    str | None,
    typer.Option(help="Aim fgsm, mi_fgsm, pgd and cw: a class, least_likely or random."),
]
Parent = Annotated[
    Path | None,
    typer.Option(help="Of an artefact: the weights that it was exported from (for gradients)."),
]
Backend = Annotated[
    str,
    typer.Option(
        help="Runtime of an artefact: ort, openvino, trt, trt-rtx, ort-cuda or ort-tensorrt."
    ),
]
TorchDevice = Annotated[str, typer.Option(help="cpu, cuda, or auto.", rich_help_panel=Training)]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out.")]
Seed = Annotated[int, typer.Option(help="Seed of every random draw.", min=0, max=2**31 - 1)]
Out = Annotated[Path, typer.Option(help="What to write.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite what --out names.")]
Json = Annotated[bool, typer.Option("--json", help="Print a machine-readable summary.")]

DEFAULT_DATA_DIR = Path("data")
NORM_NAMES = {"linf": "L-inf", "l2": "L2"}


def setting(
    key: str,
    text: str,
    default: str,
    *,
    panel: str | None = Training,
    bounds: tuple[int | None, int | None] = (None, None),
) -> Any:
    """A field of a dataclass of flags that gives the setting `key` (see `ard.recipes`).

    Its value is None unless the flag was given, so that a recipe can have its say; `default` is
    what the help says of that case.
    """
    least, most = bounds
    option = typer.Option(
        None, help=f"{text} Default: {default}.", rich_help_panel=panel, min=least, max=most
    )
    return field(default=None, metadata={"key": key, "option": option})


def settings_of(flags: Any) -> Iterator[tuple[str, str, Any]]:
    """(setting, option, value) of every flag that gives a setting."""
    for flag in fields(flags):
        if "key" in flag.metadata:
            option = "--" + flag.name.replace("_", "-")
            yield flag.metadata["key"], option, getattr(flags, flag.name)


def command(name: str, flags: type[Any], run: Callable[[Any], None]) -> Callable[..., None]:
    """`run` as a command whose options are the fields of the dataclass `flags`.

    typer reads options from a signature; commands that share them would have to repeat it.
    """
    hints = get_type_hints(flags, include_extras=True)

    def invoke(**values: Any) -> None:
        run(flags(**values))

    def parameter(flag: Any) -> inspect.Parameter:
        default = inspect.Parameter.empty if flag.default is MISSING else flag.default
        return inspect.Parameter(
            flag.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=flag.metadata.get("option", default),
            annotation=hints[flag.name],
        )

    # A command's own options are what it is about: help shows them before the shared ones.
    ordered = sorted(fields(flags), key=lambda flag: flag.name not in flags.__annotations__)
    signature = inspect.Signature([parameter(flag) for flag in ordered])
    invoke.__name__, invoke.__doc__ = name, run.__doc__
    invoke.__signature__ = signature  # type: ignore[attr-defined]
    return invoke


def resolve_step_size(text: str | None, norm: str = "linf") -> float | None:
    """The value of --step-size; None leaves it to the attack."""
    return parse_epsilon(text, "--step-size", norm) if text else None


def resolve_torch_device(name: str) -> str:
    """The value of --torch-device: `cpu` or `cuda`."""
    import torch

    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"--torch-device {name}: expected auto, cpu or cuda")
    available = torch.cuda.is_available()
    # cuDNN would otherwise compute "fp32" convolutions in TF32, and evaluation says fp32.
    torch.backends.cudnn.allow_tf32 = False
    if name == "cuda" and not available:
        raise CapabilityError(
            "--torch-device cuda: torch sees no CUDA device here; use --torch-device cpu"
        )
    return "cuda" if available and name != "cpu" else "cpu"


def image_size_of(card: ModelCard, image_size: int | None) -> int | None:
    """The value of --image-size for a trained model: by default what it was trained at."""
    _, height, width = card.input_shape
    return image_size or (height if height == width else None)


def render_budget(epsilon: float, norm: str) -> str:
    """Norm and budget, such as `L-inf 8/255`."""
    return f"{NORM_NAMES[norm]} {render_epsilon(epsilon)}"


def refuse_beside(reason: str, values: Mapping[str, object | None]) -> None:
    """Refuse options that would be ignored: those of `values` that were given."""
    for option, value in values.items():
        if value is not None:
            raise InputError(f"{option} {value}: {reason}; leave {option} out")


def render_epsilon(epsilon: float) -> str:
    """A budget as people write it: in whole 8-bit steps where it is some."""
    levels = epsilon * 255
    return f"{round(levels)}/255" if abs(levels - round(levels)) < 1e-9 else f"{epsilon:g}"


def target_of(name: str | None) -> str:
    """The value of --target, which may be `auto`; what was found out then, people are told.

    Raises:
        InputError: no such target, or none that is known for this machine.
    """
    from deploy.targets import target_here, target_named

    if name != "auto":
        target_named(name or DEFAULT_TARGET)
        return name or DEFAULT_TARGET
    found, seen = target_here()
    print(f"--target auto: {found} ({seen}; {target_named(found).why})", file=sys.stderr)
    return found
