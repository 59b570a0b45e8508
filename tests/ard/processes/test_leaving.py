"""Below torchrun a process ends at once, so that no thread of torch's aborts what was done."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ard.processes.leaving import STARTED_BY_TORCHRUN

PROGRAM = (
    "import atexit; atexit.register(print, 'taken down'); from ard.__main__ import main; main()"
)


@pytest.mark.parametrize("below_torchrun", [False, True])
@pytest.mark.parametrize(("words", "code"), [(["--version"], 0), (["teach", "--no-such"], 2)])
def test_below_torchrun_the_interpreter_is_not_taken_down(
    below_torchrun: bool, words: list[str], code: int
) -> None:
    environment = {k: v for k, v in os.environ.items() if k != STARTED_BY_TORCHRUN}
    if below_torchrun:
        environment[STARTED_BY_TORCHRUN] = "job"
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == code, ended.stderr
    assert ("taken down" in ended.stdout) is not below_torchrun
    # What was said came out all the same.
    assert ("ardx" in ended.stdout) if code == 0 else ("--no-such" in ended.stderr)
