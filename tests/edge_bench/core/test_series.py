"""Time series survive their form in a report, and a broken one is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge_bench.core.errors import InputError
from edge_bench.core.series import (
    JOINED,
    POWER,
    Samples,
    Series,
    decode_series,
    encode_array,
    encode_series,
    holds_only,
    series_array,
)


@pytest.mark.parametrize(
    "values",
    [
        [],
        [0],
        [5, 5, 5],
        [5_080_320, 5_080_320, -394_080, 0],
        [None, 7, None, None, 8],
        [None, None],
        [2**62, -(2**62)],
    ],
)
def test_a_series_comes_back_as_it_was(values: list[int | None]) -> None:
    assert decode_series(encode_series(values)) == values


@pytest.mark.parametrize("count", [0, 1, JOINED, 2 * JOINED + 1])
def test_an_array_is_the_series_of_its_numbers(count: int) -> None:
    values = np.random.default_rng(0).integers(0, 10_000, count, dtype=np.uint16)
    assert encode_array(values) == encode_series(values.tolist())


def test_what_does_not_change_takes_two_bytes_a_reading() -> None:
    assert len(encode_series([48_531] * 1000)) < 2 * 1000 + 5


@pytest.mark.parametrize("text", ["1 2 y", "1.5", "1,2", "1 nan", str(2**63), f"{2**62} {2**62}"])
def test_a_string_that_is_no_series_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"a series: expected whole numbers or x.* came"):
        decode_series(text)
    with pytest.raises(InputError, match="expected whole numbers of 64 bits"):
        series_array(text)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"time_us": ""}, "times that rise"),
        ({"time_us": "0 100 -50"}, "times that rise"),
        ({"time_us": "0 100 0"}, "times that rise"),
        ({"time_us": "-5 100 100"}, "times that rise"),
        ({"time_us": "0 x 100"}, "times that rise"),
        ({"time_us": "0 100"}, "expected 2 values of VDD_IN"),
        ({"quantity": "watts"}, "came 'watts'"),
        ({"values": "1 0 y"}, "came 'y'"),
    ],
)
def test_samples_that_cannot_be_are_refused(fields: dict[str, Any], message: str) -> None:
    plain = {"time_us": "0 100 100", "quantity": POWER, "values": "5 0 x"} | fields
    series = {"quantity": plain["quantity"], "name": "VDD_IN", "values": plain["values"]}
    with pytest.raises(InputError, match=message):
        Samples(period_us=100, time_us=plain["time_us"], series=(Series(**series),))


@pytest.mark.parametrize(
    ("text", "held"), [("0110", True), ("", True), ("012", False), ("0\u0661", False)]
)
def test_a_text_is_held_to_its_characters(text: str, held: bool) -> None:
    assert holds_only("01", text) is held
