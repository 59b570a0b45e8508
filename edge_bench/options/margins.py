"""What counts as no change where two reports are compared."""

from __future__ import annotations

MARGIN = 0.01
"""Of an accuracy, a fraction."""

LATENCY_MARGIN = 0.05
"""Of a latency, relative."""
