"""What the command lines share: progress, tables, options, and errors as one sentence.

Progress goes to stderr: a bar on a terminal, a plain line per step elsewhere. Results go to
stdout, so that `--json` can be piped.
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, Literal

import typer
from typer.core import TyperGroup

from edge_bench.backends.registry import BACKENDS
from edge_bench.core.errors import (
    EXIT_ENVIRONMENT,
    EXIT_PASS,
    EXIT_USAGE,
    ArdxError,
    InputError,
    first_line,
    os_sentence,
)
from edge_bench.core.markdown import inert, inert_json, plain
from edge_bench.core.progress import ProgressCallback, no_progress, plain_progress
from edge_bench.terminal.interrupts import interruptible, told
from edge_bench.terminal.tables import as_lines, widths_in
from edge_bench.terminal.torchrun import is_first, processes

TRAINING = (
    *("torch", "torchvision", "sklearn", "safetensors", "pyautoattack", "tomli", "tomli_w"),
    *("onnx", "onnxscript"),
)
REPORTING = ("junitparser", "tomli", "jinja2", "matplotlib", "PIL")
MODULE_EXTRAS = (
    dict.fromkeys(TRAINING, "train")
    | dict.fromkeys(REPORTING, "report")
    | {
        package.module: runtime.extra
        for runtime in reversed(BACKENDS.values())
        for package in runtime.packages
        if runtime.extra is not None
    }
)
"""Which extra of the distribution brings a module that a command may miss."""

WIDTH_OF_PIPES = 160


_mute = False


@contextmanager
def muted(mute: bool) -> Iterator[None]:
    """Keep what is said within to oneself, as all but one of several processes do; not errors."""
    global _mute
    before, _mute = _mute, mute
    try:
        yield
    finally:
        _mute = before


@contextmanager
def progress(label: str, clock: Callable[[], float] = time.monotonic) -> Iterator[ProgressCallback]:
    """Yield a progress callback for a long step called `label`."""
    if _mute:
        yield no_progress
        return
    if not sys.stderr.isatty():
        yield plain_progress(label, clock)
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(escape(plain(label)), total=None, text="")

        def update(done: int, total: int, text: str) -> None:
            if text:
                bar.update(task, text=escape(plain(text)))
            bar.update(task, completed=done, total=total)

        yield update


_lost: list[OSError] = []
"""Why stdout did not take what a command printed; at most one, told where the command ends."""


def put(text: str, end: str = "\n") -> None:
    """Print on stdout, and nothing that GitHub's runner would do.

    Where that fails, the command goes on: its work and its exit code count.
    """
    _put(inert(text), end)


def annotate(command: str, *, aside: bool) -> None:
    """Print a command of ardx's own for GitHub's runner, on stderr where `aside`.

    What it says may be of others, and gives no further command.
    """
    told = f"::{inert(command.removeprefix('::'))}"
    if not aside:
        _put(told, "\n")
    elif not _mute:
        print(told, file=sys.stderr, flush=True)


def _put(text: str, end: str) -> None:
    if _mute:
        return
    try:
        print(text, end=end)
    except OSError as error:
        _lose(error)


def _lose(error: OSError) -> None:
    _lost[:] = [error]
    with suppress(OSError):
        # What is still in the buffer would fail once more when Python ends, with its own code.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _deliver(code: int) -> None:
    """Flush stdout; where it took nothing, say so, by the exit code too unless that is another."""
    try:
        sys.stdout.flush()
    except OSError as error:
        _lose(error)
    if not _lost:
        return
    say_aside(
        f"error: stdout: {_lost[0].strerror}; the command has done its work, and the files that it "
        "writes are there; give it somewhere to print"
    )
    if code == EXIT_PASS:
        raise typer.Exit(EXIT_ENVIRONMENT) from None


def say(sentence: str) -> None:
    """A line on stdout, without characters that steer a terminal: files and boards say much."""
    put(plain(sentence))


def say_aside(sentence: str) -> None:
    """The same on stderr."""
    if _mute:
        return
    print(inert(plain(sentence)), file=sys.stderr, flush=True)


def warn(sentence: str) -> None:
    """A warning for people, on stderr."""
    say_aside(f"warning: {sentence}")


def print_json(summary: dict[str, Any]) -> None:
    """The machine-readable summary of a command, on stdout."""
    put(inert_json(json.dumps(summary, indent=2, allow_nan=False)))


def print_table(title: str, header: list[str], rows: list[list[str]]) -> None:
    """A table on stdout: the first column left, figures right, never wrapped in a pipe.

    A terminal too narrow for it gets shorter words, or a line for each cell, but whole figures.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = [[plain(cell) for cell in row] for row in rows]
    console = Console(width=None if sys.stdout.isatty() else WIDTH_OF_PIPES)
    widths = widths_in(header, rows, console.width)
    table = Table(box=box.SIMPLE_HEAD)
    for index, (name, width) in enumerate(zip(header, widths or [], strict=bool(widths))):
        side: Literal["left", "right"] = "left" if index == 0 else "right"
        table.add_column(name, justify=side, no_wrap=True, width=width)
    for row in rows:
        # As text: rich takes the brackets of 'ardx[train]' for markup and drops them.
        table.add_row(*map(Text, row))
    # Printed by us: of a pipe that nobody reads, rich makes exit code 1.
    with console.capture() as drawn:
        # A title of the table's own would be wrapped to the table's width.
        console.print(Text(plain(title), style="bold"))
        if widths:
            console.print(table)
    put(drawn.get(), end="")
    if not widths:
        put("\n".join([*as_lines(header, rows), ""]))


# typer does not export the base of its usage errors, only this child of it.
USAGE_ERROR: Any = typer.BadParameter.__mro__[1]


def _usage_exit(error: Any, command_path: str) -> typer.Exit:
    """One sentence for a usage error, where typer would draw a box of several lines."""
    problem = str(error.format_message()).rstrip(".").replace("\n", " ")
    where = error.ctx.command_path if error.ctx else command_path
    if not is_first():
        return _left_to_the_first()
    say_aside(f"error: {problem}; see {where} --help")
    return typer.Exit(EXIT_USAGE)


def _left_to_the_first() -> typer.Exit:
    """How the other processes of torchrun end where all would say the same.

    Without an error: torchrun ends all as soon as one fails, and the first may have yet to speak.
    """
    return typer.Exit(EXIT_PASS)


class Stages(TyperGroup):
    """A command group that keeps the order of the stages and ends errors with a sentence.

    Attributes:
        shared: the commands that several processes of torchrun do together.
    """

    shared: ClassVar[frozenset[str]] = frozenset()

    def list_commands(self, ctx: Any) -> list[str]:
        """The commands in the order in which a chain runs them."""
        return list(self.commands)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the group's own options; a wrong one ends like any other usage error."""
        bare = not args
        try:
            return super().parse_args(ctx, args)
        except USAGE_ERROR as error:
            if bare:
                raise  # No command at all: typer shows the help.
            raise _usage_exit(error, ctx.command_path) from None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command, and refuse to do many times at once what one process does."""
        found = super().resolve_command(ctx, args)
        if processes() > 1 and found[0] not in self.shared:
            if not is_first():
                raise _left_to_the_first()
            able = f"; {', '.join(sorted(self.shared))} run below it" if self.shared else ""
            raise InputError(
                f"{found[0]}: is done by one process, and torchrun started {processes()}; start it "
                f"without torchrun{able}"
            )
        return found

    def invoke(self, ctx: Any) -> Any:
        """Run a command, and see that what it printed has arrived."""
        _lost.clear()
        if sys.stdout is None:  # Closed by the caller, who then wants none of it.
            sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115, to the end
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A character that its encoding lacks is told as an escape, as on stderr.
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            result = self._ended(ctx)
        except typer.Exit as end:
            _deliver(end.exit_code)
            raise
        _deliver(EXIT_PASS)
        return result

    def _ended(self, ctx: Any) -> Any:
        """Run it; an error that the user can mend becomes a sentence and an exit code."""
        try:
            with interruptible():
                return super().invoke(ctx)
        except ArdxError as error:
            say_aside(f"error: {error}")
            raise typer.Exit(error.exit_code) from None
        except USAGE_ERROR as error:
            raise _usage_exit(error, ctx.command_path) from None
        except ModuleNotFoundError as error:
            module = (error.name or "").partition(".")[0]
            if module not in MODULE_EXTRAS:
                raise
            say_aside(
                f"error: this command needs {module}, which is not installed here; install it: "
                f"pip install 'ardx[{MODULE_EXTRAS[module]}]'"
            )
            raise typer.Exit(EXIT_ENVIRONMENT) from None
        except OSError as error:
            say_aside(f"error: {os_sentence(error)}; what existed before is untouched")
            raise typer.Exit(EXIT_ENVIRONMENT) from None
        except MemoryError as error:
            say_aside(
                f"error: memory ran out ({first_line(error)}); free some, or ask for less at once, "
                "such as a smaller batch; what existed before is untouched"
            )
            raise typer.Exit(EXIT_ENVIRONMENT) from None
        except KeyboardInterrupt as error:
            sentence, code = told(error, ctx.invoked_subcommand)
            say_aside(sentence)
            raise typer.Exit(code) from None
