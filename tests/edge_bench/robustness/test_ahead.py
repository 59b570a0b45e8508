"""The next item is made while this one is used, in order, and only where it is wanted."""

from __future__ import annotations

import threading

import pytest

from edge_bench.robustness.ahead import Ahead


def test_items_come_in_their_order_and_each_is_made_once() -> None:
    made: list[int] = []

    def make(index: int) -> int:
        made.append(index)
        return 10 * index

    with Ahead(make, 5) as ahead:
        assert [ahead.take(index) for index in range(5)] == [0, 10, 20, 30, 40]
    assert made == [0, 1, 2, 3, 4]


def test_the_next_is_made_while_this_one_is_used() -> None:
    begun = threading.Event()

    def make(index: int) -> int:
        if index == 1:
            begun.set()
        return index

    with Ahead(make, 2) as ahead:
        ahead.take(0)
        assert begun.wait(10)


def test_items_may_be_left_out() -> None:
    made: list[int] = []
    with Ahead(lambda index: made.append(index) or index, 9) as ahead:  # type: ignore[func-returns-value]
        assert ahead.take(6) == 6
        assert ahead.take(8) == 8
    assert set(made) == {6, 7, 8}


def test_an_error_comes_with_its_item() -> None:
    def make(index: int) -> int:
        if index == 1:
            raise ValueError("item 1")
        return index

    with Ahead(make, 3) as ahead:
        assert ahead.take(0) == 0
        with pytest.raises(ValueError, match="item 1"):
            ahead.take(1)
