"""What a report's own numbers say against it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_bench.core.spec import (
    AttackSpec,
    ModelCard,
    Report,
    SetManifest,
    SetResult,
    Source,
)
from edge_bench.files.sets import AdversarialSet
from edge_bench.report.doubts import doubts_in
from edge_bench.robustness.replay import beside_source
from edge_bench.statistics.generations import generations
from edge_bench.statistics.metrics import BoolArray, encode_mask

N = 400


def mask(right: int) -> BoolArray:
    return np.arange(N) < right


def opened(name: str, source_right: int) -> AdversarialSet:
    manifest = SetManifest(
        samples=N,
        image_shape=(1, 1, 1),
        classes=2,
        dataset="d",
        attack=AttackSpec(name="pgd", epsilon=0.1, step_size=0.1, steps=1),
        threat="white-box",
        source_sha256="p",
        source_name="p",
        on_grid=True,
        arrays={},
        versions={},
    )
    nothing = np.zeros((N, 1, 1, 1), dtype=np.uint8)
    return AdversarialSet(
        path=Path(name),
        manifest=manifest,
        images=nothing,
        clean=nothing,
        labels=np.zeros(N, dtype=np.int64),
        source_success=~mask(source_right),
    )


@pytest.fixture
def report(
    make_report: Callable[..., Report], make_card: Callable[..., ModelCard]
) -> Callable[..., Report]:
    def make(
        results: list[tuple[AdversarialSet, str, int]],
        square: int | None = None,
        precision: str = "fp32",
    ) -> Report:
        found = make_report()
        sets = [
            SetResult(
                name=s.name,
                manifest=s.manifest,
                relation=relation,
                mask=encode_mask(mask(right)),
                beside_source=beside_source(mask(right), s),
            )
            for s, relation, right in results
        ]
        if square is not None:
            by_scores = replace(sets[0].manifest, threat="black-box")
            sets.append(
                SetResult(
                    name="square",
                    manifest=by_scores,
                    relation="this artefact",
                    mask=encode_mask(mask(square)),
                )
            )
        return replace(
            found,
            artifact=replace(found.artifact, card=make_card(precision=precision)),
            clean_mask=encode_mask(mask(300)),
            sets=tuple(sets),
        )

    return make


def test_a_report_without_sets_says_so(report: Callable[..., Report]) -> None:
    (sentence,) = doubts_in(report([]))
    assert sentence.startswith("no --sets given")


def test_a_sound_report_raises_no_doubt(report: Callable[..., Report]) -> None:
    one = opened("pgd", 200)
    assert doubts_in(report([(one, "its parent", 200)], square=200)) == []


def test_a_set_that_suits_the_parent_better_is_told_with_both_figures(
    report: Callable[..., Report],
) -> None:
    one = opened("pgd", 200)
    (sentence,) = doubts_in(report([(one, "its parent", 212)]))
    assert "keeps 53.0 % of the set pgd, its parent, on which it was crafted, 50.0 %" in sentence
    assert doubts_in(report([(one, "another model", 212)])) == []
    # Three of 400 more are within chance.
    assert doubts_in(report([(one, "its parent", 203)])) == []


def test_square_that_breaks_what_the_sets_left_is_told(report: Callable[..., Report]) -> None:
    one = opened("pgd", 200)
    (sentence,) = doubts_in(report([(one, "this artefact", 200)], square=190))
    assert "breaks 10 of 400 images that the replayed sets left" in sentence
    assert doubts_in(report([(one, "this artefact", 200)], square=198)) == []


@pytest.mark.parametrize(
    ("attacked", "by_rays"), [("survivors", 0), ("all", 50), ("survivors", 20)]
)
def test_no_attack_on_survivors_is_blamed_for_what_the_ones_before_it_broke(
    report: Callable[..., Report], attacked: str, by_rays: int
) -> None:
    """RayS tried what Square left, and its mask has a '0' for all else."""
    one = opened("pgd", 300)
    found = report([(one, "this artefact", 300)], square=250)
    pgd, square = found.sets
    left = 250 - (by_rays if attacked == "survivors" else 0)
    manifest = replace(square.manifest, threat="hard-label", attacked=attacked)
    rays = replace(square, name="rays", manifest=manifest, mask=encode_mask(mask(left)))
    told = doubts_in(replace(found, sets=(pgd, square, rays)))
    assert told[0].startswith("Square, which sees scores alone, breaks 50 of 400 images")
    # What stands one attack, and fell to another before it, was not left for the next one either.
    missed = replace(square, name="missed", mask=encode_mask(mask(300)))
    if attacked == "survivors":
        assert doubts_in(replace(found, sets=(pgd, square, missed, rays))) == told
    if by_rays:
        assert f"RayS, which sees the class alone, breaks {by_rays} of 400 images" in told[1]
    assert len(told) == (2 if by_rays else 1)


def test_a_replay_on_int8_is_an_upper_bound(report: Callable[..., Report]) -> None:
    one = opened("pgd", 200)
    (sentence,) = doubts_in(report([(one, "its parent", 200)], precision="int8"))
    assert sentence.startswith("pgd: these sets were not crafted on this INT8 artefact, so their")
    assert "upper bound" in sentence
    assert doubts_in(report([(one, "this artefact", 200)], precision="int8")) == []


@pytest.mark.parametrize(
    ("threat", "bound"), [("white-box", False), ("bpda", False), ("black-box", True)]
)
def test_sets_of_the_parent_bound_nothing_beside_gradients_of_the_artefact(
    report: Callable[..., Report], threat: str, bound: bool
) -> None:
    one, own = opened("pgd", 200), opened("own", 200)
    own = replace(own, manifest=replace(own.manifest, threat=threat))
    made = report([(one, "its parent", 200), (own, "this artefact", 200)], precision="int8")
    found = doubts_in(made)
    assert [sentence.partition(":")[0] for sentence in found] == (["pgd"] if bound else [])


def crafted_on(name: str, source: str, *before: str) -> AdversarialSet:
    """A set of a source that was refreshed from sets of the sources before, the oldest first."""
    one = opened(name, 200)
    refreshed = tuple(Source(sha256=sha256, name=sha256) for sha256 in before)
    manifest = replace(one.manifest, source_sha256=source, refreshed=refreshed)
    return replace(one, manifest=manifest)


def test_sources_are_as_old_as_the_card_says_else_as_the_sets_tell_in_any_order(
    report: Callable[..., Report],
) -> None:
    artefact = "a" * 64
    sets = [
        crafted_on("older", "first"),
        crafted_on("old", "second", "first"),  # Of what age is told by the next one.
        crafted_on("new", artefact, "second"),
        crafted_on("taught", "teacher"),
        # A set of the teacher that was refreshed at once: the student between is not in it.
        crafted_on("anew", artefact, "teacher"),
        crafted_on("strange", "another"),
    ]
    found = report([(one, "another model", 200) for one in sets])
    card = found.artifact.card
    assert card is not None
    taught = replace(card, parent_sha256="student", recipe={"teacher_sha256": "teacher"})
    found = replace(found, artifact=replace(found.artifact, sha256=artefact, card=taught))
    ages = {"older": 2, "old": 1, "new": 0, "taught": 2, "anew": 0, "strange": None}
    assert generations(found) == ages
    (doubt,) = [text for text in doubts_in(found) if "generations back" in text]
    assert "older (2 generations back), taught (2 generations back);" in doubt
