"""From file to logits: a resumable runner whose ways differ, and tables counted by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ard.data.datasets import load_dataset
from ard.exporting.export import export
from ard.models.architectures import build_model
from ard.models.weight_files import save_model
from benchmarks.changed import path, path_tables
from benchmarks.lines import append, pack, recorded, unpack
from edge_bench.core.pictures.preprocessing import preprocessing_of
from edge_bench.core.pictures.walked import CARD
from edge_bench.core.spec import ModelCard

NAMES, EACH = ("ant", "bee"), 12


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of no training, their fp32 graph, and pictures of twice its side."""
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    root = tmp_path_factory.mktemp("way")
    draw = np.random.default_rng(0)
    for name in NAMES:
        (root / "photos" / name).mkdir(parents=True)
        for index in range(EACH):
            pixels = draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "photos" / name / f"{index}.png")
    torch.manual_seed(0)
    card = ModelCard(
        architecture="resnet8:2",
        dataset="imagefolder:photos",
        classes=2,
        class_names=NAMES,
        input_shape=(3, 8, 8),
        preprocessing=preprocessing_of(8, None),
    )
    model = build_model("resnet8:2", 3, 2, torch.full((3,), 0.5), torch.full((3,), 0.25)).eval()
    save_model(root / "w.safetensors", model, card, False)
    data = load_dataset(f"imagefolder:{root / 'photos'}", root, image_size=8)
    export(root / "w.safetensors", data, root / "fp32.onnx")
    return root


def test_every_way_is_gone_once_and_not_again(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(path, "ATTACK", "pgd2")
    lines = tmp_path / "lines.jsonl"
    asked = (root / "w.safetensors", [root / "fp32.onnx"], root / "photos", tmp_path / "work")
    path.main(*asked, lines, attacked=2, epsilon="8/255")
    told = recorded(lines)
    kinds = {line["kind"]: line["images"] for line in told.values()}
    assert kinds == {"as they are": 24, "chosen": 4, "crafted": 4, path.NOISE: 4}
    assert len(told) == 4 * len(path.WAYS)
    moved = {line["way"]: unpack(line, "moved") for line in told.values()}
    assert not moved[CARD].any()
    before = lines.read_bytes()
    path.main(*asked, lines, attacked=2, epsilon="8/255")
    assert lines.read_bytes() == before


def test_each_way_makes_another_image_of_the_same_picture(root: Path) -> None:
    how, picture = preprocessing_of(8, None), root / "photos" / "ant" / "0.png"
    made = {name: way(picture, how).astype(int) for name, way in path.WAYS.items()}
    assert {image.shape for image in made.values()} == {(8, 8, 3)}
    # A PNG has no loss, so the decoder alone changes nothing.
    assert (made["opencv's decoder"] == made[CARD]).all()
    # Both take the four nearest pixels.
    assert np.abs(made["opencv"] - made["without antialias"]).max() <= 1
    away = {name: np.abs(image - made[CARD]).mean() for name, image in made.items()}
    assert away["JPEG 95"] < away["JPEG 75"] < away["JPEG 50"] < away["red for blue"]


def line(kind: str, way: str, masks: dict[str, list[int]]) -> dict[str, Any]:
    return {
        "id": f"{kind} {way}",
        "artefact": "x86",
        "architecture": "resnet8:32",
        "kind": kind,
        "way": way,
        "images": 4,
        "masks": {key: pack(np.array(mask, dtype=np.bool_)) for key, mask in masks.items()},
    }


def test_tables_count_pairs(tmp_path: Path) -> None:
    lines, right = tmp_path / "lines.jsonl", [1, 1, 1, 0]
    card = {"artefact": right, "parent": [1, 1, 1, 1], "moved": [0] * 4, "differ": [0, 0, 0, 1]}
    other = card | {"artefact": [1, 0, 0, 1], "moved": [0, 1, 1, 1]}
    for kind in (path.AS_THEY_ARE, path_tables.CHOSEN, path.NOISE, path.CRAFTED):
        append(lines, line(kind, CARD, card))
        append(lines, line(kind, "opencv", other))
    found = path_tables.walked(lines)["resnet8:32"]
    _, compressed, opencv = path_tables.gap_rows(found)
    assert [cell.split(" ")[0] for cell in compressed[2:4]] == ["75.0", "-25.0"]
    assert compressed[4] == "1 lost, 0 won"
    assert compressed[5].startswith("25.0")
    assert [cell.split(" ")[0] for cell in opencv[2:4]] == ["50.0", "-25.0"]
    assert opencv[4] == "2 lost, 1 won"
    assert opencv[5].startswith("75.0")
    _, first, second = path_tables.crafted_rows(found)
    assert [cell.split(" ")[0] for cell in first[2:]] == ["75.0"] * 3
    assert [cell.split(" ")[0] for cell in second[2:]] == ["50.0"] * 3
