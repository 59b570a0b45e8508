"""AutoAttack on files of weights, part by part, and the table of it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from ard.data.datasets import load_dataset
from ard.evaluation.accuracy import evaluate_attack
from ard.learning.learn import learn
from ard.learning.recipes import build_config
from ard.models.weight_files import load_model
from benchmarks.documents import filled
from benchmarks.lines import Line, pack, read_lines, recorded
from benchmarks.methods import weights
from edge_bench.core.errors import InputError

from .conftest import SETTINGS


def test_parts_are_attacked_by_turns_and_none_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = load_dataset("digits", Path("data"))
    files = [tmp_path / name / f"{name}.safetensors" for name in ("first", "second")]
    for seed, file in enumerate(files):
        learn(build_config(SETTINGS | {"seed": seed}), dataset, None, file)
    lines, page = tmp_path / "lines.jsonl", tmp_path / "page.md"
    page.write_text("a\n<!-- table weights -->\n<!-- end -->\n", encoding="utf-8")
    chain = ["clean", "pgd2", "square5"]
    monkeypatch.setattr(weights, "PART", 200)
    monkeypatch.setattr(weights, "CHAIN", chain)
    monkeypatch.setattr(weights, "PARTS", {name: name for name in chain})

    def attack(*some: Path) -> None:
        weights.main([*some], lines=lines, document=page)

    attack(files[0])
    before = read_lines(lines)
    attack(*files)
    found = read_lines(lines)
    assert found[: len(before)] == before
    total = len(dataset.test)
    firsts = range(0, total, 200)
    expected = [(name, first) for name in chain for first in firsts]
    assert [(line["attack"], line["first"]) for line in before] == expected
    assert [line["file"] for line in found[len(before) :]] == ["second.safetensors"] * len(before)
    assert sum(line["images"] for line in before) == len(chain) * total
    assert before[-1]["images"] == total % 200
    for file in files:
        masks = [weights.left_of(found, file.name, name) for name in chain]
        assert [len(mask) for mask in masks] == [total] * 3
        # Each sees what the earlier ones left.
        assert all((~a & b).sum() == 0 for a, b in pairwise(masks))
        assert 0 < masks[1].sum() < masks[0].sum()
        model, _ = load_model(file)
        clean = evaluate_attack(model, dataset.test, None)
        assert (masks[0] == clean).all()
    attack(*files)
    assert read_lines(lines) == found
    lines.unlink()
    weights.main([files[0]], lines=lines, document=page, minutes=0)
    assert not lines.exists()


def test_a_missing_page_and_missing_images_are_named(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    file = weights.PAGE.parent / "resnet8-16-cifar10-ard.safetensors"
    with pytest.raises(InputError, match=r"page\.md: expected a document"):
        weights.main(None, lines=tmp_path / "none.jsonl", document=page)
    with pytest.raises(InputError, match="cifar10"):
        weights.main([file], data_dir=tmp_path, lines=tmp_path / "none.jsonl", document=page)


def line(attack: str, first: int, left: int, images: int) -> Line:
    """A part of so many images, of which the first `left` are kept."""
    mask = np.arange(images) < left
    return {
        "file": "some.safetensors",
        "attack": attack,
        "first": first,
        "masks": {attack: pack(mask)},
        "images": images,
    }


def test_the_table_adds_up_parts_and_gives_the_last_attack_an_interval() -> None:
    parts = [
        *(line("clean", 0, 8, 10), line("clean", 10, 6, 6)),
        *(line("apgd_ce", 0, 4, 10), line("apgd_ce", 10, 4, 6)),
    ]
    head, row = weights.table(parts)
    assert head == ["file", "first test images", "clean", "APGD-CE"]
    # 14 and 8 of 16; Wilson's interval of 8 of 16 by hand: 0.5 +- 0.2202.
    assert row == ["`some.safetensors`", "16", "87.5", "**50.0** (28.0 to 72.0)"]


def test_an_attack_that_has_come_less_far_has_a_row_of_its_images() -> None:
    parts = [
        *(line("clean", 0, 8, 10), line("clean", 10, 6, 6)),
        *(line("apgd_ce", 0, 5, 10), line("apgd_ce", 20, 4, 6)),
    ]
    _, all_images, first_images = weights.table(parts)
    assert all_images[1:4:2] == ["16", ""]
    assert all_images[2].startswith("**87.5** (")
    # Of what follows a gap nothing is told.
    assert first_images[:3] == ["`some.safetensors`", "10", "80.0"]
    assert first_images[3].startswith("**50.0** (")


def test_the_published_table_is_what_its_lines_say() -> None:
    text = weights.PAGE.read_text(encoding="utf-8")
    lines = [*recorded(weights.LINES).values()]
    assert filled(text, weights.maker(lines)) == text
    assert text.count("<!-- table weights -->") == 1
    assert filled(text, weights.maker([])).count(weights.NOTHING) == 1
    sums = {line["file"]: line["weights_sha256"] for line in lines}
    for file, digest in sums.items():
        assert f"{digest}  {file}" in text
    for file in sums:
        for attack in weights.CHAIN:
            some = [one for one in lines if (one["file"], one["attack"]) == (file, attack)]
            assert len(weights.left_of(lines, file, attack)) == sum(one["images"] for one in some)
