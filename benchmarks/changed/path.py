"""From file to logits: what decoding and resizing change, and what they leave of an attack.

    python -m benchmarks.changed.path WEIGHTS ARTEFACT ... --pictures DIR --work DIR

DIR has one folder of pictures per class, of another size than the card of WEIGHTS says. Every way
to make images of them is gone with every artefact, on the pictures as they are and as an attack on
WEIGHTS at the camera's size left them (`attack --pictures`). One JSON line per finished answer; an
answer whose line is there is skipped, so the same command goes on after an interruption.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from PIL import Image

from ard.attacks.budget import recipe_epsilon
from ard.attacks.differential import pair_of
from ard.attacks.registry import parse_attack
from ard.attacks.victims import Victim, open_victim
from ard.crafting.picture_attack import attack_pictures
from ard.data.splits import as_float
from ard.models.predict import predict
from benchmarks import command
from benchmarks.lines import RESULTS, append, commit, finished, machine, pack
from edge_bench.core.pictures.preprocessing import Preprocessing
from edge_bench.core.pictures.walked import CARD
from edge_bench.core.spec import AttackSpec
from edge_bench.core.threats.attack import parse_epsilon
from edge_bench.devices import ROOT
from edge_bench.devices.generic import has_vnni
from edge_bench.files.pictures.crafted import RECORD
from edge_bench.files.pictures.decode import decoded, read_picture, resized
from edge_bench.files.pictures.tree import labels_of, open_tree
from edge_bench.pictures.pipelines import Wish, open_way

LINES = RESULTS / "changed_path.jsonl"
ATTACK = "pgd20"
AS_THEY_ARE, CRAFTED, NOISE = "as they are", "crafted", "noise of the budget"

Levels = NDArray[np.uint8]
Maker = Callable[[Path, Preprocessing], Levels]


def opencv(path: Path, how: Preprocessing) -> Levels:
    """The pipeline of that name."""
    value: Any = None
    for _, step in open_way("opencv", Wish(preprocessing=how, channels=3)).steps:
        value = step(value, path)
    return np.asarray(value)


def opencv_decoder(path: Path, how: Preprocessing) -> Levels:
    """OpenCV's decoder, then Pillow's resize."""
    (_, read), (_, decode), _ = open_way("opencv", Wish(preprocessing=how, channels=3)).steps
    return np.asarray(resized(Image.fromarray(decode(read(None, path), path)), how))


def aliased(path: Path, how: Preprocessing) -> Levels:
    """Pillow's decoder, then four pixels a pixel, as most libraries resize."""
    planes = torch.from_numpy(np.asarray(decoded(path, "RGB")).copy()).permute(2, 0, 1)
    found = torch.nn.functional.interpolate(
        planes.float().unsqueeze(0), (how.side, how.side), mode="bilinear", antialias=False
    )
    return found[0].permute(1, 2, 0).round().to(torch.uint8).numpy()


def compressed(quality: int) -> Maker:
    """Stored as JPEG once more, then on the card's way."""

    def make(path: Path, how: Preprocessing) -> Levels:
        memory = io.BytesIO()
        decoded(path, "RGB").save(memory, "JPEG", quality=quality)
        return np.asarray(resized(decoded(path, "RGB", memory.getvalue()), how))

    return make


WAYS: dict[str, Maker] = {
    CARD: lambda path, how: read_picture(path, "RGB", how),
    "opencv": opencv,
    "opencv's decoder": opencv_decoder,
    "without antialias": aliased,
    "JPEG 95": compressed(95),
    "JPEG 75": compressed(75),
    "JPEG 50": compressed(50),
    "red for blue": lambda path, how: read_picture(path, "RGB", how)[..., ::-1],
}
"""From a file to the image of the card's size."""


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Pictures of one kind, with the model's number of each class."""

    kind: str
    paths: list[Path]
    labels: torch.Tensor
    digest: str

    def images(self, way: str, how: Preprocessing) -> torch.Tensor:
        """(N, 3, side, side) in [0, 1]."""
        levels = np.stack([WAYS[way](path, how) for path in self.paths])
        return as_float(torch.from_numpy(levels.transpose(0, 3, 1, 2).copy()))


def main(
    model: Annotated[Path, typer.Argument(help="The weights.")],
    artefacts: Annotated[list[Path], typer.Argument(help="Exported from them.")],
    pictures: Annotated[Path, typer.Option(help="One folder of pictures per class.")],
    work: Annotated[Path, typer.Option(help="Where crafted pictures are kept.")],
    lines: Annotated[Path, typer.Option(help="Where answers are written.")] = LINES,
    attacked: Annotated[int, typer.Option(help="Pictures of each class to attack.")] = 10,
    epsilon: Annotated[str | None, typer.Option(help="Default: that of the training.")] = None,
) -> None:
    """Go every way with every artefact."""
    torch.set_num_threads(1)
    origin = {"commit": commit(), "machine": machine(), "vnni": has_vnni(ROOT)}
    budget = parse_epsilon(epsilon) if epsilon else None
    with open_victim(model) as source:
        kinds = [*kinds_of(source, pictures, work, attacked, budget)]
    for kind in kinds:
        for path in artefacts:
            with open_victim(path, parent=model, threads=1) as victim:
                for way in WAYS:
                    answer(victim, kind, way, lines, origin | {"artefact": path.stem})


def answer(victim: Victim, kind: Pictures, way: str, lines: Path, origin: dict[str, Any]) -> None:
    """One line, where there is none yet."""
    text = repr((victim.sha256, kind.digest, way, kind.kind))
    line_id = (
        f"{origin['artefact']} {kind.kind} {way} {hashlib.sha256(text.encode()).hexdigest()[:12]}"
    )
    if line_id in finished(lines):
        return
    how = victim.card.preprocessing
    if how is None:
        raise typer.BadParameter(f"the card of {victim.path} names no resize")
    began = time.perf_counter()
    pair = pair_of(victim)
    said = {name: _said(pair, kind.images(name, how)) for name in {way, CARD}}
    ours, theirs = said[way]
    masks = {
        "artefact": (ours == kind.labels),
        "parent": (theirs == kind.labels),
        "moved": (ours != said[CARD][0]),
        "differ": (ours != theirs),
    }
    line = {
        "id": line_id,
        "kind": kind.kind,
        "way": way,
        "architecture": victim.card.architecture,
        "dataset": victim.card.dataset,
        "preprocessing": str(how),
        "images": len(kind.paths),
        "masks": {name: pack(mask.numpy()) for name, mask in masks.items()},
        "seconds": round(time.perf_counter() - began, 1),
    }
    append(lines, line | origin)


def _said(pair: Any, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return predict(pair.artefact, images), predict(pair.parent, images)


def kinds_of(
    source: Victim, pictures: Path, work: Path, attacked: int, epsilon: float | None
) -> Iterator[Pictures]:
    """The pictures as they are, some of them attacked, and those with noise of the same budget."""
    yield opened(AS_THEY_ARE, pictures, source)
    chosen = work / "chosen"
    for name in open_tree(pictures).names:
        for path in open_tree(pictures).pictures(name)[:attacked]:
            (chosen / name).mkdir(parents=True, exist_ok=True)
            (chosen / name / path.name).write_bytes(path.read_bytes())
    spec = parse_attack(ATTACK, epsilon=epsilon or recipe_epsilon(source.card))
    # Those that are attacked, before that: what the attack is compared with.
    yield opened("chosen", chosen, source)
    out = work / f"crafted-{source.sha256[:12]}"
    if not (out / RECORD).exists():
        attack_pictures(source, chosen, spec, out, threat="white-box")
    yield opened(CRAFTED, out, source)
    yield opened(NOISE, noisy(chosen, work / "noise", spec), source)


def noisy(chosen: Path, out: Path, spec: AttackSpec) -> Path:
    """Every value moved by the whole budget, up or down by a coin."""
    draw = np.random.default_rng(0)
    for name in open_tree(chosen).names:
        for path in open_tree(chosen).pictures(name):
            levels = np.asarray(decoded(path, "RGB")).astype(int)
            coins = draw.choice([-1, 1], levels.shape) * round(spec.epsilon * 255)
            (out / name).mkdir(parents=True, exist_ok=True)
            moved = np.clip(levels + coins, 0, 255).astype(np.uint8)
            Image.fromarray(moved).save(out / name / f"{path.name}.png")
    return out


def opened(kind: str, folder: Path, source: Victim) -> Pictures:
    """The pictures of a folder."""
    tree = open_tree(folder)
    labels = labels_of(tree.class_names, source.card, str(folder))
    paths = [tree.pictures(name) for name in tree.names]
    every = [path for each in paths for path in each]
    digest = hashlib.sha256(b"".join(hashlib.sha256(p.read_bytes()).digest() for p in every))
    numbers = [label for label, each in zip(labels, paths, strict=True) for _ in each]
    return Pictures(kind=kind, paths=every, labels=torch.tensor(numbers), digest=digest.hexdigest())


if __name__ == "__main__":
    command.run(main)
