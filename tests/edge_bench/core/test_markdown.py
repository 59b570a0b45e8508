"""Texts of others as Markdown, as XML, and as lines of a job that a runner of GitHub's reads."""

from __future__ import annotations

import json
import re
import sys
from xml.etree import ElementTree

import pytest

from edge_bench.core.markdown import JOINER, plain
from edge_bench.core.progress import plain_progress
from edge_bench.terminal.console import annotate, print_json, print_table, put, say, warn

COMMANDS = (
    "##[error]x",
    "a ##[add-mask]x",
    "::error::x",
    " \u3000::stop-commands::x",
    "::error title=ardx gate%3A clean failed::what a name of a class says",
    "###[group]",
)
ACTS = re.compile(r"^\s*::|##\[", re.MULTILINE)


def test_every_plain_text_can_stand_in_xml() -> None:
    """Whatever characters a name has: XML 1.0 forbids some, escaped too."""
    for begin in range(0, sys.maxunicode, 0x1000):
        text = plain("".join(map(chr, range(begin, begin + 0x1000))))
        safe = text.replace("&", "").replace("<", "").replace("]", "")
        assert ElementTree.fromstring(f"<a>{safe}</a>").text == safe


@pytest.mark.parametrize("command", COMMANDS)
def test_no_name_is_a_command_of_github_s_runner(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def printed() -> str:
        say(command)
        warn(command)
        put(f"gate: no\n{command}\n")
        print_table(command, ["images", "n"], [[command, "1"]])
        plain_progress(command)(1, 1, "done")
        return "".join(capsys.readouterr())

    assert command in printed()
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    text = printed()
    assert not ACTS.search(text)
    assert plain(command) in text.replace(JOINER, "")


def test_json_holds_the_same_name_where_a_runner_reads_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    summary = {key: [*COMMANDS, "\\##[x]"] for key in COMMANDS}
    print_json(summary)
    text = capsys.readouterr().out
    assert not ACTS.search(text)
    assert json.loads(text) == summary


@pytest.mark.parametrize("aside", [False, True])
def test_annotations_of_the_gate_are_commands_and_what_they_tell_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], aside: bool
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    told = "::error title=ardx gate%3A clean failed::clean accuracy is 0.5"
    annotate(told, aside=aside)
    out = capsys.readouterr()
    assert (out.err if aside else out.out) == f"{told}\n"
    annotate(f"{told} ##[add-mask]5", aside=aside)
    out = capsys.readouterr()
    assert (out.err if aside else out.out) == f"{told} ##{JOINER}[add-mask]5\n"
