"""The commands that learn, `teach` and `distill`, and the `recipes` that they take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ard.commands import flags as o
from ard.data.registry import KNOWN
from ard.methods.registry import ANCHORS, INNER, methods_that
from edge_bench.commands.bench_flags import floats_of
from edge_bench.commands.console import print_json, progress, warn
from edge_bench.core.errors import InputError
from edge_bench.core.progress import silent

if TYPE_CHECKING:
    from ard.data.splits import Dataset
    from ard.learning.config import TrainConfig
    from ard.learning.learn import Learned
    from ard.learning.recipes import Layer
    from ard.learning.start import Start
    from ard.learning.teacher import Teacher
    from ard.processes.world import World

    Starter = Callable[[TrainConfig, Dataset], Start]

# What a command chooses where the config has no default; a recipe may choose otherwise.
TEACH_DEFAULTS = {"method": "trades", "epsilon": 8 / 255}
DISTILL_DEFAULTS = {"method": "ard", "epsilon": 8 / 255}
# What --qat has in place of the settings by which the weights were trained from scratch.
QAT_DEFAULTS = {
    "qat": o.DEFAULT_TARGET,
    "epochs": 2,
    "learning_rate": 0.01,
    "schedule": "one-cycle",
    "milestones": (),
    "precision": "fp32",
    "patience": 0,
}
# What --pretrained has: the rate of training from scratch would undo what was learnt.
PRETRAINED_DEFAULTS = {"learning_rate": 0.01}


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
            ".pt, .pth); a head of other classes is made anew. The learning rate is 0.01 then, "
            "where not given.",
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
    init: Annotated[
        Path | None,
        typer.Option(
            help="Start from these weights; settings that are not given are theirs.",
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
        "loss.ranking.space", "zscore, logits or probabilities.", "zscore", panel=o.Ranking
    )
    k: float | None = o.setting(
        "loss.ranking.k", "Steepness of the soft comparison.", "2", panel=o.Ranking
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
        "loss.anchor", f"What fixes the scale: {', '.join(ANCHORS)}.", "rslad", panel=o.Ranking
    )


def _teach(flags: TeachFlags) -> None:
    """Train a teacher adversarially; writes OUT/teacher.safetensors.

    Example: ardx teach --dataset cifar10 --arch resnet18 --method trades --out runs/teacher
    """
    from ard.processes.torchrun import joined

    with joined() as world:
        settings = _settings(flags, TEACH_DEFAULTS | _of_pretrained(flags), distils=False)
        start = _pretrained_start(flags, world)
        _learn("teach", flags, settings, flags.out / "teacher.safetensors", None, world, start)


def _distill(flags: DistillFlags) -> None:
    """Distil a robust student from a robust teacher; writes OUT/student.safetensors.

    Example: ardx distill --config cifar10-resnet18 --teacher runs/teacher/teacher.safetensors
    --set loss.ranking.k=3 --out runs/student

    Example: ardx distill --qat --target arm --init runs/student/student.safetensors
    --teacher runs/teacher/teacher.safetensors --out runs/student-arm
    """
    from ard.processes.torchrun import joined

    def teachers(data: Dataset) -> tuple[Teacher, Teacher | None]:
        from ard.learning.teacher import load_teacher

        clean = load_teacher(flags.clean_teacher, None, data) if flags.clean_teacher else None
        tell = warn if world.leads else say_nothing
        return load_teacher(flags.teacher, flags.teacher_arch, data, reading, tell), clean

    from ard.models.checkpoints import Reading, say_nothing

    reading = Reading(
        key=flags.teacher_key,
        mean=floats_of(flags.teacher_mean, "--teacher-mean"),
        std=floats_of(flags.teacher_std, "--teacher-std"),
    )
    start = _of_start(flags)
    if flags.target is not None:
        flags = replace(flags, target=o.target_of(flags.target))
    with joined() as world:
        settings = _settings(flags, DISTILL_DEFAULTS | start, distils=True)
        _learn(
            "distill",
            flags,
            settings,
            flags.out / "student.safetensors",
            teachers,
            world,
            _init_start(flags.init) if flags.init else _pretrained_start(flags, world),
        )


def _init_start(path: Path) -> Starter:
    def load(config: TrainConfig, data: Dataset) -> Start:
        from ard.learning.start import load_start

        return load_start(path, config, data)

    return load


def _pretrained_start(flags: LearningFlags, world: World) -> Starter | None:
    path = flags.pretrained
    if path is None:
        return None
    reading = o.reading_of(flags.foreign)

    def load(config: TrainConfig, data: Dataset) -> Start:
        from ard.learning.start import load_pretrained_start
        from ard.models.checkpoints import say_nothing

        tell = warn if world.leads else say_nothing
        return load_pretrained_start(path, config, data, reading, tell)

    return load


def _of_pretrained(flags: LearningFlags) -> Layer:
    """What --pretrained chooses where neither a recipe nor a flag does."""
    if flags.pretrained is not None:
        return PRETRAINED_DEFAULTS
    reason = "is said of the weights of --pretrained, and none were given"
    foreign = flags.foreign
    o.refuse_beside(reason, {"--key": foreign.key, "--mean": foreign.mean, "--std": foreign.std})
    return {}


def _of_start(flags: DistillFlags) -> Layer:
    """What --init and --qat choose where neither a recipe nor a flag does."""
    if flags.qat and flags.init is None:
        raise InputError("--qat: fine-tunes trained weights; give them as --init")
    if flags.target is not None and not flags.qat:
        raise InputError(f"--target {flags.target}: is what --qat trains for; add --qat")
    if flags.init is None:
        return _of_pretrained(flags)
    o.refuse_beside(
        "--init gives the weights to start from already", {"--pretrained": flags.pretrained}
    )
    _of_pretrained(flags)
    from ard.learning.recipes import settings_of_card
    from ard.models.weight_files import load_model

    settings = settings_of_card(load_model(flags.init)[1], distils=True)
    return settings | (QAT_DEFAULTS if flags.qat else {})


teach = o.command("teach", TeachFlags, _teach)
distill = o.command("distill", DistillFlags, _distill)


def _settings(flags: LearningFlags, defaults: Layer, distils: bool) -> Layer:
    """All settings that were given, the most explicit last."""
    from ard.learning.recipes import convert, find_recipe, merge, parse_sets, read_recipe
    from ard.methods.registry import method_named

    given = {
        key: convert(key, value, option)
        for key, option, value in o.settings_of(flags)
        if value is not None
    }
    if {"epochs", "minutes"} <= given.keys():
        raise InputError(
            f"--epochs {flags.epochs} with --minutes {flags.minutes:g}: the minutes choose the "
            "epochs; give one of the two"
        )
    recipe = read_recipe(find_recipe(flags.config)) if flags.config else {}
    settings = merge(defaults, recipe, parse_sets(flags.sets or []), given)
    for key, option, _ in o.settings_of(flags):
        if key in ("dataset", "architecture") and key not in settings:
            raise InputError(
                f"{option}: neither given nor in a recipe; give {option}, or a recipe with "
                f"{key} in it by --config"
            )
    method_named(settings["method"], distils)
    return settings


def _learn(
    label: str,
    flags: LearningFlags,
    settings: Layer,
    weights: Path,
    teachers: Callable[[Dataset], tuple[Teacher, Teacher | None]] | None,
    world: World,
    starter: Starter | None = None,
) -> None:
    """Run what both commands share; `teachers` loads those that fit the dataset."""
    from ard.data.datasets import load_dataset
    from ard.learning.learn import learn
    from ard.learning.recipes import build_config

    config = build_config(settings)
    data = world.first_here(
        lambda: load_dataset(
            config.dataset, flags.data_dir, download=flags.download, image_size=flags.image_size
        )
    )
    if world.leads:
        o.tell_skipped(data.skipped)
    torch_device = world.own_device(o.resolve_torch_device(flags.torch_device))
    teacher, clean_teacher = teachers(data) if teachers else (None, None)
    start = starter(config, data) if starter else None
    asked = {"teacher": teacher, "clean_teacher": clean_teacher}
    measured = {
        name: _measured(flags, name, one, data, torch_device, world)
        for name, one in asked.items()
        if one is not None
    }
    with progress(label) if world.leads else silent(label) as report_progress:
        learned = learn(
            config,
            data,
            teacher,
            weights,
            clean_teacher=clean_teacher,
            start=start,
            minutes=settings.get("minutes"),
            resume=flags.resume,
            force=flags.force,
            torch_device=torch_device,
            world=world,
            tensorboard=flags.tensorboard,
            report_progress=report_progress,
        )
    if world.leads:
        _print_learned(learned, measured, flags.json_summary)


def _measured(
    flags: LearningFlags,
    name: str,
    teacher: Teacher,
    data: Dataset,
    torch_device: str,
    world: World,
) -> dict[str, float]:
    """What a teacher keeps of held-out images, told before anything is trained on it."""
    from ard.learning.teacher import Measured, doubt_about, measure

    found = world.from_first(lambda: asdict(measure(teacher, data, torch_device)))
    if world.leads:
        if not flags.json_summary:
            print(
                f"{name.replace('_', ' ')}: clean accuracy {100 * found['clean_accuracy']:.1f} % "
                f"on {found['images']:,} held-out training images"
            )
        if doubt := doubt_about(teacher, Measured(**found), data.classes):
            warn(doubt)
    return found


def _print_learned(
    learned: Learned, measured: dict[str, dict[str, float]], json_summary: bool
) -> None:
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
                **measured,
            }
        )
        return
    print(
        f"{learned.weights}: {config.architecture} by {config.method}"
        f"{f' as INT8 for {config.qat}' if config.qat else ''}, best of {config.epochs} "
        f"epochs at {found.epoch}; held-out training images: clean "
        f"{100 * found.clean_accuracy:.1f} %, pgd10 {100 * found.robust_accuracy:.1f} %"
    )


def recipes(json_summary: o.Json = False) -> None:
    """List the recipes that come with ardx, for teach and distill --config.

    Example: ardx recipes
    """
    from ard.learning.recipes import presets, read_toml

    tables = {name: read_toml(path) for name, path in presets().items()}
    if json_summary:
        files = {name: {"file": str(path)} for name, path in presets().items()}
        print_json({name: files[name] | {"settings": table} for name, table in tables.items()})
        return
    width = max(map(len, tables), default=0)
    for name, table in tables.items():
        print(f"{name:{width}}  {table.get('description', '')}".rstrip())
