"""Train and judge every run of a grid file; one JSON line per finished run.

    python benchmarks/methods/run.py benchmarks/methods/cifar10.toml --data-dir DIR \
        --teacher TEACHER --clean-teacher CLEAN --work runs/methods

Runs whose line is there already are skipped, so the same command goes on after an interruption
(a run that was cut off resumes from its checkpoint), and lines of later runs add to the earlier
ones. Several processes may share one grid: each takes what no other is at.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from ard.attacks import parse_attack
from ard.config import TrainConfig
from ard.data import Dataset, Split, take_limit
from ard.datasets import load_dataset
from ard.evaluate import evaluate_attack
from ard.models import Classifier
from ard.recipes import build_config, convert, merge, read_toml
from ard.stages import Teacher, learn, load_teacher
from ard.train import CHECKPOINT
from edge_bench.console import progress
from edge_bench.errors import ArdxError
from edge_bench.metrics import BoolArray

HERE = Path(__file__).parent
SELECTION = "validation"
JUDGED = "test"


def main(
    grid: Annotated[Path, typer.Argument(help="The grid file.")],
    teacher: Annotated[Path, typer.Option(help="The robust teacher's weights.")],
    work: Annotated[Path, typer.Option(help="Folder for weights and checkpoints.")],
    lines: Annotated[Path, typer.Option(help="Where finished runs are written.")] = (
        HERE.parent.parent / "docs/results/methods.jsonl"
    ),
    data_dir: Annotated[Path, typer.Option(help="Folder with the dataset.")] = Path("data"),
    clean_teacher: Annotated[Path | None, typer.Option(help="For methods with two.")] = None,
    stage: Annotated[str | None, typer.Option(help="Only the runs of this stage.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Start no run after this time.")] = None,
    threads: Annotated[int, typer.Option(help="Threads of this process.")] = 1,
) -> None:
    """Train and judge every run of GRID that has no line yet."""
    torch.set_num_threads(threads)
    begin = time.monotonic()
    table = read_toml(grid)
    dataset = load_dataset(table["common"]["dataset"], data_dir)
    for run in expand(table):
        if stage is not None and run["stage"] != stage:
            continue
        if minutes is not None and time.monotonic() - begin > 60 * minutes:
            break
        folder = work / run["id"]
        with claim(folder) as is_ours:
            if not is_ours or run["id"] in finished(lines):
                continue
            line = one_run(run, table["judge"], dataset, teacher, clean_teacher, folder)
            append(lines, line)


def expand(table: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The runs of a grid, one per seed, in the file's order."""
    for entry in table["runs"]:
        for seed in entry.get("seeds", [0]):
            where = f"{entry['stage']} {entry['label']}"
            settings = merge(
                {
                    key: convert(key, value, f"{where}: {key}")
                    for key, value in flat(table["common"] | {"seed": seed}).items()
                },
                {
                    key: convert(key, value, f"{where}: {key}")
                    for key, value in flat(entry.get("set", {})).items()
                },
            )
            key = json.dumps(settings, sort_keys=True, default=str)
            yield {
                "id": f"{entry['label']}-{seed}-{hashlib.sha256(key.encode()).hexdigest()[:8]}",
                "stage": entry["stage"],
                "label": entry["label"],
                "seed": seed,
                "settings": settings,
                "attacks": entry.get("attacks"),
            }


def flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables to dotted keys."""
    found: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


@contextmanager
def claim(folder: Path) -> Iterator[bool]:
    """Whether this process may work on the run; a process that dies gives its claims back."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "claim").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def finished(lines: Path) -> set[str]:
    """Identifiers of the runs that have a line."""
    if not lines.exists():
        return set()
    return {json.loads(line)["id"] for line in lines.read_text(encoding="utf-8").splitlines()}


def append(lines: Path, line: dict[str, Any]) -> None:
    """Add one line; a single short write, so that processes do not mix theirs."""
    lines.parent.mkdir(parents=True, exist_ok=True)
    with lines.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, sort_keys=True) + "\n")


def one_run(
    run: dict[str, Any],
    judge: dict[str, Any],
    dataset: Dataset,
    teacher_path: Path,
    clean_teacher_path: Path | None,
    folder: Path,
) -> dict[str, Any]:
    """Train, judge, and tell all that is needed to read the figures later."""
    config = build_config(run["settings"])
    teacher = teacher_of(config, teacher_path, dataset)
    clean_teacher = second_teacher_of(config, clean_teacher_path, dataset)
    begin = time.perf_counter()
    with progress(run["id"]) as report_progress:
        learned = learn(
            config,
            dataset,
            teacher,
            folder / "student.safetensors",
            clean_teacher=clean_teacher,
            resume=(folder / CHECKPOINT).exists(),
            force=True,
            report_progress=report_progress,
        )
    training_seconds = time.perf_counter() - begin
    from ard.checkpoint import load_model

    model, _ = load_model(learned.weights)
    begin = time.perf_counter()
    attacks = run["attacks"] if run["attacks"] is not None else judge["attacks"]
    masks = judged(model, take_limit(dataset.test, judge["images"]), attacks, config)
    return {
        "id": run["id"],
        "stage": run["stage"],
        "label": run["label"],
        "seed": run["seed"],
        "settings": run["settings"],
        "teacher_sha256": teacher.sha256 if teacher else None,
        "weights_sha256": learned.sha256,
        SELECTION: {
            "clean": learned.validation.clean_accuracy,
            "pgd10": learned.validation.robust_accuracy,
            "epoch": learned.validation.epoch,
        },
        JUDGED: {name: float(mask.mean()) for name, mask in masks.items()},
        "masks": {name: pack(mask) for name, mask in masks.items()},
        "images": judge["images"],
        "seconds": {
            "training": round(training_seconds, 1),
            "judging": round(time.perf_counter() - begin, 1),
        },
        "commit": commit(),
        "machine": machine(),
    }


def teacher_of(config: TrainConfig, path: Path, dataset: Dataset) -> Teacher | None:
    """The robust teacher, where the method distils."""
    from ard.losses import LOSSES

    return load_teacher(path, None, dataset) if LOSSES[config.method].distils else None


def second_teacher_of(config: TrainConfig, path: Path | None, dataset: Dataset) -> Teacher | None:
    """The clean teacher, where the method has two."""
    from ard.losses import LOSSES

    if not LOSSES[config.method].needs_second_teacher:
        return None
    if path is None:
        raise typer.BadParameter(f"{config.method} needs --clean-teacher")
    return load_teacher(path, None, dataset)


def judged(
    model: Classifier, split: Split, attacks: list[str], config: TrainConfig
) -> dict[str, BoolArray]:
    """Masks by attack; each attack sees only what the earlier ones left, as in AutoAttack."""
    masks = {"clean": evaluate_attack(model, split, None)}
    survivors = masks["clean"]
    for name in attacks:
        spec = parse_attack(name, epsilon=config.epsilon)
        survivors = evaluate_attack(model, split, spec, correct=survivors)
        masks[name] = survivors
    return masks


def pack(mask: BoolArray) -> str:
    """The bits of a mask as hexadecimal text; the whole bytes come from `unpack` in report.py."""
    return np.packbits(mask).tobytes().hex()


def commit() -> str:
    """The commit of the code, with a plus where files were changed."""
    done = subprocess.run(
        ["git", "-C", str(HERE), "describe", "--always", "--dirty=+", "--abbrev=10"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


def machine() -> str:
    """What computed, in words."""
    device = platform.processor() or platform.machine()
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    return f"{device}, {torch.get_num_threads()} thread(s), torch {torch.__version__}"


if __name__ == "__main__":
    try:
        typer.run(main)
    except ArdxError as error:
        sys.exit(f"error: {error}")
