"""The options of `teach` and `distill`, in the order in which help shows them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ard.commands import flags as o
from ard.data.registry import KNOWN
from ard.methods.registry import ANCHORS, INNER, methods_that


def _inner(of_a_teacher: bool) -> str:
    return ", ".join(n for n, inner in INNER.items() if inner.needs_teacher == of_a_teacher)


@dataclass(frozen=True, kw_only=True)
class LearningFlags:
    """What `teach` and `distill` both take; a setting that is None is left to the recipe."""

    out: o.Out
    pretrained: Annotated[
        Path | None,
        typer.Option(
            help="Start from weights of the same architecture in a file of anyone's (.safetensors, "
            ".pt, .pth), or by name from those that torchvision (IMAGENET1K_V1) or timm (default, "
            "or a tag) publish, with --download; a head of other classes is made anew. The "
            "learning rate is 0.01 then, or 0.05 on a processor for images of 64 pixels or more, "
            "where not given.",
            metavar="FILE|NAME",
            rich_help_panel=o.Quantised,
        ),
    ] = None
    foreign: o.ForeignFlags
    config: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|NAME",
            help="Recipe: a TOML file, or a preset that `ardx recipes` lists; flags win over it.",
        ),
    ] = None
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A setting by its name in a recipe, such as loss.ranking.k=5; may be repeated.",
        ),
    ] = None
    epsilon: str | None = o.setting(
        "epsilon", "L-inf budget on images in [0, 1].", "8/255", panel=None
    )
    step_size: str | None = o.setting(
        "step_size", "Attack step on images in [0, 1].", "epsilon / 4", panel=None
    )
    seed: int | None = o.setting(
        "seed", "Seed of every random draw.", "0", panel=None, bounds=(0, 2**31 - 1)
    )
    inner_steps: int | None = o.setting("inner_steps", "Attack steps in training.", "10")
    inner: str | None = o.setting(
        "inner",
        f"What that attack ascends: {_inner(False)}, or of a teacher {_inner(True)}.",
        "the method's",
    )
    epochs: int | None = o.setting("epochs", "Passes over the data.", "30")
    minutes: float | None = o.setting(
        "minutes", "Choose --epochs to fit this time, by timing a few steps.", "not used"
    )
    batch_size: int | None = o.setting("batch_size", "Images per update.", "128")
    learning_rate: float | None = o.setting(
        "learning_rate", "Largest learning rate of the schedule.", "0.1"
    )
    weight_decay: float | None = o.setting("weight_decay", "L2 penalty.", "0.0005")
    clip_norm: float | None = o.setting(
        "clip_norm", "Scale gradients down to this norm where larger; 0 is off.", "0"
    )
    ema_decay: float | None = o.setting(
        "ema_decay", "Decay of the weight average that is kept.", "0.995"
    )
    validate_every: int | None = o.setting("validate_every", "Epochs between validations.", "1")
    patience: int | None = o.setting(
        "patience", "Stop after so many validations without a better one; 0 is off.", "0"
    )
    precision: str | None = o.setting(
        "precision",
        "fp32, bf16, or auto: bf16 where the device is fast at it; validation is fp32 always.",
        "fp32",
    )
    compile: bool | None = o.setting("compile", "Compile the student by torch.compile.", "no")
    cuda_graphs: bool | None = o.setting(
        "cuda_graphs", "Record the compiled student's passes as CUDA graphs.", "no"
    )
    tensorboard: Annotated[
        bool,
        typer.Option(
            "--tensorboard",
            help="Write the metrics for TensorBoard too, into OUT/tensorboard.",
            rich_help_panel=o.Training,
        ),
    ] = False
    torch_device: o.TorchDevice = "auto"
    dataset: str | None = o.setting("dataset", f"{KNOWN}.", "the recipe's", panel=o.Data)
    train_fraction: float | None = o.setting(
        "train_fraction",
        "Stratified part of the training data to use; the held-out part stays whole.",
        "1",
        panel=o.Data,
    )
    data_dir: o.DataDir = o.DEFAULT_DATA_DIR
    download: o.Download = False
    image_size: o.ImageSize = None
    resize: o.Resize = None
    resume: o.Resume = False
    force: o.Force = False
    json_summary: o.Json = False


@dataclass(frozen=True, kw_only=True)
class TeachFlags(LearningFlags):
    """What `teach` takes."""

    arch: str | None = o.setting(
        "architecture",
        f"Architecture: {o.ARCHITECTURE}",
        "the recipe's",
        panel=None,
    )
    method: str | None = o.setting(
        "method", f"{', '.join(methods_that(distil=False))}.", "trades", panel=None
    )
    beta: float | None = o.setting(
        "loss.beta", "Robust weight of trades and mart.", "the method's", panel=None
    )


@dataclass(frozen=True, kw_only=True)
class DistillFlags(LearningFlags):
    """What `distill` takes."""

    teacher: Annotated[Path, typer.Option(help="Teacher's weights: ours, or a published .pt.")]
    teacher_arch: Annotated[
        str | None,
        typer.Option(
            help="What a published file is: its name in `ardx teachers`, or architecture."
        ),
    ] = None
    teacher_key: Annotated[
        str | None,
        typer.Option(
            help="Where in a published file the weights lie, such as ema; the plain ones otherwise."
        ),
    ] = None
    teacher_mean: Annotated[
        str | None,
        typer.Option(
            help="Channel means of a published teacher's normalisation, where neither its file nor "
            "`ardx teachers` holds it: 0.5,0.5,0.5."
        ),
    ] = None
    teacher_std: Annotated[
        str | None, typer.Option(help="Channel deviations, like --teacher-mean.")
    ] = None
    clean_teacher: Annotated[
        Path | None,
        typer.Option(help="Of mtard: weights of a second teacher, trained on clean images."),
    ] = None
    student: str | None = o.setting(
        "architecture", f"Architecture: {o.ARCHITECTURE}", "the recipe's", panel=None
    )
    unlabelled: str | None = o.setting(
        "unlabelled",
        "Pictures without labels to learn from, too: a folder, an .npz file of uint8 images, or "
        "rest: what --train-fraction leaves; none takes back what a recipe or the weights of "
        "--init had. An epoch is a pass over all.",
        "none",
        panel=o.Data,
    )
    unlabelled_min_confidence: float | None = o.setting(
        "unlabelled_min_confidence",
        "Leave such pictures out of whose class the teacher is less sure, 0 to 1.",
        "0",
        panel=o.Data,
    )
    init: Annotated[
        Path | None,
        typer.Option(
            help="Start from these weights; settings that are not given are theirs, but for how "
            "long an epoch is and how often it is validated, and for the objective of another "
            "method.",
            rich_help_panel=o.Quantised,
        ),
    ] = None
    qat: Annotated[
        bool,
        typer.Option(
            "--qat",
            help="Fine-tune them as the INT8 network that will be deployed: weights and "
            "activations rounded, scales learnt, in the attack and the update. Where not given, "
            "2 epochs and a learning rate of 0.01.",
            rich_help_panel=o.Quantised,
        ),
    ] = False
    target: str | None = o.setting(
        "qat",
        "Of --qat: x86, x86-vnni, arm, tensorrt, tensorrt-rtx or auto, as of export.",
        "x86",
        panel=o.Quantised,
    )
    method: str | None = o.setting(
        "method",
        f"{', '.join(methods_that(distil=True))}.",
        "ard",
        panel=None,
    )
    agreement: str | None = o.setting(
        "loss.ranking.agreement", "kendall or spearman.", "kendall", panel=o.Ranking
    )
    score_space: str | None = o.setting(
        "loss.ranking.space",
        "zscore, teacher_scale, logits or probabilities.",
        "zscore",
        panel=o.Ranking,
    )
    k: float | None = o.setting(
        "loss.ranking.k", "Steepness of the soft comparison.", "1", panel=o.Ranking
    )
    normalisation: str | None = o.setting(
        "loss.ranking.normalisation", "Of kendall: pairs or cosine.", "pairs", panel=o.Ranking
    )
    hard_teacher: bool | None = o.setting(
        "loss.ranking.hard_teacher", "Compare the teacher by sign.", "no", panel=o.Ranking
    )
    teacher_input: str | None = o.setting(
        "loss.ranking.teacher_input", "adversarial or clean.", "adversarial", panel=o.Ranking
    )
    weight_class: float | None = o.setting(
        "loss.ranking.weight_class", "Weight of the class level.", "1", panel=o.Ranking
    )
    weight_sample: float | None = o.setting(
        "loss.ranking.weight_sample", "Weight of the sample level.", "1", panel=o.Ranking
    )
    weight_discrepancy: float | None = o.setting(
        "loss.ranking.weight_discrepancy",
        "Weight of the discrepancy level.",
        "0.5",
        panel=o.Ranking,
    )
    anchor: str | None = o.setting(
        "loss.anchor",
        f"Whose objective fixes the scale, and whose attack trains: {', '.join(ANCHORS)}.",
        "igdm",
        panel=o.Ranking,
    )
