"""The commands that learn, `teach` and `distill`, and the `recipes` that they take.

Their options are in `learn_flags`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ard.commands import flags as o
from ard.commands.learn_flags import DistillFlags, LearningFlags, TeachFlags
from ard.commands.learn_settings import Asked, asked_of, chosen_for, tell_chosen
from ard.commands.started import begun
from edge_bench.commands.benching.asked import floats_of
from edge_bench.core.errors import InputError
from edge_bench.core.progress import silent
from edge_bench.terminal.console import print_json, progress, say, warn

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


def _teach(flags: TeachFlags) -> None:
    """Train a teacher adversarially; writes OUT/teacher.safetensors.

    Example: ardx teach --dataset cifar10 --arch resnet18 --method trades --out runs/teacher
    """
    from ard.processes.torchrun import joined

    since = begun()
    with joined() as world:
        asked = asked_of(flags, TEACH_DEFAULTS | _of_pretrained(flags), {}, distils=False)
        start = _pretrained_start(flags, world)
        out = flags.out / "teacher.safetensors"
        _learn("teach", flags, asked, out, None, world, start, since)


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

    since = begun()
    reading = Reading(
        key=flags.teacher_key,
        mean=floats_of(flags.teacher_mean, "--teacher-mean"),
        std=floats_of(flags.teacher_std, "--teacher-std"),
    )
    start = _of_start(flags)
    if flags.target is not None:
        flags = replace(flags, target=o.target_of(flags.target))
    with joined() as world:
        asked = asked_of(flags, DISTILL_DEFAULTS | _of_pretrained(flags), start, distils=True)
        _learn(
            "distill",
            flags,
            asked,
            flags.out / "student.safetensors",
            teachers,
            world,
            _init_start(flags.init) if flags.init else _pretrained_start(flags, world),
            since,
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
        return world.first_here(
            lambda: load_pretrained_start(
                path, config, data, reading, tell, download=flags.download
            )
        )

    return load


def _of_pretrained(flags: LearningFlags) -> Layer:
    """What --pretrained chooses where neither pictures, a recipe nor a flag do."""
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
        return {}
    o.refuse_beside(
        "--init gives the weights to start from already", {"--pretrained": flags.pretrained}
    )
    from ard.learning.recipes import settings_of_card
    from ard.models.weight_files import load_model

    settings = settings_of_card(load_model(flags.init)[1], distils=True)
    return settings | (QAT_DEFAULTS if flags.qat else {})


teach = o.command("teach", TeachFlags, _teach)
distill = o.command("distill", DistillFlags, _distill)


def _learn(
    label: str,
    flags: LearningFlags,
    asked: Asked,
    weights: Path,
    teachers: Callable[[Dataset], tuple[Teacher, Teacher | None]] | None,
    world: World,
    starter: Starter | None,
    since: float,
) -> None:
    """Run what both commands share; `teachers` loads those that fit the dataset."""
    from ard.learning.learn import learn
    from ard.learning.recipes import build_config
    from ard.learning.teacher import attacked_within
    from ard.models.checkpoints import say_nothing

    # Refused before the data are read, where it is wrong whatever they are.
    data = _data(flags, build_config(asked.settings()).dataset, world)
    torch_device = world.own_device(o.resolve_torch_device(flags.torch_device))
    teacher, clean_teacher = teachers(data) if teachers else (None, None)
    picked = chosen_for(flags, asked, data, teacher, torch_device)
    settings = asked.settings(picked)
    config = build_config(settings)
    if world.leads and not flags.json_summary:
        tell_chosen(picked, data)
    start = starter(config, data) if starter else None
    given = {"teacher": teacher, "clean_teacher": clean_teacher}
    attacked = attacked_within(settings.get("minutes"))
    measured: dict[str, dict[str, float]] = {}

    def measure_teachers() -> None:
        for name, one in given.items():
            if one is not None:
                measured[name] = _measured(
                    flags, name, one, data, torch_device, world, config, attacked
                )

    with progress(label) if world.leads else silent(label) as report_progress:
        learned = learn(
            config,
            data,
            teacher,
            weights,
            clean_teacher=clean_teacher,
            start=start,
            minutes=settings.get("minutes"),
            begun=since,
            resume=flags.resume,
            force=flags.force,
            torch_device=torch_device,
            world=world,
            tensorboard=flags.tensorboard,
            tell=say if world.leads and not flags.json_summary else say_nothing,
            when_checked=measure_teachers,
            report_progress=report_progress,
        )
    if world.leads:
        _print_learned(learned, measured, picked, flags.json_summary)


def _data(flags: LearningFlags, name: str, world: World) -> Dataset:
    """The pictures to learn, and what was passed over among them told."""
    from ard.data.datasets import load_dataset

    # A network learns from pictures that are prepared as those of its teacher and its start.
    given = (getattr(flags, option, None) for option in ("init", "teacher"))
    size, resize = o.size_for(name, flags.image_size, flags.resize, *given)
    data = world.first_here(
        lambda: load_dataset(
            name, flags.data_dir, download=flags.download, image_size=size, resize=resize
        )
    )
    if world.leads:
        o.tell_skipped(data.skipped)
    return data


def _measured(
    flags: LearningFlags,
    name: str,
    teacher: Teacher,
    data: Dataset,
    torch_device: str,
    world: World,
    config: TrainConfig,
    attacked: int,
) -> dict[str, float]:
    """What a teacher keeps of held-out images, told before anything is trained on it."""
    from ard.learning.teacher import Measured, doubt_about, doubt_about_confidence, measure

    # The robust teacher as the student hears it; the clean one is heard as it is.
    heat = config.loss.teacher_temperature if name == "teacher" else 1.0
    found = Measured(
        **world.from_first(
            lambda: asdict(measure(teacher, data, torch_device, config.epsilon, attacked, heat))
        )
    )
    if world.leads:
        if not flags.json_summary:
            say(f"{name.replace('_', ' ')}: {found}")
        doubts = [doubt_about(teacher, found, data.classes)]
        if name == "teacher":
            # Of one that was trained on clean images nobody expects robustness.
            doubts.append(doubt_about_confidence(found))
        for doubt in filter(None, doubts):
            warn(doubt)
    return asdict(found)


def _print_learned(
    learned: Learned,
    measured: dict[str, dict[str, float]],
    picked: Layer,
    json_summary: bool,
) -> None:
    config = learned.config
    found = learned.validation
    if json_summary:
        print_json(
            {
                "weights": str(learned.weights),
                "sha256": learned.sha256,
                "method": config.method,
                "epochs": learned.epochs,
                "chosen": picked,
                "validation": asdict(found),
                "unlabelled_images": learned.unlabelled_images,
                **measured,
            }
        )
        return
    say(
        f"{learned.weights}: {config.architecture} by {config.method}"
        f"{f' as INT8 for {config.qat}' if config.qat else ''}, best of {learned.epochs} "
        f"epochs at {found.epoch}; held-out training images: clean "
        f"{100 * found.clean_accuracy:.1f} %, pgd10 {100 * found.robust_accuracy:.1f} %"
    )
    names = learned.class_names
    worst = (
        f"{what} {100 * share:.1f} % ({names[label] if names else label})"
        for what, share, label in (
            ("clean", found.worst_clean, found.worst_clean_class),
            ("pgd10", found.worst_robust, found.worst_robust_class),
        )
        if share is not None and label is not None
    )
    if told := ", ".join(worst):
        say(f"worst class there: {told}")


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
        say(f"{name:{width}}  {table.get('description', '')}".rstrip())
