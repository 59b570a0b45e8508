"""Every registry, entry by entry: complete, reachable by its name, and told by help."""

from __future__ import annotations

import functools
import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import ard.methods
from ard.attacks.differential import Pair
from ard.attacks.registry import ATTACKS, parse_attack
from ard.attacks.run import run_attack
from ard.cli import app
from ard.crafting import corrupting
from ard.crafting.corruptions import CORRUPTIONS
from ard.data.registry import DATASETS
from ard.methods.parts import inner
from ard.methods.parts.base import Logits, LossOptions, total
from ard.methods.registry import ANCHORS, INNER, METHODS, logits_needed
from ard.models.architectures import ARCHITECTURES, build_model
from deploy.quantization.targets import TARGETS
from edge_bench.backends import BACKENDS
from edge_bench.core.errors import CapabilityError
from edge_bench.core.pictures.preprocessing import preprocessing_of
from edge_bench.devices import DEVICES, ROOT
from edge_bench.pictures.pipelines import PIPELINES, Wish, open_way

SUPPORT = {"__init__", "base", "inner", "registry"}


@functools.cache
def help_of(*command: str) -> str:
    """The help of a command as words, whatever the width of a terminal."""
    ended = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "300"})
    assert ended.exit_code == 0
    return ended.output


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_found_runs_and_stays_in_the_ball(name: str) -> None:
    model: torch.nn.Module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5))
    if ATTACKS[name].differential:
        other = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5))
        model = Pair(model, other)
    model.eval()
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(4, 3, 2, 2, generator=draw)
    labels = torch.tensor([0, 1, 2, 3])
    attack = ATTACKS[name]
    assert attack.source
    assert set(attack.parts) <= ATTACKS.keys()
    text = f"{name}3" if attack.steps else name
    spec = parse_attack(text, epsilon=0.1)
    if attack.parts:
        return  # Its parts are walked themselves.
    found = run_attack(model, images, labels, spec, 0)
    assert found.shape == images.shape
    assert float((found - images).abs().max()) <= 0.1 + 1e-6
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    for command in ("evaluate", "attack"):
        assert name in help_of(command)


def test_the_listing_of_methods_is_the_catalogue() -> None:
    (folder,) = ard.methods.__path__
    files = {path.stem for path in Path(folder).glob("*.py")} - SUPPORT
    assert files == {method.file for method in METHODS.values()}


@pytest.mark.parametrize("name", METHODS)
def test_a_method_gives_terms_of_what_it_asks_for(name: str) -> None:
    method = METHODS[name]
    assert method.source
    assert method.inner is None or method.inner in INNER
    draw = torch.Generator().manual_seed(0)
    needs = logits_needed(name, LossOptions())
    assert needs >= method.needs
    given = {each: torch.randn(6, 4, generator=draw) for each in sorted(needs)}
    terms = method.terms(Logits(**given), torch.tensor([0, 1, 2, 3, 0, 1]), LossOptions())
    assert torch.isfinite(total(terms))
    assert method.balance is None or method.balances
    assert name in help_of("distill" if method.distils else "teach")


@pytest.mark.parametrize("name", INNER)
def test_an_inner_objective_is_built_and_told(name: str) -> None:
    build = getattr(inner, f"climb_{name}")
    assert list(inspect.signature(build).parameters) == ["attacked"]
    assert INNER[name].text
    assert INNER[name].needs_teacher >= INNER[name].needs_teacher_clean
    assert name in help_of("distill")


def test_every_anchor_is_a_method_and_told() -> None:
    assert set(ANCHORS.values()) <= METHODS.keys()
    assert all(name in help_of("distill") for name in ANCHORS)


@pytest.mark.parametrize("name", DATASETS)
def test_a_dataset_has_a_loader_and_is_told(name: str, tmp_path: Path) -> None:
    entry = DATASETS[name]
    if not entry.files:
        loaded = entry.load(tmp_path, False)
        assert (loaded.name, len(loaded.class_names or ())) == (name, loaded.classes)
    else:
        with pytest.raises(Exception, match=entry.files.partition("/")[0]):
            entry.load(tmp_path, False)
    assert name in help_of("teach")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_is_built(name: str) -> None:
    with torch.device("meta"):
        model = build_model(name, 3, 7, torch.zeros(3), torch.ones(3))
        assert model(torch.rand(2, 3, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize("name", DEVICES)
def test_a_device_probes_lists_sensors_and_is_told(name: str) -> None:
    device = DEVICES[name]
    assert device.text
    found = device.probe(ROOT)
    assert found is None or found.device == name
    assert isinstance(device.sources(ROOT), list)
    rails, words = device.total([])
    assert rails == ()
    assert words is None or words
    assert name in help_of("bench")


@pytest.mark.parametrize("name", BACKENDS)
def test_a_backend_says_what_is_here_or_what_is_missing_and_is_told(name: str) -> None:
    try:
        found = BACKENDS[name].here(name)
    except CapabilityError as error:
        found = str(error)  # What is missing, and what brings it.
    assert found
    assert name in help_of("bench")
    assert name in help_of("evaluate")


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_makes_an_image_or_says_what_is_missing_and_is_told(
    name: str, tmp_path: Path
) -> None:
    assert PIPELINES[name].text in help_of("bench")
    path = tmp_path / "p.png"
    Image.fromarray(np.full((9, 7, 3), (10, 90, 200), dtype=np.uint8)).save(path)
    try:
        way = open_way(name, Wish(preprocessing=preprocessing_of(4, None), channels=3))
    except CapabilityError as missing:
        found = str(missing)
        assert PIPELINES[name].mend in found
        return
    value: Any = None
    for _, step in way.steps:
        value = step(value, path)
    assert (np.asarray(value) == np.full((4, 4, 3), (10, 90, 200))).all()
    assert way.versions


def test_the_extras_of_the_distribution_bring_what_the_backends_need() -> None:
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    for name, runtime in BACKENDS.items():
        if runtime.extra is None:
            continue
        declared = re.search(rf"^{runtime.extra} = \[(.*?)\n?\]$", text, re.MULTILINE | re.DOTALL)
        assert declared is not None, runtime.extra
        for package in runtime.packages:
            assert package.requirement in declared[1], (name, package.requirement)


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_says_why_and_is_told(name: str) -> None:
    assert TARGETS[name].why
    assert name in help_of("export")
    assert name in help_of("distill")


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_has_five_severities_of_both_sizes_and_is_told(name: str) -> None:
    kind, draw = CORRUPTIONS[name], np.random.default_rng(0)
    assert corrupting.function(name).__doc__
    assert len(kind.small) == len(kind.large) == 5
    for side in (8, 96):
        picture = draw.random((side, side, 3))
        for severity in range(1, 6):
            found = corrupting.function(name)(picture, kind.strength(severity, side), draw)
            assert found.shape == picture.shape
            assert np.isfinite(found).all()
    assert name in help_of("attack")
