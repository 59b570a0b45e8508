"""Errors of ardx reach whoever asked another process for work."""

from __future__ import annotations

import importlib
import pickle
import pkgutil
from collections.abc import Iterator

import pytest

import ard
import deploy
import edge_bench
from edge_bench.core.errors import ArdxError

PACKAGES = (ard, deploy, edge_bench)


def subclasses(kind: type[ArdxError]) -> Iterator[type[ArdxError]]:
    yield kind
    for narrower in kind.__subclasses__():
        yield from subclasses(narrower)


def every_error() -> list[type[ArdxError]]:
    """The errors of all modules of the three packages."""
    for package in PACKAGES:
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    return sorted(set(subclasses(ArdxError)), key=lambda kind: kind.__qualname__)


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_an_error_is_the_same_after_a_process_boundary(kind: type[ArdxError]) -> None:
    # As its own `__init__` leaves it, whatever that takes.
    error = kind.__new__(kind, "a sentence")
    vars(error)["said"] = "more than that"
    found = pickle.loads(pickle.dumps(error))
    assert type(found) is kind
    assert (str(found), found.args, vars(found)) == (str(error), error.args, vars(error))
