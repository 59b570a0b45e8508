"""Single-stream under MLPerf's own load generator (mlcommons-loadgen), on the same call."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

PERCENTILE = re.compile(r"^(\d+)\.00 percentile latency \(ns\)\s*:\s*(\d+)", re.MULTILINE)


def single_stream(call: Callable[[], object], queries: int) -> dict[int, float]:
    """Latency in nanoseconds by percentile, of at least `queries` queries of one sample."""
    import mlperf_loadgen as lg

    def issue(samples: Any) -> None:
        for sample in samples:
            call()
            lg.QuerySamplesComplete([lg.QuerySampleResponse(sample.id, 0, 0)])

    settings = lg.TestSettings()
    settings.scenario = lg.TestScenario.SingleStream
    settings.mode = lg.TestMode.PerformanceOnly
    settings.min_query_count = queries
    settings.max_query_count = queries
    settings.min_duration_ms = 0
    with tempfile.TemporaryDirectory() as folder:
        logs = lg.LogSettings()
        logs.log_output.outdir = folder
        logs.log_output.copy_summary_to_stdout = False
        logs.enable_trace = False
        sut = lg.ConstructSUT(issue, lambda: None)
        qsl = lg.ConstructQSL(1, 1, lambda _: None, lambda _: None)
        try:
            lg.StartTestWithLogSettings(sut, qsl, settings, logs)
        finally:
            lg.DestroyQSL(qsl)
            lg.DestroySUT(sut)
        summary = (Path(folder) / "mlperf_log_summary.txt").read_text(encoding="utf-8")
    return {int(match[1]): float(match[2]) for match in PERCENTILE.finditer(summary)}
