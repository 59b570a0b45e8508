"""Commands as a user types them, and the sentence that bad input gets."""

from __future__ import annotations

from typer.testing import CliRunner

from ard.cli import app

RUNNER = CliRunner()
QUICK_BENCH = ["--runs", "150", "--seconds", "0", "--warmup", "1", "--settle-seconds", "0"]


def ardx(*arguments: object, code: int = 0) -> str:
    """Run a command; give its stdout, or for an expected failure its stderr."""
    result = RUNNER.invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    return result.stdout if code in (0, 1) else result.stderr


def sentence(*arguments: object, code: int = 2) -> str:
    """Run a command that must fail with exactly one sentence and no traceback."""
    lines = ardx(*arguments, code=code).splitlines()
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
    assert not any("Traceback" in line for line in lines)
    return lines[-1]
