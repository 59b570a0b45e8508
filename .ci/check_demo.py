"""Does the demo show what it must? The undefended student falls, the distilled one stands."""

from __future__ import annotations

import sys
from pathlib import Path

from edge_bench.core.spec import Report
from edge_bench.files.store import read_json
from edge_bench.statistics.metrics import accuracy, worst_case_mask


def robust(folder: Path, name: str) -> float:
    report = read_json(folder / "reports" / f"{name}.json", Report, "a report")
    mask = worst_case_mask(report)
    assert mask is not None
    return accuracy(mask)


folder = Path(sys.argv[1])
undefended, student, int8 = (robust(folder, n) for n in ("undefended", "student", "student-int8"))
print(f"robust accuracy: undefended {undefended:.3f}, student {student:.3f}, int8 {int8:.3f}")
if undefended >= 0.20 or student < undefended + 0.30 or int8 < undefended + 0.30:
    sys.exit("the demo does not show a robust student beside a broken undefended one")
