"""Every `ardx` line of the pages is one that the real command line takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from ard.cli import app
from edge_bench.pytest_plugin import FILES
from edge_bench.terminal.console import USAGE_ERROR

from .pages import ROOT, code_spans, pages, shell_lines

GROUP: Any = typer.main.get_command(app)
TORCHRUN = re.compile(r"^torchrun .* -m ard ")
OF_OTHERS = {"--system-site-packages", *(f"--ardx-{name}" for name in FILES)}
"""Options in the pages' text that belong to other programs, pytest among them."""


def options_of(command: Any) -> set[str]:
    """Every spelling of every option."""
    spelt = (o for p in command.params for o in (*p.opts, *p.secondary_opts))
    return {"--help", *(option for option in spelt if option.startswith("--"))}


def parse(line: str) -> None:
    """Parse a line as typed; what `ardx` would refuse before it does anything fails here."""
    words = shlex.split(TORCHRUN.sub("ardx ", line), comments=True)
    assert Path(words[0]).name == "ardx", line
    if words[1:] == ["--version"]:
        return
    name, arguments = words[1], words[2:]
    assert name in GROUP.commands, f"ardx has no command {name}: {line}"
    try:
        context = GROUP.commands[name].make_context(name, arguments)
    except USAGE_ERROR as error:
        pytest.fail(f"{error.format_message()}\n{line}")
    assert not [word for word in context.args if word.startswith("-")], line


def is_ours(line: str) -> bool:
    """Whether it starts ardx, by itself or below torchrun."""
    return Path(line.split()[0]).name == "ardx" or bool(TORCHRUN.match(line))


LINES = [
    pytest.param(line, id=f"{page.relative_to(ROOT)}: {line[:60]}")
    for page in pages()
    for line in shell_lines(page.read_text(encoding="utf-8"))
    if is_ours(line)
]


@pytest.mark.parametrize("line", LINES)
def test_a_line_of_a_page_is_taken(line: str) -> None:
    parse(line)


@pytest.mark.parametrize(
    "line",
    [
        "ardx bench student.onnx --sets sets/ --baseline old.json",
        "ardx gate report.json --min-robust-acuracy 0.45",
        "ardx gate report.json --min-robust-accuracy much",
        "ardx distill --teacher t.safetensors",
        "ardx gate a.json b.json",
        "torchrun --nproc-per-node 4 -m ard teach --out runs/t --epoch 3 --nothing",
    ],
)
def test_a_wrong_line_is_told(line: str) -> None:
    with pytest.raises(pytest.fail.Exception):
        parse(line)


def test_every_page_with_blocks_is_read() -> None:
    named = {str(param.id).partition(":")[0] for param in LINES}
    assert {"README.md", "docs/tutorial/index.md", "docs/how-to/ci.md"} <= named
    unfenced = [
        f"{page.relative_to(ROOT)}: {line}"
        for page in pages()
        for line in re.findall(r"^ {4}ardx .*", page.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert not unfenced, "commands stand in blocks that begin with ```sh"


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_an_option_in_the_text_is_one(page: Path) -> None:
    """`export --int8` names an option of export, and `--each` one of some command."""
    anywhere = set[str]().union(*map(options_of, GROUP.commands.values()), {"--version"})
    for span in code_spans(page.read_text(encoding="utf-8")):
        words = span.removeprefix("ardx ").split()
        if words[0] in GROUP.commands:
            known = options_of(GROUP.commands[words[0]])
        elif words[0].startswith("--"):
            known = anywhere | OF_OTHERS
        else:
            assert not span.startswith("ardx ") or words[0] in {"COMMAND", "--version"}, span
            continue
        unknown = [w for w in words if w.startswith("--") and w.partition("=")[0] not in known]
        assert not unknown, f"`{span}`: no such option"
