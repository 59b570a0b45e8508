"""Two methods image by image, against scipy's exact test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest

from benchmarks.lines import LINES, pack
from benchmarks.methods import pairs
from edge_bench.core.errors import InputError

Mask = NDArray[np.bool_]


def line(label: str, seed: int, **masks: Mask) -> dict[str, Any]:
    packed = {name: pack(mask) for name, mask in masks.items()}
    images = len(next(iter(masks.values())))
    return {"stage": "s", "label": label, "seed": seed, "images": images, "masks": packed}


def printed(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    _, _, *rows = capsys.readouterr().out.splitlines()
    return [row.strip("| ").split(" | ") for row in rows]


def test_each_seed_of_both_is_tested_exactly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    ours, theirs = (rng.random(203) < share for share in (0.6, 0.4))
    lines = tmp_path / "lines.jsonl"
    found = [
        line("a, b", 0, pgd=ours, clean=ours),
        line("c", 0, pgd=theirs),
        # Of seed 1 there is but one of them, and of another stage another.
        line("c", 1, pgd=ours),
        line("a, b", 1, pgd=ours) | {"stage": "other"},
    ]
    lines.write_text("".join(json.dumps(each) + "\n" for each in found), encoding="utf-8")
    pairs.main("s", "a, b", "c", lines)
    ((of, attack, seed, first, second, lead),) = printed(capsys)
    assert of == "s"
    alone = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    assert (attack, seed, int(first), int(second)) == ("pgd", "0", *alone)
    p = binomtest(alone[0], sum(alone)).pvalue
    told = "< 0.01" if p < 0.01 else f"{p:.2f}"
    assert lead == f"{100 * (ours.mean() - theirs.mean()):+.1f} (p {told})"
    with pytest.raises(InputError, match="expected a seed of stage s that 'a, b' and 'none' both"):
        pairs.main("s", "a, b", "none", lines)


@pytest.mark.parametrize(
    ("asked", "attack", "alone", "said"),
    [
        (("deployed", "ard int8", "ard fp32"), "square1000", ["11", "2"], "11 images that INT8"),
        (("blackbox", "ard", "igdm"), "transfer from independent", ["22", "8"], "leaves ARD 22"),
    ],
)
def test_the_page_says_what_the_lines_do(
    asked: tuple[str, str, str],
    attack: str,
    alone: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pairs.main(*asked, LINES)
    rows = [row for row in printed(capsys) if row[:3] == ["ensemble", attack, "0"]]
    assert [row[3:5] for row in rows] == [alone]
    page = LINES.with_name("methods_attacks.md").read_text(encoding="utf-8")
    assert said in " ".join(page.split())
