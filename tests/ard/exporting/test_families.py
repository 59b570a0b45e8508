"""Networks of many families train, export and compute the same as INT8, or it is said why not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ard.data.splits import Dataset
from ard.exporting.export import export
from ard.learning.learn import learn
from ard.models.architectures import build_model
from ard.models.imported import source_sha256
from ard.models.weight_files import save_model
from edge_bench.core.errors import InputError
from edge_bench.core.spec import ModelCard

from ..conftest import small_config

FAMILIES = (
    "attention",
    "convnext",
    "custom",
    "dropout_without_norm",
    "group_norm_silu",
    "repvgg",
    "shufflenet",
    "squeeze_excite",
)


@pytest.fixture(autouse=True)
def _in_this_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(Path(__file__).parent)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("families", None)


def taught(name: str, digits: Dataset, folder: Path) -> Path:
    # A transformer begins slowly.
    rate, epochs = (0.5, 15) if name == "attention" else (0.2, 2)
    config = small_config(
        architecture=f"families:{name}",
        method="natural",
        epochs=epochs,
        validate_every=epochs,
        learning_rate=rate,
        clip_norm=1.0,
    )
    return learn(config, digits, None, folder / "t" / "teacher.safetensors").weights


def untrained(name: str, digits: Dataset, folder: Path) -> Path:
    """Weights as they are made, with their card."""
    architecture, path = f"families:{name}", folder / "model.safetensors"
    torch.manual_seed(0)
    model = build_model(architecture, 1, digits.classes, torch.zeros(1), torch.ones(1))
    card = ModelCard(
        architecture=architecture,
        dataset=digits.name,
        classes=digits.classes,
        class_names=digits.class_names,
        input_shape=digits.image_shape,
        recipe={"source_sha256": source_sha256(architecture)},
    )
    save_model(path, model, card, force=False)
    return path


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_trains_and_computes_the_same_in_the_artefact(
    name: str, digits: Dataset, tmp_path: Path
) -> None:
    weights = taught(name, digits, tmp_path)
    plain = export(weights, digits, tmp_path / "fp32.onnx")
    assert min(each.agreement for each in plain.parities) >= 0.999
    assert {each.images for each in plain.parities} == {"clean", "adversarial"}
    int8 = export(weights, digits, tmp_path / "int8.onnx", int8_target="x86")
    assert min(each.agreement for each in int8.parities) >= 0.9
    clean = int8.parities[0]
    assert clean.torch_accuracy > 0.5
    assert clean.artifact_accuracy > clean.torch_accuracy - 0.05


def test_what_cannot_be_exported_is_named_by_layer(digits: Dataset, tmp_path: Path) -> None:
    weights = untrained("branching", digits, tmp_path)
    with pytest.raises(InputError, match=r"the layer network.1.1 \(Branching\) cannot be written"):
        export(weights, digits, tmp_path / "fp32.onnx")
    assert not (tmp_path / "fp32.onnx").exists()


def test_what_int8_ruins_is_named_by_layer(digits: Dataset, tmp_path: Path) -> None:
    weights = untrained("outliers", digits, tmp_path)
    with pytest.raises(InputError, match=r"the layers that move the logits most.* network\.2 \(by"):
        export(weights, digits, tmp_path / "int8.onnx", int8_target="x86")
