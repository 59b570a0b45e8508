"""The weights that come with the repository are what their page says."""

from __future__ import annotations

from pathlib import Path

import torch

from ard.models.weight_files import load_model
from edge_bench.files.store import sha256_file

WEIGHTS = Path(__file__).parents[3] / "weights"
CLASSES = {"cifar10": 10, "cifar100": 100}
"""Of the datasets that the names of files tell."""


def test_every_file_has_its_line_and_its_hash_and_loads() -> None:
    page = (WEIGHTS / "README.md").read_text(encoding="utf-8")
    files = sorted(WEIGHTS.glob("*.safetensors"))
    assert files
    for path in files:
        assert f"`{path.name}`" in page
        assert f"{sha256_file(path)}  {path.name}" in page
        model, card = load_model(path)
        classes = CLASSES[path.name.split("-")[2]]
        if card.parent_sha256 is not None:
            # Of a student: its teacher is here, too.
            assert card.parent_sha256 in {sha256_file(each) for each in files}
        assert card.class_names is not None
        assert card.classes == len(set(card.class_names)) == classes
        assert card.recipe["epsilon"] == 8 / 255
        with torch.no_grad():
            assert model.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, classes)
