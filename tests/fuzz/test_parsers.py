"""Whatever bytes a parser of outside files is given, it reads or refuses them; for seconds here.

`make fuzz` goes on for longer, guided by coverage where atheris is installed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import BytesIO
from random import Random
from zipfile import ZipFile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .parsers import PARSERS, Harness, examples_of, mutated

EXAMPLES = int(os.environ.get("ARDX_FUZZ_EXAMPLES", "25"))


def _array_of(header: bytes) -> bytes:
    """An array file whose header says this, and that holds nothing."""
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


def _in_place_of_arrays(archive: bytes, array: bytes) -> bytes:
    """An archive of arrays that are all `array`."""
    written = BytesIO()
    with ZipFile(BytesIO(archive)) as old, ZipFile(written, "w") as new:
        for name in old.namelist():
            new.writestr(name, array)
    return written.getvalue()


OF_PYTHON_2 = tuple(
    _array_of(header)
    for header in (
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (1L,), }",  # a remark of numpy's
        b'{\'descr\': """',  # a text without end: TokenError
        b"{'descr': '|u1',\n  'shape': (1,\n 1",  # a bracket without end
        b"  {'descr'\n {\n}",  # SyntaxError, or IndentationError
    )
)
"""numpy reads headers that it does not understand as programs of Python 2."""
PAST: dict[str, tuple[bytes, ...]] = {
    "array of a set": OF_PYTHON_2,
    **{
        name: tuple(
            _in_place_of_arrays(examples_of(PARSERS[name])[0], array) for array in OF_PYTHON_2
        )
        for name in ("fingerprint", "arrays of others")
    },
}
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
