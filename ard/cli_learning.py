"""The commands that learn: `teach` and `distill`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ard import options as o
from edge_bench.console import print_json, progress
from edge_bench.spec import parse_epsilon

if TYPE_CHECKING:
    from ard.config import TrainConfig
    from ard.stages import Learned


def teach(
    dataset: o.DatasetName,
    arch: Annotated[str, typer.Option(help="Architecture, such as resnet18 or resnet8:32.")],
    out: o.Out,
    method: Annotated[
        str, typer.Option(help="pgd_at, trades, or natural (no defence).")
    ] = "trades",
    epsilon: o.Epsilon = "8/255",
    step_size: o.StepSize = None,
    inner_steps: o.InnerSteps = 10,
    inner: o.Inner = None,
    beta: Annotated[float, typer.Option(help="Robust weight of TRADES.")] = 6.0,
    epochs: o.Epochs = 30,
    minutes: o.Minutes = None,
    batch_size: o.BatchSize = 128,
    learning_rate: o.LearningRate = 0.1,
    weight_decay: o.WeightDecay = 5e-4,
    ema_decay: o.EmaDecay = 0.995,
    train_fraction: o.TrainFraction = 1.0,
    validate_every: o.ValidateEvery = 1,
    precision: o.Precision = "fp32",
    torch_device: o.TorchDevice = "auto",
    seed: o.Seed = 0,
    data_dir: o.DataDir = o.DEFAULT_DATA_DIR,
    download: o.Download = False,
    image_size: o.ImageSize = None,
    resume: o.Resume = False,
    force: o.Force = False,
    json_summary: o.Json = False,
) -> None:
    """Train a teacher adversarially; writes OUT/teacher.safetensors.

    Example: ardx teach --dataset cifar10 --arch resnet18 --method trades --out runs/teacher
    """
    budget = parse_epsilon(epsilon)
    from ard.config import TrainConfig
    from ard.losses import LossOptions, method_named

    method_named(method, distils=False)
    config = TrainConfig(
        dataset=dataset,
        architecture=arch,
        method=method,
        epsilon=budget,
        step_size=o.resolve_step_size(step_size, budget),
        inner_steps=inner_steps,
        inner=inner,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        ema_decay=ema_decay,
        train_fraction=train_fraction,
        seed=seed,
        precision=precision,
        validate_every=validate_every,
        loss=LossOptions(beta=beta),
    )
    _learn(
        "teach",
        config,
        out / "teacher.safetensors",
        None,
        data_dir=data_dir,
        download=download,
        image_size=image_size,
        minutes=minutes,
        resume=resume,
        force=force,
        torch_device=torch_device,
        json_summary=json_summary,
    )


def distill(
    dataset: o.DatasetName,
    teacher: Annotated[Path, typer.Option(help="Teacher's weights: ours, or a published .pt.")],
    student: Annotated[str, typer.Option(help="Architecture, such as mobilenet_v2 or resnet8.")],
    out: o.Out,
    method: Annotated[str, typer.Option(help="ard, or rslad to compare with.")] = "ard",
    teacher_arch: Annotated[
        str | None, typer.Option(help="Architecture of a published checkpoint.")
    ] = None,
    epsilon: o.Epsilon = "8/255",
    step_size: o.StepSize = None,
    inner_steps: o.InnerSteps = 10,
    inner: o.Inner = None,
    agreement: Annotated[
        str, typer.Option(help="kendall or spearman.", rich_help_panel=o.Ranking)
    ] = "kendall",
    score_space: Annotated[
        str, typer.Option(help="zscore, logits or probabilities.", rich_help_panel=o.Ranking)
    ] = "zscore",
    k: Annotated[
        float, typer.Option(help="Steepness of the soft comparison.", rich_help_panel=o.Ranking)
    ] = 2.0,
    normalisation: Annotated[
        str, typer.Option(help="Of kendall: pairs or cosine.", rich_help_panel=o.Ranking)
    ] = "pairs",
    hard_teacher: Annotated[
        bool, typer.Option(help="Compare the teacher by sign.", rich_help_panel=o.Ranking)
    ] = False,
    teacher_input: Annotated[
        str, typer.Option(help="adversarial or clean.", rich_help_panel=o.Ranking)
    ] = "adversarial",
    weight_class: Annotated[
        float, typer.Option(help="Weight of the class level.", rich_help_panel=o.Ranking)
    ] = 1.0,
    weight_sample: Annotated[
        float, typer.Option(help="Weight of the sample level.", rich_help_panel=o.Ranking)
    ] = 1.0,
    weight_discrepancy: Annotated[
        float, typer.Option(help="Weight of the discrepancy level.", rich_help_panel=o.Ranking)
    ] = 0.5,
    anchor: Annotated[
        str, typer.Option(help="What fixes the scale: rslad or ce.", rich_help_panel=o.Ranking)
    ] = "rslad",
    epochs: o.Epochs = 30,
    minutes: o.Minutes = None,
    batch_size: o.BatchSize = 128,
    learning_rate: o.LearningRate = 0.1,
    weight_decay: o.WeightDecay = 5e-4,
    ema_decay: o.EmaDecay = 0.995,
    train_fraction: o.TrainFraction = 1.0,
    validate_every: o.ValidateEvery = 1,
    precision: o.Precision = "fp32",
    torch_device: o.TorchDevice = "auto",
    seed: o.Seed = 0,
    data_dir: o.DataDir = o.DEFAULT_DATA_DIR,
    download: o.Download = False,
    image_size: o.ImageSize = None,
    resume: o.Resume = False,
    force: o.Force = False,
    json_summary: o.Json = False,
) -> None:
    """Distil a robust student from a robust teacher; writes OUT/student.safetensors.

    Example: ardx distill --dataset cifar10 --teacher runs/teacher/teacher.safetensors
    --student mobilenet_v2 --out runs/student
    """
    budget = parse_epsilon(epsilon)
    from ard.config import TrainConfig
    from ard.losses import LossOptions, method_named
    from ard.ranking import RankingOptions

    method_named(method, distils=True)
    ranking = RankingOptions(
        agreement=agreement,
        space=score_space,
        k=k,
        normalisation=normalisation,
        hard_teacher=hard_teacher,
        teacher_input=teacher_input,
        weight_class=weight_class,
        weight_sample=weight_sample,
        weight_discrepancy=weight_discrepancy,
    )
    config = TrainConfig(
        dataset=dataset,
        architecture=student,
        method=method,
        epsilon=budget,
        step_size=o.resolve_step_size(step_size, budget),
        inner_steps=inner_steps,
        inner=inner,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        ema_decay=ema_decay,
        train_fraction=train_fraction,
        seed=seed,
        precision=precision,
        validate_every=validate_every,
        loss=LossOptions(anchor=anchor, ranking=ranking),
    )
    _learn(
        "distill",
        config,
        out / "student.safetensors",
        (teacher, teacher_arch),
        data_dir=data_dir,
        download=download,
        image_size=image_size,
        minutes=minutes,
        resume=resume,
        force=force,
        torch_device=torch_device,
        json_summary=json_summary,
    )


def _learn(
    label: str,
    config: TrainConfig,
    weights: Path,
    teacher: tuple[Path, str | None] | None,
    *,
    data_dir: Path,
    download: bool,
    image_size: int | None,
    minutes: float | None,
    resume: bool,
    force: bool,
    torch_device: str,
    json_summary: bool,
) -> None:
    """Run what both commands share; `teacher` is a file and, if published, its architecture."""
    from ard.datasets import load_dataset
    from ard.stages import learn, load_teacher

    data = load_dataset(config.dataset, data_dir, download=download, image_size=image_size)
    with progress(label) as report_progress:
        learned = learn(
            config,
            data,
            load_teacher(*teacher, data) if teacher else None,
            weights,
            minutes=minutes,
            resume=resume,
            force=force,
            torch_device=o.resolve_torch_device(torch_device),
            report_progress=report_progress,
        )
    _print_learned(learned, json_summary)


def _print_learned(learned: Learned, json_summary: bool) -> None:
    from dataclasses import asdict

    config = learned.config
    found = learned.validation
    if json_summary:
        print_json(
            {
                "weights": str(learned.weights),
                "sha256": learned.sha256,
                "method": config.method,
                "epochs": config.epochs,
                "validation": asdict(found),
            }
        )
        return
    print(
        f"{learned.weights}: {config.architecture} by {config.method}, best of {config.epochs} "
        f"epochs at {found.epoch}; held-out training images: clean "
        f"{100 * found.clean_accuracy:.1f} %, pgd10 {100 * found.robust_accuracy:.1f} %"
    )
