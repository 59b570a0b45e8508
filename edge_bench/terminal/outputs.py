"""Texts that a command makes of what it read: each into a file of its own, one perhaps to stdout.

They are written anew whenever the command runs, as CI runs it, unless it asks for `--force`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import combinations
from pathlib import Path

from edge_bench.core.errors import InputError
from edge_bench.files.store import atomic_file, refuse_existing_file, refuse_read, same_place

STDOUT = Path("-")


def refuse_outputs(
    outs: Mapping[str, Path | None],
    inputs: Iterable[Path],
    *,
    force: bool = True,
    json_summary: bool = False,
    to_stdout: Collection[str] = ("--md",),
) -> None:
    """Refuse, before anything is read, outputs that cannot be meant.

    `outs` are files by the options that name them, `inputs` all that the command reads, whether it
    is there or not. `json_summary` says that stdout is taken, `to_stdout` which options take - for
    it.

    Raises:
        InputError: two texts for one place, one that is read, no file's name, or without `force`
            one that exists.
    """
    given = {option: out for option, out in outs.items() if out is not None}
    for option, out in given.items():
        if out == STDOUT and option not in to_stdout:
            raise InputError(
                f"{option} -: expected a file, for stdout is for {' and '.join(to_stdout)} alone; "
                "name one"
            )
        if json_summary and out == STDOUT:
            raise InputError(
                f"{option} - with --json: expected one of them on stdout, came both; give {option} "
                "a file, or leave one out"
            )
    for (one, out), (other, another) in combinations(given.items(), 2):
        if same_place(out, another):
            raise InputError(f"{one} and {other}: expected a file each, came {out} twice; name two")
    read = list(inputs)
    for option, out in given.items():
        if out != STDOUT:
            refuse_read(option, out, read)
            refuse_existing_file(out, force)


def write_text(path: Path, text: str) -> None:
    """Write a text atomically, over an older one too."""
    with atomic_file(path, force=True) as partial:
        partial.write_text(text, encoding="utf-8")
