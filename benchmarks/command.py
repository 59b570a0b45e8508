"""Functions as commands of these benchmarks."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import typer

from edge_bench.core.errors import ArdxError


def run(main: Callable[..., Any]) -> None:
    """Run `main` with the options of its signature; what a user can mend ends it in a sentence."""
    try:
        typer.run(main)
    except ArdxError as error:
        sys.exit(f"error: {error}")
