"""The device's commands: `engine`, `bundle`, `bench`, `gate`, and what tells of reports.

The root `ardx` mounts them beside its own.
"""

from __future__ import annotations

import typer

from edge_bench.commands.attest import attest, verify_command
from edge_bench.commands.bench import SETTINGS, bench
from edge_bench.commands.bundle import bundle
from edge_bench.commands.compare import compare
from edge_bench.commands.engine import engine
from edge_bench.commands.gate import gate
from edge_bench.commands.init import init
from edge_bench.commands.report import report
from edge_bench.commands.trend import trend
from edge_bench.terminal.console import Stages

app = typer.Typer(
    cls=Stages,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Measure an image classifier on this device, and gate on the result.",
)

app.command("engine")(engine)
app.command("bundle")(bundle)
app.command("bench", context_settings=SETTINGS)(bench)
app.command("gate")(gate)
app.command("compare")(compare)
app.command("report")(report)
app.command("attest")(attest)
app.command("verify")(verify_command)
app.command("trend")(trend)
app.command("init")(init)
