"""A gate as a test: `ARDX_REPORT=report.json pytest examples/test_gate.py`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_bench import Gate, check, read_report

GATE = Gate(min_clean_accuracy=0.5, min_robust_accuracy=0.2, max_size_bytes=2_000_000)


@pytest.mark.skipif("ARDX_REPORT" not in os.environ, reason="ARDX_REPORT names no report")
def test_the_artefact_may_ship() -> None:
    """One sentence for each condition that the report does not meet."""
    violations = check(read_report(Path(os.environ["ARDX_REPORT"])), GATE)
    assert not violations, "\n".join(violation.sentence for violation in violations)
