"""The workflow and the policy that a project starts with, each line with its reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import floor
from pathlib import Path

from edge_bench.ci.found import Found
from edge_bench.core.errors import InputError
from edge_bench.core.spec import Report
from edge_bench.core.version import __version__
from edge_bench.files.fingerprint import differs
from edge_bench.policy.measured import measured
from edge_bench.report.doubts import doubts_in

WORKFLOW = Path(".github/workflows/robustness.yml")
POLICY = Path("gate.toml")
BELOW = 0.01
"""A floor stands this far under what was measured: another processor rounds differently."""
SLOWER, LARGER = 1.5, 1.05

HEAD = """\
# Written by `ardx init ci`. Replays stored attacks on the artefact in every pull request, and
# holds the report against gate.toml.
name: Robustness

on:
  pull_request:
  workflow_dispatch:

# This run needs no right to write, and a fork's has none.
permissions:
  contents: read

jobs:
  gate:
    runs-on: ubuntu-latest
    timeout-minutes: 30
{inside}    steps:
      - uses: actions/checkout@v4
        with:
          persist-credentials: false
"""
PYTHON = """\
      - uses: actions/setup-python@v5
        with:
          python-version: "3.12"
"""
COMMANDS = """\
      - name: Install ardx
        run: python -m pip install --quiet 'ardx[edge,report]=={version}'
      - name: Replay the stored attacks
        env:
          ARTIFACT: {artifact}
{sets_env}\
        run: ardx bench {sets_option}--out ardx-report.json -- "$ARTIFACT"
      # Exit 1: failed; 4: the samples cannot decide it. Both stop the change.
      - name: Gate
{baseline_env}\
        run: >-
          ardx gate ardx-report.json --policy gate.toml {baseline_option}
          --junit ardx-gate.xml --md ardx-gate.md
"""
ACTION = """\
      - name: Replay the stored attacks, and gate
        uses: {uses}
        with:
          artifact: {artifact}
{sets}\
          policy: gate.toml
{baseline}\
{inside}\
"""
TAIL = """\
      # What people look at, also of a run that failed. A comment on the pull request takes a second
      # workflow, since a fork's run may not write: see ardx's page on CI.
      - name: Keep report and verdict
        if: ${{{{ !cancelled() }}}}
        uses: actions/upload-artifact@v4
        with:
          name: robustness
          path: |
            {folder}ardx-report.json
            {folder}ardx-gate.md
            {folder}ardx-gate.xml
"""
INSIDE = """\
    defaults:
      run:
        working-directory: {inside}
"""


def workflow(found: Found, uses: str | None) -> str:
    """.github/workflows/robustness.yml, by an action `OWNER/ardx@REF`, or by pip without one.

    Raises:
        InputError: a path that GitHub would read as an expression.
    """
    artifact, sets = _quoted(found.artifact), found.sets and _quoted(found.sets)
    baseline = found.baseline and _quoted(found.baseline)
    inside = "" if found.inside == Path() else _quoted(found.inside)
    lfs = "          lfs: true # the artefact or its sets may lie there\n" if found.has_lfs else ""
    if uses is not None:
        steps = ACTION.format(
            uses=uses,
            artifact=artifact,
            sets=f"          sets: {sets}\n" if sets else "",
            baseline=f"          baseline: {baseline}\n" if baseline else "",
            inside=f"          working-directory: {inside}\n" if inside else "",
        )
    else:
        steps = COMMANDS.format(
            version=__version__,
            artifact=artifact,
            sets_env=f"          SETS: {sets}\n" if sets else "",
            sets_option='--sets="$SETS" ' if sets else "",
            baseline_env=f"        env:\n          BASELINE: {baseline}\n" if baseline else "",
            baseline_option='--baseline="$BASELINE"' if baseline else "",
        )
    head = HEAD.format(inside=INSIDE.format(inside=inside) if inside and uses is None else "")
    tail = TAIL.format(folder=f"{found.inside.as_posix()}/" if inside else "")
    return f"{head}{lfs}{PYTHON}{steps}{tail}"


def _quoted(path: Path) -> str:
    """A path as YAML takes it, and GitHub leaves it alone."""
    text = path.as_posix()
    if "${{" in text or not text.isprintable():
        raise InputError(f"{text!r}: GitHub would not take this name as it is; rename it")
    return json.dumps(text, ensure_ascii=False)


def policy(found: Found) -> str:
    """gate.toml: floors a little under what was measured, ceilings a little above."""
    report = found.report[1] if found.report else None
    lines = [
        "# Written by `ardx init ci`; the conditions of `ardx gate --policy gate.toml`.",
        "",
        "# Accuracies are compared as observed: the replayed images are always the same. With",
        "# confidence = 0.95 a condition fails only where the interval lies beyond the limit.",
        "# confidence = 0.95",
        "",
        "# Known doubts about such reports, by a part of their sentence; any other one fails.",
        "excuse = [",
        *(f"  {_toml(part)}, # {why}" for part, why in _excuses(found, report)),
        "]",
        "",
        "# What stops a change.",
        "critical = [",
        *_floors(report),
        *_changes(found),
        f"  {_toml(f'size_bytes <= {floor(found.size_bytes * LARGER)}')},"
        f" # the artefact has {found.size_bytes} bytes",
        "]",
        "",
        "# What is told, and stops nothing.",
        "advisory = [",
        *_told(report),
        "]",
        "",
    ]
    return "\n".join(lines)


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=True)


def _excuses(found: Found, report: Report | None) -> Iterator[tuple[str, str]]:
    yield "timing of", "a shared runner's clock is unsteady, and no critical condition is on time"
    if found.sets is None:
        yield "no --sets given", "none were found; take this out when there are some"
    if report is None:
        return
    if any("upper bound" in doubt for doubt in doubts_in(report)):
        yield "robust accuracy is an upper bound", "the sets were not crafted on the INT8 file"


def _floors(report: Report | None) -> Iterator[str]:
    if report is None or report.clean_mask is None:
        yield "  # No report of this artefact was found. Measure it, then set the floors a little"
        yield "  # under what it has:"
        yield '  # "clean >= 80%",'
        yield '  # "worst_case >= 45%",'
        return
    for name in ("clean", "worst_case", "worst_class"):
        figure = measured(report, name)[0][1]
        if figure.value is not None:
            least = max(0, floor(100 * (figure.value - BELOW)))
            yield (
                f"  {_toml(f'{name} >= {least}%')}, # measured {100 * figure.value:.1f}% on "
                f"{figure.samples} images"
            )


def _changes(found: Found) -> Iterator[str]:
    if found.baseline is None:
        yield "  # By sample against a baseline (ardx gate --update-baseline --baseline FILE):"
        yield '  # "drop(worst_case) <= 1%",'
    else:
        yield '  "drop(worst_case) <= 1%", # against the baseline, sample by sample'


def _told(report: Report | None) -> Iterator[str]:
    if report is None:
        yield '  # "latency_p95_ms <= 30",'
        return
    figure = measured(report, "latency_p95_ms")[0][1]
    if figure.value is not None and not figure.too_few:
        yield (
            f"  {_toml(f'latency_p95_ms <= {figure.value * SLOWER:.3g}')}, # measured "
            f"{figure.value:.3g} ms on {report.device.device}; a hosted runner is another machine"
        )
    if report.fingerprint is not None and not differs(report.fingerprint):
        yield '  "fingerprint", # the runtime answers as the artefact was validated'
