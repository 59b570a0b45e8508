"""The command `init`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from edge_bench.core.version import __version__
from edge_bench.terminal.console import print_json, say
from edge_bench.terminal.flags import Json, command

if TYPE_CHECKING:
    from edge_bench.ci.found import Found


@dataclass(frozen=True, kw_only=True)
class InitFlags:
    """The options of `init`."""

    what: Annotated[str, typer.Argument(help="ci: GitHub's workflow, and a policy for its gate.")]
    folder: Annotated[
        Path, typer.Option("--dir", help="Folder of the project; its files decide what is written.")
    ] = Path()
    uses: Annotated[
        str | None,
        typer.Option(help="Take ardx's action, OWNER/ardx@REF, in place of commands."),
    ] = None
    json_summary: Json = False


def run_init(flags: InitFlags) -> None:
    """Write a workflow and a policy that fit the files of a project; never over existing ones.

    The workflow goes to the root of the git repository, where GitHub looks, and works in --dir.

    Example: ardx init ci

    Example: ardx init ci --dir models/ --uses OWNER/ardx@v0.2.0
    """
    from edge_bench.ci.found import look_into, repository_of
    from edge_bench.ci.starter import POLICY, WORKFLOW, policy, workflow
    from edge_bench.core.errors import InputError
    from edge_bench.files.store import atomic_file

    if flags.what != "ci":
        raise InputError(f"init {flags.what}: expected ci, the one thing that it writes")
    if flags.uses is not None and not re.fullmatch(r"[\w.-]+(/[\w.-]+)+@[\w./-]+", flags.uses):
        raise InputError(f"--uses {flags.uses}: expected OWNER/ardx@REF, such as OWNER/ardx@v0.2.0")
    root = repository_of(flags.folder) or flags.folder
    if root == flags.folder.resolve():
        root = flags.folder  # As it was typed.
    targets = [root / WORKFLOW, flags.folder / POLICY]
    for path in targets:
        if path.exists() or path.is_symlink():
            raise InputError(
                f"{path} exists already, and init writes over nothing: change it by hand, or move "
                "it away first; nothing was written"
            )
    found = look_into(flags.folder)
    texts = [workflow(found, flags.uses), policy(found)]
    for path, text in zip(targets, texts, strict=True):
        with atomic_file(path, force=False) as partial:
            partial.write_text(text, encoding="utf-8")
    if flags.json_summary:
        print_json(
            {
                "written": [str(path) for path in targets],
                "artifact": str(found.artifact),
                "sets": found.sets and str(found.sets),
                "report": found.report and str(found.report[0]),
                "baseline": found.baseline and str(found.baseline),
            }
        )
        return
    for line in _told(found, targets, flags.uses):
        say(line)


def _told(found: Found, targets: list[Path], uses: str | None) -> Iterator[str]:
    """What was written from what, and what to do next."""
    yield f"wrote {targets[0]}: measures {found.artifact}, by {found.sets or 'no sets'}"
    if found.repository is None:
        yield "  GitHub looks for it at the root of a git repository; this folder is in none yet"
    if found.others:
        passed = ", ".join(map(str, found.others))
        yield f"  passed over {passed}; change the workflow's artefact to gate on another one"
    source = f"limits from {found.report[0]}" if found.report else "no report of the artefact found"
    yield f"wrote {targets[1]}: {source}"
    sets = f" --sets {_pasted(found.sets)}" if found.sets else ""
    steps = []
    if not found.sets:
        steps.append("craft a set to replay, and name it in the workflow: ardx attack --help")
    if not found.report:
        steps.append(f"measure, then set the floors: ardx bench {_pasted(found.artifact)}{sets}")
    if uses is None and ".dev" in __version__:
        steps.append(
            f"ardx {__version__} is on no package index: put a wheel (make wheel) into the project "
            f"and name it, with [edge,report] after it, at Install ardx in {targets[0]}"
        )
    steps.append("read gate.toml: the limits are yours to choose; then commit both files")
    for number, step in enumerate(steps, start=1):
        yield f"next {number}: {step}"


def _pasted(path: Path) -> str:
    """A path as a shell takes it for one word, and `ardx` for no option."""
    return quote(f"./{path}" if str(path).startswith("-") else str(path))


init = command("init", InitFlags, run_init)
