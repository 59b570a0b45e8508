"""The one error family of ardx; a command line turns it into a sentence and an exit code."""

from __future__ import annotations

EXIT_PASS = 0
EXIT_GATE_FAILED = 1
EXIT_USAGE = 2
EXIT_ENVIRONMENT = 3
EXIT_INCONCLUSIVE = 4


class ArdxError(Exception):
    """What the user can mend, in one sentence: what was expected, what came, the remedy."""

    exit_code: int = EXIT_USAGE


class InputError(ArdxError):
    """A file or an option is wrong (exit 2)."""


class CapabilityError(ArdxError):
    """This environment or device cannot do what was asked (exit 3)."""

    exit_code = EXIT_ENVIRONMENT


class InconclusiveError(ArdxError):
    """The measurement cannot decide the question (exit 4)."""

    exit_code = EXIT_INCONCLUSIVE


def first_line(error: BaseException) -> str:
    """The first line of a foreign exception's text, fit to be quoted inside a sentence."""
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__
