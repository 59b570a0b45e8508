"""The gap between the product's way and the card's, counted by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edge_bench.core.errors import InputError
from edge_bench.core.pictures.answers import Answers
from edge_bench.core.pictures.walked import CARD, Walked
from edge_bench.core.series import POWER, Phase, Samples, Series, Telemetry, encode_series
from edge_bench.core.spec import Report
from edge_bench.report.device_summary import device_figures, device_rows
from edge_bench.statistics.metrics import answers_of
from edge_bench.statistics.path import (
    TOTAL,
    as_measurement,
    path_gap,
    path_gaps,
    right,
    stage_ns,
    worst_gap,
)
from edge_bench.statistics.stats import mcnemar_p_value, paired_difference_interval

LABELS = [0, 0, 0, 0, 1, 1, 1, 2]


def told(*classes: int) -> Answers:
    return answers_of(np.array(classes), np.full(len(classes), 5000))


def make(**fields: Any) -> Walked:
    plain: dict[str, Any] = {
        "folder": "photos",
        "files_sha256": "f" * 64,
        "pipeline": "opencv",
        "class_names": ("ant", "bee", "fly", "moth"),
        "labels": encode_series(LABELS),
        # Three lost (two ants, one bee), one won (a bee), one wrong in another way (the fly).
        "answers": told(0, 0, 1, 2, 1, 1, 0, 3),
        "card_answers": told(0, 0, 0, 0, 1, 0, 1, 1),
        "stages": {"read": encode_series([1] * 8), "decode": encode_series(range(8))},
    }
    return Walked(**(plain | fields))


def test_a_gap_is_of_pairs_and_tells_the_class_that_pays() -> None:
    walked = make()
    gap = path_gap(walked)
    assert gap is not None
    assert right(walked).tolist() == [True, True, False, False, True, True, False, False]
    assert (gap.only_product, gap.only_card, gap.changed, gap.samples) == (1, 3, 5, 8)
    assert (gap.gap, gap.lost) == (-0.25, 0.25)
    assert gap.p_value == mcnemar_p_value(3, 1)
    low, high = paired_difference_interval(3, 1, 8)
    assert (gap.interval(), gap.interval_of_loss()) == ((low, high), (-high, -low))
    assert {name: each.gap for name, each in path_gaps(walked).items()} == {
        "ant": -0.5,
        "bee": 0,
        "fly": 0,
    }
    worst = worst_gap(walked)
    assert worst is not None
    assert worst[0] == "ant"
    # Of several that lose as much, the first by name, whatever its number is.
    alike = worst_gap(make(class_names=("fly", "bee", "ant", "moth"), card_answers=walked.answers))
    assert alike is not None
    assert alike[0] == "ant"


def test_the_card_s_own_way_has_no_gap_however_few_the_pictures_are() -> None:
    own = path_gap(make(pipeline=CARD, card_answers=make().answers))
    assert own is not None
    assert (own.same_way, own.gap, own.interval()) == (True, 0, (0, 0))
    # On another way as many pictures without a change still leave a doubt.
    other = path_gap(make(card_answers=make().answers))
    assert other is not None
    assert other.interval()[0] < other.gap == 0 < other.interval()[1]


def test_times_of_all_stages_are_added_picture_by_picture() -> None:
    assert stage_ns(make())[TOTAL].tolist() == list(range(1, 9))
    timed = as_measurement(make())
    assert (timed.latency_ns, timed.batch_size) == (tuple(range(1, 9)), 1)
    assert timed.first_ns == 1


def metered(end_s: float) -> Telemetry:
    """5 W until 4 s and 8 W from then on; the pictures from 5 s on."""
    times = np.arange(0.05, 8, 0.1)
    values = encode_series([5_000_000 if time < 4 else 8_000_000 for time in times])
    spans = (("idle", 0.0, 3.0), ("latency", 5.0, 7.0), ("throughput", 5.0, 7.0))
    phases = tuple(
        Phase(name=name, begin_us=round(1e6 * begin), end_us=round(1e6 * end))
        for name, begin, end in (*spans, ("pictures", 5.0, end_s))
    )
    series = (Series(quantity=POWER, name="VDD_IN", values=values),)
    block = Samples(
        period_us=100_000,
        time_us=encode_series([round(1e6 * time) for time in times]),
        series=series,
    )
    return Telemetry(samples=(block,), phases=phases, total_rails=("VDD_IN",), total_is="a test's")


def test_energy_is_that_of_the_product_s_way_alone(make_report: Callable[..., Report]) -> None:
    report = replace(make_report(), pictures=make(), telemetry=metered(7.0))
    # 3 W above idle for 2 s, over 8 pictures.
    assert device_figures(report)["energy_mj"]["pictures"] == pytest.approx(750)
    what = "energy per picture from file to logits, above idle"
    (told,) = (value for name, value in device_rows(report) if name == what)
    assert told.startswith("750 mJ")
    short = replace(report, telemetry=metered(5.2))
    (told,) = (value for name, value in device_rows(short) if name == what)
    assert told.endswith("run ardx bench with --pictures that take, in seconds, 0.75 or more")


def test_without_the_card_s_way_there_is_no_gap() -> None:
    walked = make(card_answers=None)
    assert (path_gap(walked), path_gaps(walked), worst_gap(walked)) == (None, {}, None)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"answers": told(0, 1)}, "expected a label, an answer and a time of each stage for each"),
        ({"card_answers": told(0, 1)}, "expected a label, an answer and a time"),
        ({"stages": {}}, "expected times of one or more stages"),
        ({"stages": {"read": encode_series([-1] * 8)}}, "expected times of one or more stages"),
        ({"labels": encode_series([4] * 8)}, "expected labels of 4 classes, came 4 to 4"),
    ],
)
def test_what_cannot_have_been_walked_is_refused(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        make(**fields)
