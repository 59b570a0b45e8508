"""What is computed on a GPU is what is computed on the CPU. Skipped where torch sees no GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ard.attacks.registry import parse_attack
from ard.attacks.run import run_attack
from ard.data.splits import Dataset, Split
from ard.learning.config import TrainConfig
from ard.learning.learn import learn
from ard.methods.parts.base import Logits, LossOptions, total
from ard.methods.registry import METHODS
from ard.models.architectures import build_model
from ard.models.weight_files import load_model

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here"),
]


def toy() -> Dataset:
    """Two classes, one brighter."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(512) % 2
    images = torch.randint(0, 128, (512, 3, 16, 16), generator=generator)
    split = Split((images + 100 * labels[:, None, None, None]).to(torch.uint8), labels)
    return Dataset(name="toy", train=split, test=split, classes=2, flips=True)


@pytest.mark.parametrize("name", [name for name, each in METHODS.items() if not each.balances])
def test_losses(name: str) -> None:
    drawn = torch.randn(7, 32, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    labels = torch.arange(32) % 10
    exact = total(METHODS[name].terms(Logits(*drawn), labels, LossOptions()))
    device = Logits(*drawn.cuda().float())
    found = total(METHODS[name].terms(device, labels.cuda(), LossOptions()))
    assert float(found) == pytest.approx(float(exact), rel=1e-4)


@pytest.mark.parametrize("attack", ["fgsm", "pgd20", "cw30"])
def test_attacks_stay_in_the_ball_and_find_as_much(attack: str) -> None:
    torch.manual_seed(0)
    model = build_model("resnet8", 3, 2, torch.zeros(3), torch.ones(3)).eval()
    part = toy().test.part(0, 64)
    images, spec = part.images.float() / 255, parse_attack(attack, epsilon=8 / 255)
    found = {}
    for device in ("cpu", "cuda"):
        clean, labels = images.to(device), part.labels.to(device)
        adversarial = run_attack(model.to(device), clean, labels, spec, 0)
        assert float((adversarial - clean).abs().max()) <= 8 / 255 + 1e-6
        found[device] = (model(adversarial).argmax(dim=1) == labels).float().mean().item()
    assert found["cuda"] == pytest.approx(found["cpu"], abs=0.05)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("compiled", "graphs"), [(False, False), (True, False), (True, True)])
def test_a_training_learns(precision: str, compiled: bool, graphs: bool, tmp_path: Path) -> None:
    config = TrainConfig(
        dataset="toy",
        architecture="resnet8",
        method="pgd_at",
        epsilon=2 / 255,
        step_size=1 / 255,
        inner_steps=2,
        epochs=3,
        precision=precision,
        compile=compiled,
        cuda_graphs=graphs,
    )
    learned = learn(config, toy(), None, tmp_path / "w.safetensors", torch_device="cuda")
    assert learned.validation.clean_accuracy > 0.9
    model, _ = load_model(learned.weights)
    assert all(value.device.type == "cpu" for value in model.state_dict().values())
