"""The commands that take long or replace a file, on digits and networks of a few weights."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.reliability.children import run

SMALL = (
    *("--epochs", "3", "--inner-steps", "1", "--epsilon", "0.15", "--train-fraction", "0.2"),
    *("--batch-size", "32", "--learning-rate", "0.05", "--ema-decay", "0.5"),
)
BENCH = ("--seconds", "0.05", "--runs", "20", "--settle-seconds", "0", "--warmup", "2")
TIME_TOLD = re.compile(r'"(created|hidden)": "[^"]*"')


@dataclass(frozen=True, kw_only=True)
class Long:
    """A command, what it needs, and what of its output must be the same however it came about.

    Attributes:
        arguments: of the command line, in a folder that holds the material.
        out: what it writes, relative to that folder; the first is its --out.
        same: the files of `out` to what must not differ; bytes where nothing else is said.
        again: options of the command that goes on after an interruption.
        forces: does it have --force, without which it replaces nothing?
    """

    name: str
    arguments: tuple[str, ...]
    out: tuple[str, ...]
    same: Callable[[Path], str]
    again: tuple[str, ...] = ()
    forces: bool = True


def bytes_of(path: Path) -> str:
    """The sha256 of a file or of every file of a folder, hidden ones included."""
    if path.is_dir():
        parts = {str(p.relative_to(path)): bytes_of(p) for p in path.rglob("*") if p.is_file()}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "missing"


def weights_of(folder: Path) -> str:
    """Of what learning leaves: the weights and the checkpoint to the bit, and the figures told."""
    if not folder.is_dir():
        return "missing"
    found = {p.name: _tensors_of(p) for p in folder.glob("*.safetensors")}
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    figures = [{k: v for k, v in json.loads(line).items() if "second" not in k} for line in lines]
    return json.dumps([found, figures], sort_keys=True)


def _tensors_of(path: Path) -> list[Any]:
    """Tensors to the bit, and metadata, of which safetensors keeps no order."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
        metadata = sorted(file.metadata().items())
    hashes = {
        name: [str(t.dtype), list(t.shape), hashlib.sha256(t.tobytes()).hexdigest()]
        for name, t in tensors.items()
    }
    return [hashes, metadata]


def masks_of(path: Path) -> str:
    """Of a report: everything but times, the sample-by-sample answers among it."""
    if not path.exists():
        return "missing"
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    found = {"clean": data.get("clean_mask"), "sha256": data["artifact"]["sha256"]}
    return json.dumps(found | {s["name"]: s["mask"] for s in data["sets"]}, sort_keys=True)


def fields_of(path: Path) -> str:
    """Of an evaluation: everything but the moment and the time taken."""
    if not path.exists():
        return "missing"
    data = json.loads(path.read_text(encoding="utf-8"))
    return json.dumps({k: v for k, v in data.items() if k not in ("created", "seconds")})


def text_of(path: Path) -> str:
    """Of a text: everything but the moment."""
    return TIME_TOLD.sub("", path.read_text(encoding="utf-8")) if path.exists() else "missing"


LEARN = ("--dataset", "digits")
COMMANDS: tuple[Long, ...] = (
    Long(
        name="teach",
        arguments=(
            *("teach", *LEARN, "--arch", "resnet8:4", "--method", "pgd_at", *SMALL),
            *("--out", "out"),
        ),
        out=("out",),
        same=weights_of,
        again=("--resume",),
    ),
    Long(
        name="distill",
        arguments=(
            *("distill", *LEARN, "--teacher", "teacher.safetensors", "--student", "resnet8:4"),
            *(*SMALL, "--out", "out"),
        ),
        out=("out",),
        same=weights_of,
        again=("--resume",),
    ),
    Long(
        name="adopt",
        arguments=(
            *("adopt", "teacher.safetensors", "--arch", "resnet8:4", *LEARN),
            *("--out", "out.safetensors"),
        ),
        out=("out.safetensors",),
        same=bytes_of,
    ),
    Long(
        name="evaluate",
        arguments=(
            *("evaluate", "teacher.safetensors", "--attacks", "clean,fgsm,pgd5,cw5"),
            *("--limit", "60", "--no-doubts", "--out", "out.json"),
        ),
        out=("out.json",),
        same=fields_of,
    ),
    Long(
        name="attack",
        arguments=(
            *("attack", "teacher.safetensors", "--attack", "pgd20", "--limit", "360"),
            *("--out", "out"),
        ),
        out=("out",),
        same=bytes_of,
    ),
    Long(
        name="export --int8",
        arguments=("export", "teacher.safetensors", "--int8", "--out", "out.onnx"),
        out=("out.onnx", "out.fingerprint.npz"),
        same=bytes_of,
    ),
    Long(
        name="export --max-robust-drop",
        arguments=(
            *("export", "teacher.safetensors", "--int8", "--max-robust-drop", "0.05"),
            *("--budget-images", "40", "--out", "out.onnx"),
        ),
        out=("out.onnx", "out.fingerprint.npz"),
        same=bytes_of,
    ),
    Long(
        name="bundle",
        arguments=(
            *("bundle", "model.onnx", "--sets", "sets", "--min-robust-accuracy", "0.01"),
            *("--out", "out.ardx"),
        ),
        out=("out.ardx",),
        same=bytes_of,
    ),
    Long(
        name="bench",
        arguments=("bench", "model.onnx", "--sets", "sets", *BENCH, "--out", "out.json"),
        out=("out.json",),
        same=masks_of,
    ),
    Long(
        name="gate --update-baseline",
        arguments=(
            *("gate", "report.json", "--min-robust-accuracy", "0", "--baseline", "out.json"),
            *("--update-baseline", "--junit", "out.xml", "--md", "out.md"),
        ),
        out=("out.json", "out.xml", "out.md"),
        same=text_of,
        forces=False,
    ),
    Long(
        name="report",
        arguments=(
            *("report", "report.json", "--sets", "sets", "--html", "out.html"),
            *("--md", "out.md", "--csv", "out.csv"),
        ),
        out=("out.html", "out.md", "out.csv"),
        same=bytes_of,
        forces=False,
    ),
)


def make_material(folder: Path) -> None:
    """One of every file that the commands read: weights, artefact, sets, report.

    Raises:
        RuntimeError: a command failed.
    """
    folder.mkdir(parents=True)
    made = (
        "teach --dataset digits --arch resnet8:4 --method natural --epochs 4 --batch-size 32 "
        "--learning-rate 0.1 --ema-decay 0.5 --epsilon 0.15 --out teacher",
        "export teacher/teacher.safetensors --int8 --out model.onnx",
        "attack teacher/teacher.safetensors --attack pgd5 --epsilon 0.03 --limit 90 "
        "--out sets/pgd5",
        "attack teacher/teacher.safetensors --attack fgsm --epsilon 0.03 --limit 90 "
        "--out sets/fgsm",
        "bench model.onnx --sets sets --out report.json " + " ".join(BENCH),
        "gate report.json --baseline baseline.json --min-robust-accuracy 0 --update-baseline",
        "bundle model.onnx --sets sets --min-robust-accuracy 0.01 --out bundle.ardx",
        "evaluate teacher/teacher.safetensors --attacks clean,fgsm --limit 60 --epsilon 0.03 "
        "--no-doubts --out evaluation.json",
    )
    for line in made:
        ended = run(line.split(), folder)
        if ended.code != 0:
            raise RuntimeError(f"ardx {line} ended with {ended.code}: {ended.said}")
    shutil.move(folder / "teacher/teacher.safetensors", folder / "teacher.safetensors")
    shutil.move(folder / "teacher/checkpoint.safetensors", folder / "checkpoint.safetensors")
    shutil.move(folder / "teacher/config.toml", folder / "recipe.toml")
    shutil.rmtree(folder / "teacher")


def fresh(material: Path, folder: Path) -> Path:
    """A new folder with links to the material, which no command changes."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for entry in material.iterdir():
        if entry.is_dir():
            shutil.copytree(entry, folder / entry.name)
        else:
            shutil.copyfile(entry, folder / entry.name)
    return folder


def left_over(folder: Path, material: Path, command: Long) -> list[str]:
    """What lies in the folder that is neither material nor the command's output."""
    known = {entry.name for entry in material.iterdir()} | set(command.out)
    extra = [entry.name for entry in folder.iterdir() if entry.name not in known]
    inside = [
        f"{out}/{p.name}"
        for out in command.out
        if (folder / out).is_dir()
        for p in (folder / out).iterdir()
        if p.name.startswith(".")
    ]
    return sorted(extra + inside)
