"""Published weights come from a cache, and from the net only where that is asked for."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from ard.models.architectures import build_model
from ard.models.downloads import is_name, published_file
from ard.models.pretrained import load_pretrained
from edge_bench.core.errors import InputError

NAME = "squeezenet1_1"
FILE = "squeezenet1_1-b8a52dc0.pth"

needs_timm = pytest.mark.skipif(
    find_spec("timm") is None, reason="timm is not installed: pip install 'ardx[timm]'"
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def test_what_is_in_the_cache_is_taken(cache: Path) -> None:
    torch.manual_seed(0)
    network = build_model(NAME, 3, 1000, torch.zeros(3), torch.ones(3)).network
    torch.save(network.state_dict(), cache / FILE)
    path = published_file("IMAGENET1K_V1", NAME, download=False)
    assert path == cache / FILE
    model = load_pretrained(path, NAME, (3, 32, 32), 10)
    theirs = network.state_dict()["features.0.weight"]
    assert torch.equal(model.network.state_dict()["features.0.weight"], theirs)


@pytest.mark.parametrize(
    ("name", "architecture", "words"),
    [
        ("IMAGENET1K_V1", NAME, "nothing is downloaded unasked; add --download"),
        ("DEFAULT", NAME, "nothing is downloaded unasked; add --download"),
        (
            "IMAGENET1K_V9",
            NAME,
            "torchvision's weights of squeezenet1_1 are DEFAULT, IMAGENET1K_V1",
        ),
        ("DEFAULT", "resnet8:4", "nobody publishes weights of resnet8:4"),
        ("DEFAULT", "mymodel:build", "nobody publishes weights of mymodel:build"),
    ],
)
def test_what_is_not_there_is_not_fetched_unasked(
    name: str, architecture: str, words: str, cache: Path
) -> None:
    with pytest.raises(InputError, match=words):
        published_file(name, architecture, download=False)
    assert list(cache.iterdir()) == []


@needs_timm
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("default", "nothing is downloaded unasked"),
        ("lamb_in1k", "timm/mobilenetv3_small_050.lamb_in1k is not in the cache"),
        ("no_tag", "timm's weights of mobilenetv3_small_050 are default, lamb_in1k"),
    ],
)
def test_timms_weights_are_not_fetched_unasked(name: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        published_file(name, "timm:mobilenetv3_small_050", download=False)


def test_a_name_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").touch()
    assert is_name(Path("IMAGENET1K_V1"))
    for text in ("weights.pt", "folder/weights", "there", "w.safetensors"):
        assert not is_name(Path(text))
