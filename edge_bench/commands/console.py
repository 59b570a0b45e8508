"""What the command lines share: progress, tables, options, and errors as one sentence.

Progress goes to stderr: a bar on a terminal, a plain line per step elsewhere. Results go to
stdout, so that `--json` can be piped.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from edge_bench.backends.registry import BACKENDS
from edge_bench.core.errors import EXIT_ENVIRONMENT, EXIT_USAGE, ArdxError, os_sentence
from edge_bench.core.progress import ProgressCallback, plain_progress

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


@contextmanager
def progress(label: str, clock: Callable[[], float] = time.monotonic) -> Iterator[ProgressCallback]:
    """Yield a progress callback for a long step called `label`."""
    if not sys.stderr.isatty():
        yield plain_progress(label, clock)
        return
    from rich.console import Console
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
        task = bar.add_task(label, total=None, text="")

        def update(done: int, total: int, text: str) -> None:
            if text:
                bar.update(task, text=text)
            bar.update(task, completed=done, total=total)

        yield update


def warn(sentence: str) -> None:
    """A warning for people, on stderr."""
    print(f"warning: {sentence}", file=sys.stderr)


def print_json(summary: dict[str, Any]) -> None:
    """The machine-readable summary of a command, on stdout."""
    print(json.dumps(summary, indent=2, allow_nan=False))


def print_table(title: str, header: list[str], rows: list[list[str]]) -> None:
    """A table on stdout: the first column left, figures right, never wrapped in a pipe."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    for index, name in enumerate(header):
        table.add_column(name, justify="left" if index == 0 else "right", no_wrap=True)
    for row in rows:
        # As text: rich takes the brackets of 'ardx[train]' for markup and drops them.
        table.add_row(*map(Text, row))
    terminal = sys.stdout.isatty()
    console = Console(width=None if terminal else WIDTH_OF_PIPES)
    # A title of the table's own would be wrapped to the table's width.
    console.print(Text(title, style="bold"))
    console.print(table)


# typer does not export the base of its usage errors, only this child of it.
USAGE_ERROR: Any = typer.BadParameter.__mro__[1]


def _usage_exit(error: Any, command_path: str) -> typer.Exit:
    """One sentence for a usage error, where typer would draw a box of several lines."""
    problem = str(error.format_message()).rstrip(".").replace("\n", " ")
    where = error.ctx.command_path if error.ctx else command_path
    # torchrun starts one command many times, and numbers the processes.
    if "TORCHELASTIC_RUN_ID" not in os.environ or os.environ.get("RANK", "0") == "0":
        print(f"error: {problem}; see {where} --help", file=sys.stderr)
    return typer.Exit(EXIT_USAGE)


class Stages(TyperGroup):
    """A command group that keeps the order of the stages and ends errors with a sentence."""

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

    def invoke(self, ctx: Any) -> Any:
        """Run a command; an error that the user can mend becomes a sentence and an exit code."""
        try:
            return super().invoke(ctx)
        except ArdxError as error:
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(error.exit_code) from None
        except USAGE_ERROR as error:
            raise _usage_exit(error, ctx.command_path) from None
        except ModuleNotFoundError as error:
            module = (error.name or "").partition(".")[0]
            if module not in MODULE_EXTRAS:
                raise
            print(
                f"error: this command needs {module}, which is not installed here; install it: "
                f"pip install 'ardx[{MODULE_EXTRAS[module]}]'",
                file=sys.stderr,
            )
            raise typer.Exit(EXIT_ENVIRONMENT) from None
        except OSError as error:
            print(f"error: {os_sentence(error)}; what existed before is untouched", file=sys.stderr)
            raise typer.Exit(EXIT_ENVIRONMENT) from None
        except KeyboardInterrupt:
            print(
                "interrupted: the same command goes on with a set that `attack` began and with "
                "the replay of `bench`, and a training run with --resume; other unfinished files "
                "were removed",
                file=sys.stderr,
            )
            raise typer.Exit(130) from None
