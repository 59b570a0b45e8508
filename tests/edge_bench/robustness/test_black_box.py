"""Square in a benchmark: by the scores of ONNX Runtime, beside the sets that were replayed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_bench.core.errors import InputError
from edge_bench.core.gate import Gate
from edge_bench.core.spec import AttackSpec, Report
from edge_bench.files.sets import AdversarialSet, open_set
from edge_bench.files.store import read_json, sha256_file, write_json
from edge_bench.options.bench import BenchOptions
from edge_bench.options.square import SquareOptions
from edge_bench.policy.gate import check
from edge_bench.report.doubts import doubts_in
from edge_bench.report.summary import accuracy_rows, threat_label
from edge_bench.robustness.rays import rays_attack
from edge_bench.robustness.square import square_attack
from edge_bench.runs.one_run import run
from edge_bench.statistics.metrics import decode_mask, encode_mask, worst_case_mask

MakeModel = Callable[..., Path]
MakeSet = Callable[..., Path]
Quick = Callable[..., BenchOptions]

CLASSES = 4
EPSILON = 6 / 255


@pytest.fixture
def weak(
    make_set: MakeSet, attacked: NDArray[np.uint8], weight: NDArray[np.float32]
) -> AdversarialSet:
    """A set that breaks nothing, of images so close to a boundary that Square breaks some.

    The first three labels are wrong.
    """
    labels = numpy_scores(weight)(attacked).argmax(axis=1)
    labels[:3] = (labels[:3] + 1) % CLASSES
    spec = AttackSpec(name="fgsm", epsilon=EPSILON, step_size=None, steps=1)
    manifest = {"attack": spec}
    return open_set(
        make_set("fgsm", images=attacked, clean=attacked, labels=labels, manifest=manifest)
    )


@pytest.fixture
def strong(make_set: MakeSet, weak: AdversarialSet, weight: NDArray[np.float32]) -> AdversarialSet:
    """A signed step of the budget that is offered, over the same images."""
    others = numpy_scores(weight)(weak.clean) - 1e9 * np.eye(CLASSES)[weak.labels]
    direction = weight[others.argmax(axis=1)] - weight[weak.labels]
    moved = weak.clean + (6 * np.sign(direction)).reshape(weak.clean.shape)
    images = np.clip(moved, 0, 255).astype(np.uint8)
    spec = AttackSpec(name="pgd", epsilon=EPSILON, step_size=None, steps=1)
    manifest = {"attack": spec}
    return open_set(
        make_set("pgd", images=images, clean=weak.clean, labels=weak.labels, manifest=manifest)
    )


def numpy_scores(weight: NDArray[np.float32]) -> Callable[[NDArray[Any]], NDArray[np.float64]]:
    """What the linear classifier says, without a runtime."""

    def compute(images: NDArray[Any]) -> NDArray[np.float64]:
        flat: NDArray[np.float64] = images.reshape(len(images), -1) / 255
        logits: NDArray[np.float64] = flat @ weight.T.astype(np.float64)
        return logits

    return compute


def square(**options: Any) -> SquareOptions:
    return SquareOptions(**({"queries": 40, "epsilon": EPSILON} | options))


def test_the_mask_of_square_is_what_an_attack_on_numpy_s_logits_leaves(
    make_model: MakeModel,
    weak: AdversarialSet,
    quick: Quick,
    weight: NDArray[np.float32],
) -> None:
    report = run(make_model(), [weak], quick(), square=square())
    replayed, attacked = report.sets
    assert report.clean_mask is not None
    expected = decode_mask(report.clean_mask) & decode_mask(replayed.mask)

    for finished in square_attack(
        numpy_scores(weight),
        weak.clean,
        weak.labels,
        epsilon=EPSILON,
        queries=40,
        seed=0,
        batch_size=64,
        indices=np.flatnonzero(expected),
    ):
        expected[finished.indices[finished.success]] = False
    assert attacked.mask == encode_mask(expected)
    assert 0 < expected.sum() < decode_mask(replayed.mask).sum()


@pytest.mark.parametrize(
    "how",
    [
        {"batch": 1},
        {"batch": 4},
        {"dtype": "uint8"},
        {"dtype": "uint8", "channels_last": True, "batch": 4},
        {"shape": (3, "height", "width"), "classes": "classes"},
    ],
)
def test_every_layout_of_the_input_gives_the_same_mask(
    make_model: MakeModel, weak: AdversarialSet, quick: Quick, how: dict[str, Any]
) -> None:
    plain = run(make_model("plain.onnx"), [weak], quick(), square=square())
    other = run(make_model("other.onnx", **how), [weak], quick(batch_size=5), square=square())
    assert other.sets[1].mask == plain.sets[1].mask


def test_a_result_says_what_was_run_on_what(
    make_model: MakeModel, weak: AdversarialSet, quick: Quick
) -> None:
    path = make_model()
    result = run(path, [weak], quick(), square=square(seed=3)).sets[1]
    assert (result.name, result.relation) == ("square40", "this artefact")
    manifest = result.manifest
    assert manifest.attack == AttackSpec(
        name="square", epsilon=EPSILON, step_size=None, steps=40, seed=3
    )
    assert (manifest.threat, manifest.source_sha256) == ("black-box", sha256_file(path))
    assert (manifest.source_name, manifest.arrays, manifest.on_grid) == ("model.onnx", {}, True)
    assert {"ort", "numpy", "ardx"} <= set(manifest.versions)


def test_a_sample_that_was_broken_before_is_neither_attacked_nor_called_robust(
    make_model: MakeModel, strong: AdversarialSet, quick: Quick
) -> None:
    steps: list[str] = []
    report = run(
        make_model(), [strong], quick(), lambda *step: steps.append(step[2]), square(queries=1)
    )
    assert report.clean_mask is not None
    before = decode_mask(report.clean_mask) & decode_mask(report.sets[0].mask)
    assert f"square1 on {before.sum()} images" in steps
    assert not (decode_mask(report.sets[1].mask) & ~before).any()
    assert report.sets[1].mask == worst_case_mask(report)
    assert threat_label(report.sets[1]) == "black-box on this artefact, on what the others left"


def test_attacking_all_reads_square_alone_and_leaves_the_worst_case_as_it_is(
    make_model: MakeModel, strong: AdversarialSet, quick: Quick
) -> None:
    path = make_model()
    some = run(path, [strong], quick(), square=square())
    every = run(path, [strong], quick(), square=square(attack_all=True))
    assert worst_case_mask(some) == some.sets[1].mask
    assert every.sets[1].mask.count("1") > some.sets[1].mask.count("1")
    assert worst_case_mask(every) == worst_case_mask(some)
    assert threat_label(every.sets[1]) == "black-box on this artefact"
    assert accuracy_rows(every)[2][:2] == ["square40", "black-box on this artefact"]


def test_nothing_left_to_attack_is_a_result_too(
    make_model: MakeModel, make_set: MakeSet, quick: Quick, labels: NDArray[np.int64]
) -> None:
    wrong = np.random.default_rng(0).permutation((labels + 1) % 4)
    path = make_model()
    first = run(path, [open_set(make_set("first", labels=wrong))], quick())
    assert first.clean_mask is not None
    answered = np.flatnonzero(decode_mask(first.clean_mask))
    wrong[answered] = (wrong[answered] + 1) % 4
    report = run(path, [open_set(make_set(labels=wrong))], quick(), square=square())
    assert report.sets[1].mask == "0" * len(labels)


def test_the_budget_is_that_of_the_sets(
    make_model: MakeModel, weak: AdversarialSet, quick: Quick
) -> None:
    report = run(make_model(), [weak], quick(), square=square(epsilon=None))
    assert report.sets[1].manifest.attack.epsilon == EPSILON


def test_progress_counts_sets_and_then_queries(
    make_model: MakeModel, weak: AdversarialSet, quick: Quick
) -> None:
    steps: list[tuple[int, int, str]] = []
    report = run(make_model(), [weak], quick(), lambda *step: steps.append(step), square())
    assert [step[:2] for step in steps[:2]] == [(1, 2), (2, 2)]
    total = 40 * decode_mask(report.sets[0].mask).sum()
    done = [step[0] for step in steps[2:]]
    assert {step[1] for step in steps[2:]} == {total}
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, total)
    assert steps[-1][2] == f"square40 {report.sets[1].mask.count('1') / 30:.1%}"


# --- reports ----------------------------------------------------------------------------------


def test_a_report_with_square_survives_the_way_through_a_file_and_the_gate(
    make_model: MakeModel, weak: AdversarialSet, quick: Quick, tmp_path: Path
) -> None:
    path = make_model()
    reports = []
    for name, options in (("some", square()), ("every", square(attack_all=True))):
        report = run(path, [weak], quick(), square=options)
        write_json(tmp_path / f"{name}.json", report, False)
        reports.append(read_json(tmp_path / f"{name}.json", Report, "a report"))
        assert reports[-1] == report
    # Whom Square attacked does not change a worst case, so the two compare.
    assert check(reports[0], Gate(max_robust_drop=0.0), reports[1]) == []


@pytest.mark.parametrize("other", [None, {"queries": 41}, {"epsilon": 5 / 255}, {"seed": 1}])
def test_a_baseline_under_another_square_is_not_compared(
    make_model: MakeModel, weak: AdversarialSet, quick: Quick, other: dict[str, Any] | None
) -> None:
    path = make_model()
    old = run(path, [weak], quick(), square=None if other is None else square(**other))
    new = run(path, [weak], quick(), square=square())
    with pytest.raises(InputError, match=r"other attacks.*differ in.*square4"):
        check(new, Gate(max_robust_drop=0.0), old)


# --- what is refused --------------------------------------------------------------------------


def test_square_without_sets_is_refused_before_the_model_is_opened(
    tmp_path: Path, quick: Quick
) -> None:
    with pytest.raises(InputError, match="--attack square: needs images and their labels; give"):
        run(tmp_path / "none.onnx", [], quick(), square=square())


def test_sets_of_two_budgets_ask_for_one(
    make_model: MakeModel, weak: AdversarialSet, quick: Quick
) -> None:
    spec = replace(weak.manifest.attack, epsilon=16 / 255)
    wider = replace(weak, path=weak.path.with_name("wider"))
    sets = [weak, replace(wider, manifest=replace(weak.manifest, attack=spec))]
    with pytest.raises(InputError, match="one epsilon to take it from, came 6/255, 16/255; give"):
        run(make_model(), sets, quick(), square=square(epsilon=None))
    assert len(run(make_model(), sets, quick(), square=square()).sets) == 3


def test_the_budget_of_an_l2_set_is_refused(
    make_model: MakeModel, make_set: MakeSet, quick: Quick, clean: NDArray[np.uint8]
) -> None:
    spec = AttackSpec(name="pgd", norm="l2", epsilon=0.5, step_size=0.1, steps=9)
    sets = [open_set(make_set(images=clean, manifest={"attack": spec}))]
    with pytest.raises(InputError, match=r"in L-inf only, but .*pgd has an l2 budget; give the"):
        run(make_model(), sets, quick(), square=square(epsilon=None))


def test_a_budget_below_the_grid_is_refused(
    make_model: MakeModel, weak: AdversarialSet, quick: Quick
) -> None:
    with pytest.raises(InputError, match=r"--epsilon 0.003: less than one step .*use 1/255"):
        run(make_model(), [weak], quick(), square=square(epsilon=0.003))


def test_a_set_with_the_name_of_the_result_is_refused(
    make_model: MakeModel, weak: AdversarialSet, quick: Quick
) -> None:
    taken = replace(weak, path=weak.path.with_name("square40"))
    with pytest.raises(InputError, match=r"square40: has the name .*rename the folder"):
        run(make_model(), [taken], quick(), square=square())


@pytest.mark.parametrize(("option", "value"), [("queries", 0), ("seed", -1)])
def test_options_that_cannot_be_run_are_refused(option: str, value: int) -> None:
    with pytest.raises(InputError, match=f"--{option} {value}: expected"):
        square(**{option: value})


def test_logits_that_overflow_under_attack_alone_are_refused(
    make_model: MakeModel, make_set: MakeSet, quick: Quick, clean: NDArray[np.uint8]
) -> None:
    """Two pixels whose sum is finite as long as neither grows."""
    grey = np.full_like(clean, 128)
    weight = np.zeros((4, 192), dtype=np.float32)
    weight[0, :2] = 3.35e38
    labels = np.zeros(len(grey), dtype=np.int64)
    sets = [open_set(make_set(images=grey, clean=grey, labels=labels))]
    with pytest.raises(InputError, match="infinity for an image that --attack square tried; "):
        run(make_model(weight=weight), sets, quick(), square=square())


def test_rays_sees_classes_alone_and_its_result_says_so(
    make_model: MakeModel, weak: AdversarialSet, quick: Quick, weight: NDArray[np.float32]
) -> None:
    report = run(make_model(), [weak], quick(), square=square(attack="rays", queries=300))
    replayed, attacked = report.sets
    assert (attacked.name, attacked.manifest.threat) == ("rays300", "hard-label")
    assert attacked.manifest.attack.name == "rays"
    assert report.clean_mask is not None
    expected = decode_mask(report.clean_mask) & decode_mask(replayed.mask)
    for finished in rays_attack(
        numpy_scores(weight),
        weak.clean,
        weak.labels,
        epsilon=EPSILON,
        queries=300,
        seed=0,
        batch_size=64,
        indices=np.flatnonzero(expected),
    ):
        expected[finished.indices[finished.success]] = False
    assert attacked.mask == encode_mask(expected)
    assert 0 < expected.sum() < decode_mask(replayed.mask).sum()
    lost = int(decode_mask(replayed.mask).sum() - expected.sum())
    (doubt,) = [text for text in doubts_in(report) if "RayS" in text]
    assert f"the class alone, breaks {lost} of {len(expected)} images" in doubt


def test_a_corruption_neither_breaks_a_sample_before_an_attack_nor_lends_it_a_budget(
    make_model: MakeModel, make_set: MakeSet, weak: AdversarialSet, quick: Quick
) -> None:
    attack = AttackSpec(name="fog", epsilon=1, step_size=None, steps=None, severity=5)
    images = 255 - weak.clean
    manifest = {"attack": attack, "threat": "corruption"}
    fog = open_set(
        make_set("fog", images=images, clean=weak.clean, labels=weak.labels, manifest=manifest)
    )
    alone = run(make_model("a.onnx"), [weak], quick(), square=square(epsilon=None))
    beside = run(make_model("b.onnx"), [fog, weak], quick(), square=square(epsilon=None))
    assert (decode_mask(alone.sets[-1].mask) & ~decode_mask(beside.sets[0].mask)).any()
    assert beside.sets[-1].mask == alone.sets[-1].mask
    with pytest.raises(InputError, match="--attack rays: expected a set of an attack"):
        run(make_model("c.onnx"), [fog], quick(), square=square(attack="rays", epsilon=None))
