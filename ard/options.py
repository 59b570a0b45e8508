"""Command-line options that several stages share, so that they read the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_bench.errors import CapabilityError, InputError
from edge_bench.spec import ModelCard, parse_epsilon

Data = "Data"
Training = "Training"
Ranking = "Ranking distillation"

DatasetName = Annotated[
    str,
    typer.Option(
        "--dataset",
        help="digits, fashion-mnist, cifar10, cifar100, tiny-imagenet or imagefolder:PATH.",
        rich_help_panel=Data,
    ),
]
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
Limit = Annotated[
    int | None,
    typer.Option(help="Use N stratified test images instead of all.", rich_help_panel=Data),
]
TrainFraction = Annotated[
    float,
    typer.Option(
        help="Stratified part of the training data to use; the held-out part stays whole.",
        rich_help_panel=Data,
    ),
]

Epsilon = Annotated[str, typer.Option(help="L-inf budget on images in [0, 1], such as 8/255.")]
OptionalEpsilon = Annotated[
    str | None,
    typer.Option("--epsilon", help="L-inf budget; default: what the model was trained against."),
]
StepSize = Annotated[
    str | None, typer.Option(help="Attack step on images in [0, 1]; default: epsilon / 4.")
]
InnerSteps = Annotated[
    int, typer.Option(help="Attack steps in training.", rich_help_panel=Training)
]
Inner = Annotated[
    str | None,
    typer.Option(
        help="What the attack in training ascends: ce, kl_clean or kl_self; default: the method's.",
        rich_help_panel=Training,
    ),
]
Epochs = Annotated[int, typer.Option(help="Passes over the data.", rich_help_panel=Training)]
Minutes = Annotated[
    float | None,
    typer.Option(
        help="Choose --epochs to fit this time, by timing a few steps.", rich_help_panel=Training
    ),
]
BatchSize = Annotated[int, typer.Option(help="Images per update.", rich_help_panel=Training)]
LearningRate = Annotated[
    float, typer.Option(help="Peak of the one-cycle schedule.", rich_help_panel=Training)
]
WeightDecay = Annotated[float, typer.Option(help="L2 penalty.", rich_help_panel=Training)]
EmaDecay = Annotated[
    float, typer.Option(help="Decay of the weight average that is kept.", rich_help_panel=Training)
]
Precision = Annotated[
    str,
    typer.Option(
        help="fp32, or bf16 where the processor is fast at it; validation is fp32 always.",
        rich_help_panel=Training,
    ),
]
ValidateEvery = Annotated[
    int, typer.Option(help="Epochs between validations.", rich_help_panel=Training)
]
TorchDevice = Annotated[str, typer.Option(help="cpu, cuda, or auto.", rich_help_panel=Training)]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out.")]
Seed = Annotated[int, typer.Option(help="Seed of every random draw.", min=0, max=2**31 - 1)]
Out = Annotated[Path, typer.Option(help="What to write.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite what --out names.")]
Json = Annotated[bool, typer.Option("--json", help="Print a machine-readable summary.")]

DEFAULT_DATA_DIR = Path("data")


def resolve_step_size(text: str | None, epsilon: float) -> float:
    """The value of --step-size: a fraction, or a quarter of epsilon."""
    return parse_epsilon(text, "--step-size") if text else epsilon / 4


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


def render_epsilon(epsilon: float) -> str:
    """A budget as people write it: in whole 8-bit steps where it is some."""
    levels = epsilon * 255
    return f"{round(levels)}/255" if abs(levels - round(levels)) < 1e-9 else f"{epsilon:g}"
