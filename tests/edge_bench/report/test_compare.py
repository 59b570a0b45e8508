"""The fastest backend is looked for among those that keep the robust accuracy."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from scipy.stats import binomtest

from edge_bench.core.errors import InputError
from edge_bench.core.spec import Report
from edge_bench.report.compare import HEADER, Standing, conclusion, judge, rows, verdict_of

MakeReport = Callable[..., Report]

SAMPLES = 400
NOISE = (1.0, 1.02, 0.99, 1.01, 0.98, 1.03, 1.0)


def rounds(ms: float) -> tuple[int, ...]:
    """Medians of rounds around some milliseconds, as noisy as another backend's."""
    return tuple(round(1e6 * ms * factor) for factor in NOISE)


def report(make_report: MakeReport, right: str) -> Report:
    return make_report("1" * len(right), {"pgd": right})


def mask(wrong_from: int, wrong_to: int) -> str:
    """A mask of SAMPLES with the samples [from, to) wrong."""
    return "".join("0" if wrong_from <= i < wrong_to else "1" for i in range(SAMPLES))


@pytest.fixture
def verdicts(make_report: MakeReport) -> Callable[..., tuple[list[Standing], list[str]]]:
    """Standings, and their verdicts, of (mask, milliseconds) by name."""

    def make(**backends: tuple[str, float]) -> tuple[list[Standing], list[str]]:
        found = judge(
            {name: report(make_report, right) for name, (right, _) in backends.items()},
            {name: rounds(ms) for name, (_, ms) in backends.items()},
        )
        return found, [verdict_of(standing, found[0]) for standing in found]

    return make


Verdicts = Callable[..., tuple[list[Standing], list[str]]]


def test_of_equally_robust_backends_the_fastest_wins(verdicts: Verdicts) -> None:
    found, words = verdicts(ort=(mask(0, 40), 2.0), openvino=(mask(0, 40), 1.0))
    assert [s.backend for s in found] == ["openvino", "ort"]
    assert words == ["fastest", "slower"]
    assert found[1].slowdown == pytest.approx((2.0, 2.0, 2.0))
    assert (found[0].lost, found[0].won, found[0].p_value) == (0, 0, 1.0)
    assert found[0].worst_case == 0.9
    sentence = conclusion(found)
    assert sentence.startswith(
        "openvino is the fastest at equal worst-case robust accuracy: 1.000 ms (p50); ort takes "
        "2.00 (2.00 to 2.00) times as long"
    )
    # Two identical masks of 400 samples cannot rule out a loss of half a point.
    assert sentence.endswith("equal means that a loss above 0.69 points is ruled out (95%)")


def test_a_faster_backend_that_loses_robust_accuracy_is_no_candidate(verdicts: Verdicts) -> None:
    found, words = verdicts(ort=(mask(0, 40), 2.0), openvino=(mask(0, 52), 1.0))
    assert [s.backend for s in found] == ["ort", "openvino"]
    p_value = binomtest(12, 12).pvalue
    assert words == ["fastest", f"loses robust accuracy (p = {p_value:.2g})"]
    assert (found[1].lost, found[1].won) == (12, 0)
    assert found[1].difference is not None
    assert found[1].difference[0] == -12 / SAMPLES
    assert "openvino is no candidate, -3.0 (" in conclusion(found)
    # Which says nothing of how equal the candidates are.
    assert conclusion(found).endswith("a loss above 0.69 points is ruled out (95%)")


def test_candidates_come_before_whatever_is_faster_than_they_are(verdicts: Verdicts) -> None:
    kept, lossy = mask(0, 40), mask(0, 60)
    found, words = verdicts(a=(lossy, 1.0), b=(kept, 3.0), c=(lossy, 0.5), d=(kept, 2.0))
    assert [s.backend for s in found] == ["d", "b", "c", "a"]
    assert words[:2] == ["fastest", "slower"]


def test_a_loss_that_chance_explains_leaves_a_candidate_and_is_shown(verdicts: Verdicts) -> None:
    # Five samples of one kind alone: the exact McNemar test gives 0.0625.
    found, words = verdicts(ort=(mask(0, 40), 2.0), openvino=(mask(0, 45), 1.0))
    assert words == ["fastest", "slower"]
    assert found[0].backend == "openvino"
    assert found[0].p_value == binomtest(5, 5).pvalue
    table = rows(found)
    assert table[0][:4] == ["openvino", "88.8 %", "-1.2 (-2.5 to 0.0)", "5, 0"]
    assert all(len(row) == len(HEADER) for row in table)


def test_samples_lost_and_won_are_counted_and_not_just_the_difference(verdicts: Verdicts) -> None:
    found, _ = verdicts(ort=(mask(0, 40), 2.0), openvino=(mask(30, 71), 1.0))
    (other,) = [s for s in found if s.backend == "openvino"]
    assert (other.lost, other.won) == (31, 30)
    assert other.is_candidate


def test_backends_within_noise_are_both_named(make_report: MakeReport) -> None:
    right = mask(0, 40)
    reports = {name: report(make_report, right) for name in ("ort", "openvino")}
    noisy = {"ort": (10, 12, 9, 11, 10, 13, 9), "openvino": (11, 9, 12, 10, 11, 8, 10)}
    found = judge(reports, noisy)
    assert verdict_of(found[1], found[0]) == "as fast, within noise"
    assert "are the fastest at equal worst-case robust accuracy, and within noise" in conclusion(
        found
    )


def test_no_backend_that_loses_robust_accuracy_is_among_the_fastest(
    make_report: MakeReport,
) -> None:
    noisy = {"ort": (10, 12, 9, 11, 10, 13, 9), "openvino": (11, 9, 12, 10, 11, 8, 10)}
    masks = {"ort": mask(0, 40), "openvino": mask(0, 60)}
    found = judge({name: report(make_report, right) for name, right in masks.items()}, noisy)
    assert conclusion(found).startswith("ort is the fastest at equal worst-case robust accuracy:")


def test_a_slowdown_that_hit_both_in_the_same_rounds_changes_nothing(
    make_report: MakeReport,
) -> None:
    reports = {name: report(make_report, mask(0, 40)) for name in ("ort", "openvino")}
    slow = (1, 1, 9, 9, 1, 9, 1, 1, 9)
    found = judge(
        reports,
        {"ort": tuple(110 * s for s in slow), "openvino": tuple(100 * s for s in slow)},
    )
    assert found[0].backend == "openvino"
    assert found[1].slowdown == pytest.approx((1.1, 1.1, 1.1))


def test_without_sets_only_speed_is_compared_and_the_sentence_says_so(
    make_report: MakeReport,
) -> None:
    found = judge(
        {name: make_report() for name in ("ort", "openvino")},
        {"ort": rounds(1.0), "openvino": rounds(3.0)},
    )
    assert found[0].difference is None
    sentence = conclusion(found)
    assert "ort is the fastest (robust accuracy not measured)" in sentence
    assert "equal" not in sentence
    assert rows(found)[0][1] == "not measured"


def test_one_backend_alone_is_not_called_the_fastest(verdicts: Verdicts) -> None:
    found, _ = verdicts(ort=(mask(0, 40), 2.0))
    assert conclusion(found) == "ort is the only backend that ran: 2.000 ms (p50)"


def test_reports_of_other_images_are_not_compared(make_report: MakeReport) -> None:
    reports = {
        "ort": make_report("11", {"pgd": "11"}),
        "openvino": make_report("11", {"pgd": "11"}, images_sha256="d" * 64),
    }
    with pytest.raises(InputError, match="saw other images"):
        judge(reports, {"ort": (1,), "openvino": (1,)})
    reports["openvino"] = make_report("11", {"pgd": "11"}, epsilon=4 / 255)
    with pytest.raises(InputError, match="other images or attacks"):
        judge(reports, {"ort": (1,), "openvino": (1,)})
