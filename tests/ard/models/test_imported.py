"""Architectures of the user's own: found without running them, and only if it is that source."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ard.models.architectures import build_model
from ard.models.imported import check_source, is_imported, source_of, source_sha256
from ard.models.sizes import check_fits, why_not
from edge_bench.core.errors import InputError

NET = """
from torch import nn
from {blocks} import middle

def build(classes):
    return nn.Sequential(nn.Conv2d(1, 4, 3), middle(), nn.Flatten(), nn.Linear(4 * 36, classes))

def fixed(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 7))

def broken(classes):
    raise KeyError("no such part")

def text(classes):
    return "a network"

def two(classes):
    class Two(nn.Flatten):
        def forward(self, x):
            return super().forward(x), x
    return Two()
"""
BLOCKS = "from torch import nn\n\ndef middle():\n    return nn.SiLU()\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with a module, and a package that holds the same."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "mynet.py").write_text(NET.format(blocks="myblocks"))
    (tmp_path / "myblocks.py").write_text(BLOCKS)
    (tmp_path / "mypack" / "deep").mkdir(parents=True)
    (tmp_path / "mypack" / "__init__.py").write_text("")
    (tmp_path / "mypack" / "deep" / "net.py").write_text(NET.format(blocks="..blocks"))
    (tmp_path / "mypack" / "blocks.py").write_text(BLOCKS)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith(("mynet", "myblocks", "mypack"))]:
        del sys.modules[name]


def _logits(architecture: str, classes: int = 3) -> torch.Tensor:
    model = build_model(architecture, 1, classes, torch.zeros(1), torch.ones(1))
    logits: torch.Tensor = model(torch.zeros(2, 1, 8, 8))
    return logits


@pytest.mark.parametrize("architecture", ["mynet:build", "mypack.deep.net:build"])
def test_a_function_in_the_working_folder_is_a_network(architecture: str) -> None:
    assert _logits(architecture).shape == (2, 3)
    assert why_not(architecture, (1, 8, 8)) is None
    check_fits(architecture, (1, 8, 8))


@pytest.mark.parametrize(
    ("architecture", "blocks"),
    [("mynet:build", "myblocks.py"), ("mypack.deep.net:build", "mypack/blocks.py")],
)
def test_the_digest_covers_what_the_module_imports_from_beside_it(
    folder: Path, architecture: str, blocks: str
) -> None:
    before = source_sha256(architecture)
    (folder / "unrelated.py").write_text("x = 1\n")
    assert source_sha256(architecture) == before
    (folder / blocks).write_text(BLOCKS.replace("SiLU", "ReLU"))
    assert source_sha256(architecture) != before


def test_finding_a_source_runs_nothing(folder: Path) -> None:
    (folder / "mypack" / "__init__.py").write_text("raise SystemExit('ran')\n")
    assert source_of("mypack.deep.net:build").files[-1].name == "net.py"
    assert "mypack" not in sys.modules
    with pytest.raises(InputError, match=r"another source of mypack.deep.net:build"):
        check_source("w.safetensors", "mypack.deep.net:build", "0" * 64)
    with pytest.raises(InputError, match="not the source that it was made with"):
        check_source("w.safetensors", "mypack.deep.net:build", None)
    assert "mypack" not in sys.modules


def test_a_changed_source_is_imported_anew_and_told(folder: Path) -> None:
    digest = source_sha256("mynet:build")
    check_source("w.safetensors", "mynet:build", digest)
    model = build_model("mynet:build", 1, 3, torch.zeros(1), torch.ones(1))
    assert "SiLU" in str(model)
    (folder / "myblocks.py").write_text(BLOCKS.replace("SiLU", "Tanh") + "\n")
    with pytest.raises(InputError, match=r"ardx adopt w.safetensors --arch mynet:build"):
        check_source("w.safetensors", "mynet:build", digest)
    assert "Tanh" in str(build_model("mynet:build", 1, 3, torch.zeros(1), torch.ones(1)))


def test_the_working_folder_wins_over_a_module_of_that_name_from_elsewhere(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "SiLU" in str(build_model("mynet:build", 1, 3, torch.zeros(1), torch.ones(1)))
    other = tmp_path_factory.mktemp("other")
    (other / "mynet.py").write_text("from torch import nn\n\ndef build(c):\n    return nn.GELU()\n")
    monkeypatch.chdir(other)
    assert "GELU" in str(build_model("mynet:build", 1, 3, torch.zeros(1), torch.ones(1)))


@pytest.mark.parametrize(
    ("architecture", "words"),
    [
        ("nowhere:build", "no module nowhere in the working folder"),
        ("mypack.missing:build", "no module mypack.missing"),
        ("mynet:nothing", "has no function nothing; expected one of build, fixed"),
        ("mynet:broken", r"broken\(3\) failed with KeyError"),
        ("mynet:text", "gave a str, expected a torch.nn.Module"),
        ("os:getpid", "os is a module of Python itself"),
        ("resnet18:build", "only resnet8, resnet20 take a width"),
        ("my net:build", "take a width"),
    ],
)
def test_what_makes_no_network_is_one_sentence(architecture: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        _logits(architecture)


def test_a_module_that_cannot_be_imported_says_what_it_says(folder: Path) -> None:
    (folder / "mynet.py").write_text("import a_package_that_is_not_there\n")
    with pytest.raises(InputError, match=r"ModuleNotFoundError.*a_package_that_is_not_there"):
        _logits("mynet:build")
    (folder / "mynet.py").write_text("def build(:\n")
    with pytest.raises(InputError, match="SyntaxError"):
        _logits("mynet:build")


@pytest.mark.parametrize(
    ("architecture", "words"),
    [
        ("mynet:fixed", r"not one logit per class: \(2, 7\) for 2 images and 2 classes"),
        ("mynet:two", "gives a tuple, expected a tensor of logits"),
    ],
)
def test_an_output_that_is_no_logits_is_told(architecture: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        check_fits(architecture, (1, 8, 8))


def test_only_a_function_in_a_module_is_imported() -> None:
    assert is_imported("a.b_2:c")
    for text in ("resnet8:32", "resnet18", "timm", "a.b", "a..b:c", "a:b.c", "a:b:c", "", ":f"):
        assert not is_imported(text)
