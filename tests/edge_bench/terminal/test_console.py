"""The command lines speak in plain lines off a terminal."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from edge_bench.core.errors import (
    ArdxError,
    CapabilityError,
    InconclusiveError,
    InputError,
    first_line,
    os_sentence,
)
from edge_bench.core.progress import silent
from edge_bench.terminal.console import Stages, print_json, print_table, progress, say, warn
from edge_bench.terminal.interrupts import interruptible


def ended_by(error: BaseException) -> tuple[int, str]:
    """Exit code and stderr of a command that raises `error`."""
    app = typer.Typer(cls=Stages)

    @app.command()
    def fail() -> None:
        raise error

    @app.command()
    def other() -> None:
        """Keep `fail` a command of a group."""

    result = CliRunner().invoke(app, ["fail"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stderr


@pytest.mark.parametrize(
    ("kind", "code"), [(InputError, 2), (CapabilityError, 3), (InconclusiveError, 4)]
)
def test_an_error_of_ardx_becomes_its_sentence_and_its_exit_code(
    kind: type[ArdxError], code: int
) -> None:
    assert ended_by(kind("what; remedy")) == (code, "error: what; remedy\n")


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free space there"),
        (errno.EFBIG, "free space there"),
        (errno.EACCES, "make it readable and writable for you"),
        (errno.EROFS, "make it readable and writable for you"),
        (errno.ENOTDIR, "check the path"),
        (errno.ENOENT, "check the path"),
        (errno.EISDIR, "name a file"),
        (errno.EMFILE, "ulimit -n"),
        (errno.EPIPE, "see that it can be read and written there"),
    ],
)
def test_what_the_system_refuses_becomes_a_sentence_with_its_own_remedy(
    number: int, remedy: str
) -> None:
    code, text = ended_by(OSError(number, "reason", "out.json"))
    assert code == 3
    assert text.startswith("error: out.json: reason; ")
    assert remedy in text
    assert ("free space" in text) == (number in (errno.ENOSPC, errno.EFBIG))
    assert text.endswith("; what existed before is untouched\n")
    assert text.count("\n") == 1


def test_a_refusal_without_a_file_or_a_number_is_a_sentence(tmp_path: Path) -> None:
    assert (
        os_sentence(OSError("odd")) == "the output: odd; see that it can be read and written there"
    )
    with pytest.raises(OSError) as missing:
        (tmp_path / "none.json").open()
    assert os_sentence(missing.value) == (
        f"{tmp_path}/none.json: No such file or directory; check the path"
    )


def test_memory_that_runs_out_is_a_sentence_and_the_environment_s_code() -> None:
    with pytest.raises(MemoryError) as refused:
        np.empty((2**48, 2**10), dtype=np.uint8)
    code, text = ended_by(refused.value)
    assert code == 3
    assert text.startswith("error: memory ran out (Unable to allocate 256. PiB ")
    assert text.endswith("; what existed before is untouched\n")
    assert text.count("\n") == 1


@pytest.mark.parametrize(("module", "extra"), [("onnxruntime.capi", "edge"), ("torch", "train")])
def test_a_missing_module_becomes_the_command_that_installs_it(module: str, extra: str) -> None:
    code, text = ended_by(ModuleNotFoundError("no", name=module))
    assert code == 3
    assert text.endswith(f"pip install 'ardx[{extra}]'\n")
    assert text.count("\n") == 1


@pytest.mark.parametrize(
    "error",
    [ModuleNotFoundError("no", name="ours"), ValueError("bug")],
)
def test_what_the_user_cannot_mend_is_not_hidden(error: Exception) -> None:
    with pytest.raises(type(error)):
        ended_by(error)


def test_an_interrupt_ends_with_the_shell_s_code() -> None:
    code, text = ended_by(KeyboardInterrupt())
    assert code == 130
    assert text.startswith("interrupted")
    assert text.count("\n") == 1


def test_commands_are_listed_in_the_order_of_the_stages() -> None:
    app = typer.Typer(cls=Stages)
    for name in ("teach", "attack", "bench"):
        app.command(name)(lambda: None)
    text = CliRunner().invoke(app, ["--help"]).stdout
    assert text.index("teach") < text.index("attack") < text.index("bench")


def test_progress_off_a_terminal_is_a_line_per_finding(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("bench") as report:
        report(1, 2, "clean 80.0%")
        report(2, 2, "pgd 40.0%")
    assert capsys.readouterr().err == "bench 1/2 clean 80.0%\nbench 2/2 pgd 40.0%\n"


def test_progress_off_a_terminal_is_a_line_per_quarter_of_the_rest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ticks = iter(range(0, 3000, 2))
    with progress("train", clock=lambda: float(next(ticks))) as report:
        for done in range(1, 101):
            report(done, 100, "")
    assert capsys.readouterr().err.splitlines() == [
        "train 25/100 (0:02:30 left)",
        "train 50/100 (0:01:40 left)",
        "train 75/100 (0:00:50 left)",
        "train 100/100",
    ]


def test_less_than_a_second_left_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    ticks = iter([0.0, 0.1])
    with progress("bench", clock=lambda: next(ticks)) as report:
        report(1, 3, "clean")
        report(2, 3, "pgd")
    assert capsys.readouterr().err == "bench 1/3 clean\nbench 2/3 pgd\n"


def test_the_time_left_of_a_resumed_step_is_judged_by_its_own_pace(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ticks = iter([0.0, 10.0])
    with progress("train", clock=lambda: next(ticks)) as report:
        report(90, 100, "")
        report(95, 100, "epoch 9")
    assert capsys.readouterr().err.splitlines()[-1] == "train 95/100 epoch 9 (0:00:10 left)"


def test_another_total_begins_another_step(capsys: pytest.CaptureFixture[str]) -> None:
    times = iter([0.0, 100.0, 101.0, 111.0])
    with progress("bench", lambda: next(times)) as report:
        report(1, 2, "")
        report(2, 2, "")
        report(0, 40, "square on 4 images")
        report(10, 40, "")
    assert capsys.readouterr().err.splitlines()[-2:] == [
        "bench 0/40 square on 4 images",
        "bench 10/40 (0:00:30 left)",
    ]


def test_silent_progress_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with silent("train") as report:
        report(1, 1, "done")
    assert capsys.readouterr() == ("", "")


def test_a_table_in_a_pipe_keeps_a_row_on_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("title", ["name", "figure"], [["a" * 100, "1.0 %"], ["b", "22.0 %"]])
    lines = capsys.readouterr().out.splitlines()
    assert any("a" * 100 in line and "1.0 %" in line for line in lines)
    assert any(line.split() == ["b", "22.0", "%"] for line in lines)


def test_a_json_summary_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"accuracy": 0.5, "worst": None})
    assert json.loads(capsys.readouterr().out) == {"accuracy": 0.5, "worst": None}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("one.\ntwo", "one"), ("  one  ", "one"), ("", "RuntimeError"), ("\n", "RuntimeError")],
)
def test_a_foreign_error_is_quoted_by_its_first_line(text: str, expected: str) -> None:
    assert first_line(RuntimeError(text)) == expected


def test_a_table_keeps_the_brackets_of_an_extra(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("this environment", ["capability"], [["pip install 'ardx[tensorrt]'"]])
    assert "'ardx[tensorrt]'" in capsys.readouterr().out


HOSTILE = "a\x1b[2Jb\x07\u202ec\u2066\ud800\x9bd\ne"


def test_nothing_that_steers_a_terminal_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(HOSTILE, ["a"], [[HOSTILE]])
    say(HOSTILE)
    warn(HOSTILE)
    with progress(HOSTILE) as update:
        update(1, 2, HOSTILE)
    told = capsys.readouterr()
    _, error = ended_by(InputError(HOSTILE))
    for text in (told.out, told.err, error):
        assert "a [2Jb" in text
        assert not set(text) & set("\x1b\x07\u202e\u2066\ud800\x9b")
    assert error.count("\n") == 1


ROWS = [
    ["clean", "-", "98.3 %", "96.8 to 99.3 %", "1000"],
    ["an attack of a very long name", "black-box", "83.1 %", "80.6 to 85.4 %", "1000"],
]
AT_WIDTH = """
import json, sys
from edge_bench.terminal.console import print_table
print_table("accuracy", *json.loads(sys.argv[1]))
"""


@pytest.mark.parametrize("columns", [160, 80, 60, 40, 20])
def test_a_narrow_terminal_shortens_words_and_keeps_every_figure(columns: int) -> None:
    given = json.dumps([["images", "threat", "accuracy", "95% interval", "n"], ROWS])
    ours, theirs = os.openpty()
    environment = os.environ | {"COLUMNS": str(columns), "TERM": "xterm"}
    with subprocess.Popen(
        [sys.executable, "-c", AT_WIDTH, given], stdout=theirs, env=environment
    ) as process:
        os.close(theirs)
        text = b""
        with suppress(OSError):  # Linux's way to say that the other side has gone.
            while block := os.read(ours, 4096):
                text += block
    os.close(ours)
    assert process.returncode == 0
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text.decode()).splitlines()
    for row in ROWS:
        for figure in row[2:]:
            assert sum(figure in line for line in lines) >= 1, lines
    assert columns < 60 or max(map(len, lines)) <= columns


AFTER_AN_EPOCH = "after the last whole epoch with --resume, and begins anew without it where there"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    ("command", "what"),
    [("attack", "goes on with the set"), ("teach", AFTER_AN_EPOCH), ("export", "begins anew")],
)
def test_each_signal_ends_a_command_with_its_sentence_and_code(
    number: signal.Signals, command: str, what: str
) -> None:
    app = typer.Typer(cls=Stages)
    tidied = []

    def wait() -> None:
        try:
            signal.raise_signal(number)
        finally:
            # A second one would end this process.
            tidied.append(signal.getsignal(signal.SIGTERM))

    app.command(command)(wait)
    app.command("other")(lambda: None)
    # What started the tests may ignore it, as nohup does, and what is ignored stays so.
    given = signal.signal(number, signal.default_int_handler)
    try:
        before = signal.getsignal(number)
        result = CliRunner().invoke(app, [command])
        after = signal.getsignal(number)
    finally:
        signal.signal(number, given)
    assert result.exit_code == 128 + number
    assert result.stderr.startswith("interrupted")
    assert what in result.stderr
    assert result.stderr.count("\n") == 1
    assert tidied == [signal.SIG_DFL]
    assert after == before


def test_what_is_to_be_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("module", ["edge_bench", "ard"])
def test_an_interrupt_during_the_imports_is_no_traceback(module: str) -> None:
    code = (
        "import runpy, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == '{module}.cli': signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        f"runpy.run_module('{module}', run_name='__main__')\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, b"")


PRINTING = """
import typer
from edge_bench.terminal.console import Stages, print_table, say
app = typer.Typer(cls=Stages)
@app.command()
def go(code: int) -> None:
    print_table("title", ["a"], [["1"]] * 5000)
    raise typer.Exit(code)
@app.command()
def short(code: int) -> None:
    say("passed")
    raise typer.Exit(code)
app()
"""


@pytest.mark.parametrize("command", ["go", "short"])
@pytest.mark.parametrize(("given", "code"), [(0, 3), (4, 4)])
def test_a_stdout_that_nobody_reads_is_said_with_a_code_of_its_own(
    command: str, given: int, code: int
) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    words = [sys.executable, "-c", PRINTING, command, str(given)]
    ended = subprocess.run(words, stdout=theirs, stderr=subprocess.PIPE, text=True, check=False)
    os.close(theirs)
    assert "Broken pipe" in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert ended.returncode == code


@pytest.mark.parametrize(
    ("encoding", "told"), [("ascii", rb"r\xe9sum\xe9 \u2192"), ("latin-1", b"r\xe9sum\xe9 \\u2192")]
)
def test_a_character_that_stdout_lacks_is_an_escape(encoding: str, told: bytes) -> None:
    code = PRINTING.replace('say("passed")', 'say("r\u00e9sum\u00e9 \u2192")')
    ended = subprocess.run(
        [sys.executable, "-c", code, "short", "0"],
        env=os.environ | {"PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, told + b"\n", b"")


def test_a_stdout_that_was_closed_is_no_error() -> None:
    words = [sys.executable, "-c", PRINTING, "go", "0"]
    ended = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" >&-', "sh", *words], stderr=subprocess.PIPE, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
