"""A Sphinx directive, `command-line`: every command of `ardx` with its options, from typer itself.

The packages of Sphinx that do so read click's objects, and typer has none of those any more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from ard.cli import app


class CommandLine(SphinxDirective):
    """A section for each command, in the order of `ardx --help`."""

    def run(self) -> list[nodes.Node]:
        """The sections."""
        group: Any = typer.main.get_command(app)
        return [command_section(name, command) for name, command in group.commands.items()]


def command_section(name: str, command: Any) -> nodes.section:
    """Usage, what `--help` says, and a list of options for each of its panels."""
    section = nodes.section(ids=[f"ardx-{name}"], names=[f"ardx {name}"])
    section += nodes.title("", f"ardx {name}")
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    words = [p.name.upper() if p.required else f"[{p.name.upper()}]" for p in arguments]
    usage = " ".join(["ardx", name, *words, "[OPTIONS]"])
    section += nodes.literal_block(usage, usage, language="text")
    examples = []
    for paragraph in (command.help or "").split("\n\n"):
        text = " ".join(paragraph.split())
        if text.startswith("Example: "):
            examples.append(text.removeprefix("Example: "))
        else:
            section += nodes.paragraph("", "", *inline(text))
    if examples:
        text = "\n".join(examples)
        section += nodes.literal_block(text, text, language="sh")
    for panel, parameters in by_panel(command.params).items():
        section += nodes.rubric("", panel)
        section += nodes.definition_list("", *map(option_item, parameters))
    return section


def by_panel(parameters: list[Any]) -> dict[str, list[Any]]:
    """The parameters below the headings that `--help` gives them, in its order."""
    panels: dict[str, list[Any]] = {}
    for parameter in parameters:
        usual = "Arguments" if parameter.param_type_name == "argument" else "Options"
        panels.setdefault(parameter.rich_help_panel or usual, []).append(parameter)
    order = ("Arguments", "Options")
    first = {name: panels.pop(name) for name in order if name in panels}
    return first | panels


def option_item(parameter: Any) -> nodes.definition_list_item:
    """A parameter's spellings, and its help with what holds where it is not given."""
    argument = parameter.param_type_name == "argument"
    spelt = [parameter.name.upper()] if argument else [*parameter.opts, *parameter.secondary_opts]
    value = "" if argument or parameter.is_flag else f" {value_of(parameter)}"
    term = nodes.term("", "", nodes.literal("", ", ".join(spelt) + value))
    notes = []
    if parameter.required:
        notes.append("Required.")
    if parameter.multiple:
        notes.append("May be repeated.")
    if parameter.default not in (None, False, (), []) and not callable(parameter.default):
        notes.append(f"Default: `{parameter.default}`.")
    if parameter.envvar:
        notes.append(f"Environment: `{parameter.envvar}`.")
    text = " ".join([parameter.help or "", *notes])
    return nodes.definition_list_item(
        "", term, nodes.definition("", nodes.paragraph("", "", *inline(text)))
    )


def value_of(parameter: Any) -> str:
    """The word for an option's value."""
    if parameter.metavar:
        return str(parameter.metavar)
    annotation = parameter.type_descriptor.annotation
    kinds = {int: "INTEGER", float: "NUMBER"}
    path = "Path" in str(annotation)
    return kinds.get(annotation, "PATH" if path else "TEXT")


def inline(text: str) -> Iterator[nodes.Node]:
    """Words, with options and what stands between backticks as code."""
    for index, part in enumerate(re.split(r"(`[^`]*`|--[a-z][a-z0-9-]*)", text)):
        if part:
            yield nodes.literal("", part.strip("`")) if index % 2 else nodes.Text(part)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("command-line", CommandLine)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
