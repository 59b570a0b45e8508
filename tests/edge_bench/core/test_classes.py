"""Classes are matched by their names."""

from __future__ import annotations

import pytest

from edge_bench.core.classes import in_order, indices_of, require_same
from edge_bench.core.errors import InputError


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["10", "9", "1"], ["1", "9", "10"]),
        (["b", "10", "9"], ["10", "9", "b"]),
        (["02", "10", "1"], ["1", "02", "10"]),
        (["1", "01", "0"], ["0", "01", "1"]),
        ([], []),
    ],
)
def test_numbers_are_in_the_order_of_numbers(names: list[str], expected: list[str]) -> None:
    assert in_order(names) == expected


@pytest.mark.parametrize(
    ("found", "known", "expected"),
    [
        (["owl", "cat"], ("cat", "dog", "owl"), [2, 0]),
        # Numbers are the places of a model that names its classes by words.
        (["0", "1", "2"], ("cat", "dog", "owl"), [0, 1, 2]),
        (["00", "01", "02"], ("cat", "dog", "owl"), [0, 1, 2]),
        (["2", "1"], ("1", "2"), [1, 0]),
    ],
)
def test_a_class_is_found_by_its_name(
    found: list[str], known: tuple[str, ...], expected: list[int]
) -> None:
    assert indices_of(found, known, "pictures") == expected


@pytest.mark.parametrize(
    "found",
    [
        *(["ant", "cat"], ["0", "cat"], ["Katze"], ["Cat"], ["test", "train"]),
        *(["0", "1"], ["0", "3"], ["1", "2"], ["1", "2", "3"], ["0", "2"], ["0", "00", "1"]),
    ],
)
def test_a_class_that_the_model_does_not_know_is_refused_with_both_lists(found: list[str]) -> None:
    with pytest.raises(InputError, match=r"none of the model's; found .*expected some of 'cat'"):
        indices_of(found, ("cat", "dog", "owl"), "pictures")


def test_numbers_are_no_places_among_other_numbers() -> None:
    with pytest.raises(InputError, match="none of the model's"):
        indices_of(["0", "1", "2"], ("10", "20", "30"), "pictures")


def test_classes_of_two_files_are_compared_where_both_have_names() -> None:
    require_same(("a", "b"), ("a", "b"), "x", "y")
    require_same(None, ("a", "b"), "x", "y")
    require_same(("a", "b"), None, "x", "y")
    with pytest.raises(InputError, match="in another order"):
        require_same(("a", "b"), ("b", "a"), "x", "y")
    with pytest.raises(InputError, match="of other names"):
        require_same(("a", "b"), ("a", "c"), "x", "y")
