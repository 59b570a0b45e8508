"""Whatever bytes a parser of outside files is given, it reads or refuses them; for seconds here.

`make fuzz` goes on for longer, guided by coverage where atheris is installed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .parsers import PARSERS, Harness, mutated

EXAMPLES = int(os.environ.get("ARDX_FUZZ_EXAMPLES", "25"))
PAST: dict[str, tuple[bytes, ...]] = {}
"""By parser, what it once did not survive; see docs/explanation/reliability.md."""


@pytest.fixture
def harness(request: pytest.FixtureRequest) -> Iterator[Harness]:
    found = Harness(PARSERS[request.param])
    yield found
    found.close()


@pytest.mark.parametrize("harness", PARSERS, indirect=True)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(content=st.binary(max_size=200), seed=st.integers(0, 2**32))
def test_no_bytes_make_a_parser_fail(harness: Harness, content: bytes, seed: int) -> None:
    draws = Random(seed)
    harness(content)
    harness(mutated(draws.choice(harness.examples), draws))


@pytest.mark.parametrize(("name", "content"), [(n, c) for n, cs in PAST.items() for c in cs])
def test_what_was_once_found_stays_mended(name: str, content: bytes) -> None:
    harness = Harness(PARSERS[name])
    harness(content)
    harness.close()
