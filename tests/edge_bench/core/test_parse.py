"""Texts that would exhaust a stack, or say something twice, are refused in a few words."""

from __future__ import annotations

import pytest

from edge_bench.core.parse import DEEPEST, json_of, toml_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "nested more than 64 deep"),
        ("[" * 65 + "]" * 65, "nested more than 64 deep"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "nested more than 64 deep"),
        ("9" * 5000, "too large"),
        ("1" + "0" * 400, "too large"),
        (str(2**63), "too large"),
        ("1e999", "infinite"),
        ("[NaN]", "NaN stands in it"),
        ('{"a": -Infinity}', "-Infinity stands in it"),
        ('{"a": {"b": 1, "b": 2}}', "'b' stands twice"),
        ("{", "Expecting"),
    ],
)
def test_json_beyond_its_bounds_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        json_of(text)
    assert len(str(caught.value)) < 100


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = " + "[" * 900 + "]" * 900, "nested more than 64 deep"),
        ("a = " + "[" * 100_000, "nested more than 64 deep"),
        ("a = " + "9" * 5000, "too large"),
        ("a = 1" + "0" * 400, "too large"),
        ("a = inf", "infinite"),
        ("a = 1e999", "infinite"),
        ("a = 1\na = 2", "overwrite"),
    ],
)
def test_toml_beyond_its_bounds_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        toml_of(text)
    assert len(str(caught.value)) < 100


def test_what_is_within_the_bounds_is_read() -> None:
    deep = "[" * DEEPEST + "]" * DEEPEST
    assert str(json_of(deep)).count("[") == DEEPEST
    assert json_of('{"a": [1, 2.5, true, null, "b", 9223372036854775807]}') == {
        "a": [1, 2.5, True, None, "b", 2**63 - 1]
    }
    assert toml_of("a = [1, 2.5]\n[b]\nc = 'd'") == {"a": [1, 2.5], "b": {"c": "d"}}
