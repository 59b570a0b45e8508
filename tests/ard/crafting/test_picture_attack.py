"""Pictures attacked at the camera's size: in the ball there, as PNGs, the path really walked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from ard.attacks.registry import parse_attack
from ard.attacks.run import run_attack
from ard.attacks.victims import open_victim
from ard.crafting import picture_attack
from ard.crafting.picture_attack import attack_pictures, disagreement
from ard.models.architectures import build_model
from ard.models.weight_files import load_model, save_model
from edge_bench.core.errors import InputError
from edge_bench.core.pictures.preprocessing import preprocessing_of
from edge_bench.core.series import series_array
from edge_bench.core.spec import ModelCard
from edge_bench.files.pictures.crafted import RECORD, CraftedPictures, read_crafted
from edge_bench.files.pictures.decode import read_picture
from edge_bench.files.pictures.tree import open_tree
from edge_bench.files.report_file import read_report
from edge_bench.files.store import read_json

from ..commands.typed import QUICK_BENCH, ardx, sentence

NAMES = ("ant", "bee", "moth")
SIDE, STEPS, COUNT = 16, 4, 36


def draw(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    size = int(rng.integers(24, 50)), int(rng.integers(24, 50))
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    return coarse.resize(size, Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of no training, whose own answers are the classes of `photos`; and its fp32 graph."""
    root = tmp_path_factory.mktemp("camera")
    torch.manual_seed(3)
    model = build_model("resnet8:4", 3, 3, torch.full((3,), 0.5), torch.full((3,), 0.25)).eval()
    how = preprocessing_of(SIDE, "crop:0.9")
    card = ModelCard(
        architecture="resnet8:4",
        dataset="imagefolder:photos",
        classes=3,
        class_names=NAMES,
        input_shape=(3, SIDE, SIDE),
        preprocessing=how,
    )
    images = []
    for seed in range(COUNT):
        draw(seed).save(root / f"{seed}.png")
        images.append(read_picture(root / f"{seed}.png", "RGB", how))
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        # Without training one class would win everywhere.
        *_, last = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
        last.bias.sub_(model(batch).mean(dim=0))
        said = model(batch).argmax(dim=1).tolist()
    assert set(said) == {0, 1, 2}
    for seed, label in enumerate(said):
        folder = root / "photos" / NAMES[label]
        folder.mkdir(parents=True, exist_ok=True)
        (root / f"{seed}.png").rename(folder / f"{seed}.png")
    save_model(root / "w.safetensors", model, card, False)
    return root


@pytest.fixture(scope="module")
def crafted(root: Path) -> Path:
    asked = ("--pictures", root / "photos", "--attack", f"pgd{STEPS}", "--epsilon", "16/255")
    told = json.loads(
        ardx("attack", root / "w.safetensors", *asked, "--out", root / "crafted", "--json")
    )
    assert told["clean_accuracy"] == 1
    assert told["source_accuracy"] < 0.5
    assert told["resize_apart_levels"] <= 1.5
    return root / "crafted"


def test_pictures_stay_in_the_ball_at_the_camera_s_size(root: Path, crafted: Path) -> None:
    record = read_crafted(crafted, list(crafted.rglob("*.png")))
    assert record is not None
    assert len(record.files) == COUNT
    assert (record.attack.name, record.threat) == ("pgd", "white-box")
    moved = []
    for name in record.files:
        clean = np.asarray(Image.open(root / "photos" / name.removesuffix(".png"))).astype(int)
        found = np.asarray(Image.open(crafted / name)).astype(int)
        assert found.shape == clean.shape
        moved.append(np.abs(found - clean).max())
    assert set(moved) == {16}


def test_the_board_walks_them_and_says_whose_weakness_they_are(root: Path, crafted: Path) -> None:
    graph = exported(root)
    out = root / "report.json"
    ardx("bench", graph, "--pictures", crafted, "--out", out, *QUICK_BENCH, "--force")
    walked = read_report(out).pictures
    assert walked is not None
    assert walked.attack is not None
    assert walked.attack.name == "pgd"
    # A plain loop of Pillow and ONNX Runtime over the stored files.
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    tree, said = open_tree(crafted), []
    for name in tree.names:
        for path in tree.pictures(name):
            with Image.open(path) as picture:
                side = 0.9 * min(picture.size)
                left, top = (picture.width - side) / 2, (picture.height - side) / 2
                image = picture.resize(
                    (SIDE, SIDE),
                    Image.Resampling.BILINEAR,
                    box=(left, top, left + side, top + side),
                )
            batch = np.asarray(image).transpose(2, 0, 1)[None].astype(np.float32) / 255
            inputs = {session.get_inputs()[0].name: batch}
            said.append(int(session.run(None, inputs)[0].argmax()))
    assert series_array(walked.answers.predicted).tolist() == said
    assert np.mean(np.equal(said, series_array(walked.labels))) < 0.5
    told = " ".join(
        ardx("bench", graph, "--pictures", crafted, "--out", out, *QUICK_BENCH, "--force").split()
    )
    assert "crafted by pgd on" in told


def exported(root: Path) -> Path:
    graph = root / "w.onnx"
    if not graph.exists():
        data = ("--data-dir", root, "--dataset", f"imagefolder:{root / 'photos'}")
        ardx("export", root / "w.safetensors", *data, "--out", graph)
    return graph


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("meanwhile", ["nothing", "a picture beyond the ball", "another attack"])
def test_a_stopped_run_goes_on_and_ends_with_the_same_bytes(
    root: Path, crafted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    seen: list[int] = []
    real = run_attack

    def watched(*given: Any) -> torch.Tensor:
        if len(seen) == 5 and not (tmp_path / "stopped").exists():
            (tmp_path / "stopped").touch()
            raise KeyboardInterrupt
        seen.append(given[-1])
        return real(*given)

    monkeypatch.setattr(picture_attack, "run_attack", watched)

    def craft(steps: int, force: bool = False) -> None:
        spec = parse_attack(f"pgd{steps}", epsilon=16 / 255)
        with open_victim(root / "w.safetensors") as victim:
            attack_pictures(
                victim, root / "photos", spec, tmp_path / "out", threat="white-box", force=force
            )

    first = STEPS - 1 if meanwhile == "another attack" else STEPS
    with pytest.raises(KeyboardInterrupt):
        craft(first)
    assert not (tmp_path / "out").exists()
    begun = tmp_path / ".out.pictures" / "made"
    if meanwhile == "a picture beyond the ball":
        some = next(begun.rglob("*.png"))
        Image.fromarray(255 - np.asarray(Image.open(some))).save(some)
    # What a run left that was killed after it had replaced its pictures.
    (begun.parent / "retired").mkdir()
    (begun.parent / "retired" / "x").touch()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / RECORD).touch()
    craft(STEPS, force=True)
    again = {"nothing": 0, "a picture beyond the ball": 1, "another attack": 5}[meanwhile]
    assert len(seen) == COUNT + again
    assert contents(tmp_path / "out") == contents(crafted)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "stopped"]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        ("change", "is not the picture that attack.json names: it was changed"),
        ("remove", "is missing of those that attack.json names"),
        ("add", "is not among the pictures that attack.json names"),
        ("edit", "it was edited or damaged; craft the pictures again"),
    ],
)
def test_a_folder_that_was_changed_is_a_sentence(
    crafted: Path, tmp_path: Path, spoil: str, told: str
) -> None:
    record = read_json(crafted / RECORD, CraftedPictures, "it")
    for name in (*record.files, RECORD):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((crafted / name).read_bytes())
    some = tmp_path / next(iter(record.files))
    if spoil == "change":
        Image.fromarray(np.zeros((9, 9, 3), dtype=np.uint8)).save(some)
    elif spoil == "remove":
        some.unlink()
    elif spoil == "add":
        draw(99).save(some.with_name("new.png"))
    else:
        text = (tmp_path / RECORD).read_text().replace('"pgd"', '"fgsm"')
        (tmp_path / RECORD).write_text(text)
    with pytest.raises(InputError, match=told):
        read_crafted(tmp_path, list(tmp_path.rglob("*.png")))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--limit", 5), "--limit 5: --pictures are attacked as the card says"),
        (("--images", "x"), "--images x: --pictures are attacked as the card says"),
        (("--threat", "blackbox"), "expected white-box or bpda with --pictures"),
        (("--attack", "square50", "--threat", "transfer"), "expected white-box or bpda"),
    ],
)
def test_options_that_do_not_go_together_are_a_sentence(
    root: Path, tmp_path: Path, given: tuple[object, ...], told: str
) -> None:
    asked = ("--pictures", root / "photos", "--out", tmp_path / "out")
    assert told in sentence("attack", root / "w.safetensors", *asked, *given)
    assert not (tmp_path / "out").exists()


def test_pictures_that_no_card_resizes_are_a_sentence(root: Path, tmp_path: Path) -> None:
    model, card = load_model(root / "w.safetensors")
    save_model(tmp_path / "w.safetensors", model, replace(card, preprocessing=None), False)
    asked = ("--pictures", root / "photos", "--out", tmp_path / "out")
    told = sentence("attack", tmp_path / "w.safetensors", *asked, "--attack", "pgd2")
    assert "pixels, but the model reads 16x16" in told
    assert "with --image-size" in told
    assert not (tmp_path / "out").exists()


def test_a_resize_that_is_not_pillow_s_would_be_told() -> None:
    assert disagreement(1.4) is None
    assert "may be too weak" in str(disagreement(3.0))
