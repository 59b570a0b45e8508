"""Command-line options that several stages share, so that they read the same everywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ard.attacks.registry import AT_RANDOM
from edge_bench.backends.registry import BACKENDS
from edge_bench.commands.benching.asked import floats_of
from edge_bench.core.errors import CapabilityError, InputError
from edge_bench.core.pictures.preprocessing import GRAMMAR
from edge_bench.core.spec import ModelCard, parse_epsilon
from edge_bench.terminal.console import say_aside, warn
from edge_bench.terminal.flags import Force as Force
from edge_bench.terminal.flags import Json as Json
from edge_bench.terminal.flags import command as command

if TYPE_CHECKING:
    from ard.data.splits import Dataset
    from ard.models.checkpoints import Reading
    from ard.models.graphs import Said
    from ard.processes.world import World

Data = "Data"
Importing = "Importing a set"
Training = "Training"
Ranking = "Ranking distillation"
Quantised = "From trained weights"

DEFAULT_TARGET = "x86"
"""Of INT8: what runs rightly on every x86 processor."""

OptionalDatasetName = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        help="Default: the dataset the model was trained on; its classes are matched by name.",
        rich_help_panel=Data,
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
        help="Bring pictures to this side in pixels. Default: the model's, as its card says; of a "
        "dataset by name its usual one.",
        min=1,
        rich_help_panel=Data,
    ),
]
Resize = Annotated[
    str | None,
    typer.Option(
        help=f"How: {GRAMMAR}. Default: as the model's card says, else stretch. It is kept on the "
        "card of what is trained, and of its artefacts.",
        metavar="POLICY",
        rich_help_panel=Data,
    ),
]
Images = Annotated[
    Path | None,
    typer.Option(
        help="Attack these images instead of the test images: a folder with one folder of pictures "
        "per class, named as the model names its classes (some, or all as 0, 1, 2, ...), or "
        "with images.npy and labels.npy. Hidden and system files are skipped.",
        rich_help_panel=Data,
    ),
]
Import = Annotated[
    Path | None,
    typer.Option(
        "--import",
        help="Make no attack: take the images of another library from this file (.npz, .pt, .pth). "
        "With --dataset, clean images and labels that it lacks are the first test images there "
        "(with --limit, those that an attack with it takes).",
        rich_help_panel=Importing,
    ),
]
ImportKey = Annotated[
    str | None,
    typer.Option(
        help="Names of the arrays in it, and the images' layout where their shape does not tell. "
        "Default: images=images,clean=clean,labels=labels, or as torchattacks and AutoAttack's "
        "examples call them; also layout=nchw or layout=nhwc.",
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
Restarts = Annotated[int, typer.Option(help=f"Random starts of {AT_RANDOM}.", min=1)]
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
    typer.Option(help=f"Runtime of an artefact: {', '.join(BACKENDS)}."),
]
Output = Annotated[
    str | None,
    typer.Option(help="Output of an artefact that gives its logits, where several could."),
]
GraphMean = Annotated[
    str | None,
    typer.Option(
        "--mean",
        help="Of an ONNX file without a card: channel means of a normalisation that is outside of "
        "its graph, of images in 0..1: 0.485,0.456,0.406 (--mean 0 --std 0.00392157 for a graph "
        "that reads 0..255).",
    ),
]
GraphStd = Annotated[str | None, typer.Option("--std", help="Channel deviations, like --mean.")]
TorchDevice = Annotated[str, typer.Option(help="cpu, cuda, or auto.", rich_help_panel=Training)]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out.")]
Seed = Annotated[int, typer.Option(help="Seed of every random draw.", min=0, max=2**31 - 1)]
Out = Annotated[Path, typer.Option(help="What to write.")]

ARCHITECTURE = (
    "resnet18, resnet8:32 or another of ardx's, a classifier of torchvision's, timm:NAME, or "
    "PACKAGE.MODULE:FUNCTION of yours, from the working folder or installed, which is called with "
    "the number of classes."
)


@dataclass(frozen=True, kw_only=True)
class ForeignFlags:
    """What a person says about a file of weights that the file does not say itself."""

    key: Annotated[
        str | None,
        typer.Option(help="Where in a file of several the weights lie, such as ema."),
    ] = None
    mean: Annotated[
        str | None,
        typer.Option(
            help="Channel means of the normalisation that the weights were trained with, where "
            "their file does not hold it: 0.5,0.5,0.5. Default: what timm or torchvision state."
        ),
    ] = None
    std: Annotated[str | None, typer.Option(help="Channel deviations, like --mean.")] = None


def reading_of(flags: ForeignFlags) -> Reading:
    """The values of --key, --mean and --std."""
    from ard.models.checkpoints import Reading

    return Reading(
        key=flags.key,
        mean=floats_of(flags.mean, "--mean"),
        std=floats_of(flags.std, "--std"),
        options="--",
    )


DEFAULT_DATA_DIR = Path("data")


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """An ONNX file without a card, and the data that were loaded to know its images.

    Attributes:
        data: of --dataset; None where the model is none of these, or no dataset was named.
    """

    said: Said
    data: Dataset | None = None


def foreign_of(
    model: Path,
    mean: str | None,
    std: str | None,
    dataset: str | None,
    load: Callable[[str], Dataset],
    *,
    needs_dataset: bool = True,
) -> Foreign:
    """What a person says of `model`, where that is an ONNX file that says nothing of itself.

    Args:
        load: a dataset by its name.

    Raises:
        InputError: half of a normalisation; one for weights; no --dataset where one is needed.
    """
    from ard.models.graphs import NOTHING_SAID, Said, is_foreign
    from edge_bench.files.kinds import Kind, kind_of
    from edge_bench.files.onnx_file import read_onnx

    means, stds = floats_of(mean, "--mean"), floats_of(std, "--std")
    said = Said(mean=means, std=stds)
    said.options()
    if kind_of(model) is not Kind.ONNX:
        refuse_beside("belongs to an ONNX file, and weights hold theirs", {"--mean": mean})
        return Foreign(said=NOTHING_SAID)
    # A file that is no ONNX model says so first, whatever it lacks besides.
    read_onnx(model)
    if not is_foreign(model):
        refuse_beside(
            f"is inside of the graph of {model}, which has a model card", {"--mean": mean}
        )
        return Foreign(said=NOTHING_SAID)
    if dataset is None:
        if needs_dataset:
            raise InputError(
                f"{model}: has no model card that names its dataset; give --dataset, in whose "
                "order its classes are"
            )
        return Foreign(said=said)
    data = load(dataset)
    return Foreign(said=replace(said, dataset=data.name, image_shape=data.image_shape), data=data)


NORM_NAMES = {"linf": "L-inf", "l2": "L2"}


def setting(
    key: str,
    text: str,
    default: str,
    *,
    panel: str | None = Training,
    bounds: tuple[int | None, int | None] = (None, None),
) -> Any:
    """A field of a dataclass of flags that gives the setting `key` (see `ard.learning.recipes`).

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


def resolve_step_size(text: str | None, norm: str = "linf") -> float | None:
    """The value of --step-size; None leaves it to the attack."""
    return parse_epsilon(text, "--step-size", norm) if text else None


def resolve_torch_device(name: str) -> str:
    """The value of --torch-device: `cpu`, with a word where its cores are shared, or `cuda`."""
    import torch

    from ard.commands.cores import warn_of_shared_cores

    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"--torch-device {name}: expected auto, cpu or cuda")
    available = torch.cuda.is_available()
    # cuDNN would otherwise compute "fp32" convolutions in TF32, and evaluation says fp32.
    torch.backends.cudnn.allow_tf32 = False
    if name == "cuda" and not available:
        raise CapabilityError(
            "--torch-device cuda: torch sees no CUDA device here; use --torch-device cpu"
        )
    if available and name != "cpu":
        return "cuda"
    warn_of_shared_cores()
    return "cpu"


SHARED_BACKENDS = ("ort", "openvino")
"""Runtimes that compute the same in each of several processes."""


def check_shared(world: World, model: Path, backend: str) -> None:
    """Refuse a runtime that several processes cannot share.

    Raises:
        InputError: one on a GPU, all of whose processes would take the first one, and some of
            which build an engine of their own each, that rounds as no other does.
    """
    from edge_bench.files.kinds import Kind, kind_of

    if world.size == 1 or backend in SHARED_BACKENDS or backend not in BACKENDS:
        return
    if kind_of(model) is Kind.ONNX:
        raise InputError(
            f"--backend {backend}: is asked by one process, and torchrun started {world.size}; "
            f"start it without torchrun, or use {' or '.join(SHARED_BACKENDS)}"
        )


def threads_of(world: World) -> int | None:
    """Threads of an artefact's runtime: its own choice, or torch's where processes share cores."""
    import torch

    return torch.get_num_threads() if world.size > 1 else None


def size_for(
    name: str, image_size: int | None, resize: str | None, *weights: Path | None
) -> tuple[int | None, str | None]:
    """--image-size and --resize for a dataset; what was not given is as the weights' cards say."""
    from ard.data.datasets import holds_pictures
    from ard.models.weight_files import card_inside

    if not holds_pictures(name) or (image_size is not None and resize is not None):
        return image_size, resize
    cards = (card_inside(path) for path in weights if path is not None)
    known = next((card.preprocessing for card in cards if card and card.preprocessing), None)
    if known is None or image_size not in (None, known.side):
        return image_size, resize
    return known.side, resize or known.resize


def tell_skipped(line: str) -> None:
    """Say which files of a folder were passed over, if any."""
    if line:
        say_aside(line)


def render_budget(epsilon: float, norm: str) -> str:
    """Norm and budget, such as `L-inf 8/255`; of L2, which counts no levels, `L2 0.5`."""
    return f"{NORM_NAMES[norm]} {render_epsilon(epsilon) if norm == 'linf' else f'{epsilon:g}'}"


def refuse_beside(reason: str, values: Mapping[str, object | None]) -> None:
    """Refuse options that would be ignored: those of `values` that were given."""
    for option, value in values.items():
        if value is not None:
            raise InputError(f"{option} {value}: {reason}; leave {option} out")


def render_epsilon(epsilon: float) -> str:
    """A budget as people write it: in whole 8-bit steps where it is some."""
    levels = epsilon * 255
    return f"{round(levels)}/255" if abs(levels - round(levels)) < 1e-9 else f"{epsilon:g}"


def warn_of_saturation(card: ModelCard, backend: str, root: Path | None = None) -> None:
    """Say where a runtime gives an artefact other logits here than its target has.

    ONNX Runtime is not told: `victims.open_victim` lets it compute as the target does.
    """
    from edge_bench.core.saturation import saturation
    from edge_bench.devices import ROOT
    from edge_bench.devices.generic import has_vnni

    found = saturation(card, backend, has_vnni(root or ROOT))
    if found and backend != "ort":
        warn(found)


def target_of(name: str | None, root: Path | None = None) -> str:
    """The value of --target, which may be `auto`; what was found out then, people are told.

    So they are where this machine computes by other kernels than the target.

    Args:
        name: as given.
        root: of the file system; None is this machine's.

    Raises:
        InputError: no such target, or none that is known for this machine.
    """
    from deploy.quantization.targets import target_here, target_named
    from edge_bench.devices import ROOT
    from edge_bench.devices.generic import has_vnni

    root = root or ROOT
    if name != "auto":
        target_named(name or DEFAULT_TARGET)
        if name == "x86-vnni" and has_vnni(root) is False:
            warn(
                f"--target {name}: this processor has no VNNI, and the file would saturate here; "
                "accuracies are those of the target, computed by other kernels to the same bits, "
                "and latencies are not the target's; --target x86 is for this processor"
            )
        return name or DEFAULT_TARGET
    found, seen = target_here(root)
    say_aside(f"--target auto: {found} ({seen}; {target_named(found).why})")
    return found
