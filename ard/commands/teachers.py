"""The command that lists known robust checkpoints and checks a downloaded one: `teachers`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ard.commands import flags as o
from edge_bench.commands.benching.asked import floats_of
from edge_bench.core.errors import InputError
from edge_bench.terminal.console import print_json, print_table, say, warn

if TYPE_CHECKING:
    from ard.models.published.checkpoints import KnownTeacher

HEADER = ["name", "dataset", "architecture", "clean", "AutoAttack", "licence", "file"]
BUDGET = "8/255"


@dataclass(frozen=True, kw_only=True)
class TeachersFlags:
    """The options of `teachers`."""

    file: Annotated[
        Path | None, typer.Argument(help="A file to check or measure, instead of the list.")
    ] = None
    name: Annotated[
        str | None, typer.Option(help="Which teacher FILE is, where it was renamed.")
    ] = None
    key: Annotated[
        str | None,
        typer.Option(
            "--teacher-key", help="Where in FILE the weights lie, such as ema; as of distill."
        ),
    ] = None
    dataset: Annotated[
        str | None,
        typer.Option(help="cifar10 or cifar100; of --measure, any that distill takes."),
    ] = None
    measured: Annotated[
        bool,
        typer.Option(
            "--measure",
            help="Measure FILE, ours or a published one, as a teacher on held-out images: what it "
            "keeps, clean and after PGD-10, and how sure it is of what it says then.",
        ),
    ] = False
    epsilon: Annotated[
        str | None, typer.Option(help="Of --measure: L-inf budget. Default: 8/255.")
    ] = None
    limit: Annotated[
        int | None,
        typer.Option(help="Of --measure: held-out images to attack, at most. Default: 200.", min=1),
    ] = None
    teacher_arch: Annotated[
        str | None, typer.Option(help="Of --measure: what a published FILE is, as of distill.")
    ] = None
    teacher_mean: Annotated[
        str | None,
        typer.Option(help="Of --measure: channel means of its normalisation, as of distill."),
    ] = None
    teacher_std: Annotated[
        str | None, typer.Option(help="Of --measure: channel deviations, like --teacher-mean.")
    ] = None
    image_size: o.ImageSize = None
    resize: o.Resize = None
    data_dir: o.DataDir = o.DEFAULT_DATA_DIR
    torch_device: o.TorchDevice = "auto"
    json_summary: o.Json = False


OF_MEASURE = (
    "epsilon",
    "limit",
    "teacher_arch",
    "teacher_mean",
    "teacher_std",
    "image_size",
    "resize",
    "torch_device",
)


def run_teachers(flags: TeachersFlags) -> None:
    """List known robust checkpoints, or check that a downloaded file loads as one of them.

    Nothing is downloaded. `ardx distill --teacher FILE` knows these files by their names.

    Example: ardx teachers --dataset cifar10

    Example: ardx teachers --measure teacher.safetensors --dataset cifar10
    """
    from ard.models.published.checkpoints import teacher_named, teachers_of

    if flags.measured:
        _measure(flags)
        return
    for name in OF_MEASURE:
        value, unless = getattr(flags, name), "auto" if name == "torch_device" else None
        if value != unless:
            raise InputError(f"--{name.replace('_', '-')} {value}: is of --measure; add it")
    if flags.key is not None and flags.file is None:
        raise InputError(f"--teacher-key {flags.key}: is a place in FILE; name the file, too")
    listed = teachers_of(flags.dataset)
    if flags.file is not None:
        _check(flags.file, flags.name, flags.dataset, flags.key, flags.json_summary)
        return
    if flags.name is not None:
        listed = [teacher_named(flags.name, flags.dataset)]
    if flags.json_summary:
        print_json({"teachers": [asdict(teacher) for teacher in listed]})
        return
    pages = dict.fromkeys(file.page for teacher in listed for file in teacher.files)
    for page in pages:
        print_table(page, HEADER, _rows(listed, page))
    for epsilon in sorted({teacher.epsilon for teacher in listed} - {BUDGET}):
        say(f"*: at L-inf {epsilon} instead of {BUDGET}")


teachers = o.command("teachers", TeachersFlags, run_teachers)


def _rows(listed: list[KnownTeacher], page: str) -> list[list[str]]:
    return [
        [
            teacher.name,
            teacher.dataset,
            teacher.architecture,
            f"{100 * teacher.clean_accuracy:.2f} %",
            f"{100 * teacher.autoattack_accuracy:.2f} %" + "*" * (teacher.epsilon != BUDGET),
            teacher.licence or "-",
            file.name,
        ]
        for teacher in listed
        for file in teacher.files
        if file.page == page
    ]


def _check(
    file: Path, name: str | None, dataset: str | None, key: str | None, json_summary: bool
) -> None:
    from ard.models.published.checkpoints import teacher_named, teacher_of_file

    teacher = teacher_named(name, dataset) if name else teacher_of_file(file, dataset)
    if teacher is None:
        raise InputError(
            f"{file}: no known teacher is published under this file name; give --name with one "
            "that `ardx teachers` lists"
        )
    from ard.models.checkpoints import Reading
    from ard.models.weight_files import load_known

    model, sha256 = load_known(file, teacher, Reading(key=key), warn)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    if json_summary:
        print_json(
            {
                "file": str(file),
                "name": teacher.name,
                "dataset": teacher.dataset,
                "architecture": teacher.architecture,
                "parameters": parameters,
                "sha256": sha256,
            }
        )
        return
    say(
        f"{file}: loads as {teacher.name} ({teacher.dataset}, {teacher.architecture}, "
        f"{parameters:,} parameters)"
    )
    say(f"sha256 {sha256}, to be compared by you: no published one is known")


def _measure(flags: TeachersFlags) -> None:
    from ard.data.datasets import load_dataset
    from ard.learning.teacher import (
        ATTACKED,
        doubt_about,
        doubt_about_confidence,
        load_teacher,
        measure,
    )
    from ard.models.checkpoints import Reading
    from edge_bench.core.spec import parse_epsilon

    if flags.file is None or flags.dataset is None:
        raise InputError("--measure: give the teacher's FILE, and --dataset that it is for")
    if None not in (flags.name, flags.teacher_arch):
        raise InputError(
            f"--name {flags.name}: says what FILE is, and --teacher-arch {flags.teacher_arch} says "
            "it, too; leave one out"
        )
    size, resize = o.size_for(flags.dataset, flags.image_size, flags.resize, flags.file)
    data = load_dataset(flags.dataset, flags.data_dir, image_size=size, resize=resize)
    reading = Reading(
        key=flags.key,
        mean=floats_of(flags.teacher_mean, "--teacher-mean"),
        std=floats_of(flags.teacher_std, "--teacher-std"),
    )
    teacher = load_teacher(flags.file, flags.teacher_arch or flags.name, data, reading, warn)
    budget = parse_epsilon(flags.epsilon or BUDGET)
    torch_device = o.resolve_torch_device(flags.torch_device)
    found = measure(teacher, data, torch_device, budget, flags.limit or ATTACKED)
    doubts = [doubt_about(teacher, found, data.classes), doubt_about_confidence(found)]
    told = [doubt for doubt in doubts if doubt is not None]
    if flags.json_summary:
        measured = asdict(found)
        print_json({"file": str(flags.file), "sha256": teacher.sha256, **measured, "doubts": told})
        return
    say(f"{flags.file}: {found}")
    for doubt in told:
        warn(doubt)
