"""Make the next one while this one is used."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """Items 0 to `count` - 1 in their order, each made in a thread while the one before is used.

    A context manager. Items may be left out, but none is taken twice or after a later one.
    """

    def __init__(self, make: Callable[[int], T], count: int) -> None:
        self._make, self._count = make, count
        self._next: tuple[int, Future[T]] | None = None

    def __enter__(self) -> Ahead[T]:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ahead")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._thread.shutdown(cancel_futures=True)

    def take(self, index: int) -> T:
        """Item `index`; the next one is begun."""
        if self._next is not None and self._next[0] == index:
            item = self._next[1].result()
        else:
            item = self._make(index)
        if index + 1 < self._count:
            self._next = index + 1, self._thread.submit(self._make, index + 1)
        return item
