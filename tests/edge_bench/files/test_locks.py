"""Of two processes that write one output, one wins and the other says so."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from edge_bench.core.errors import InputError
from edge_bench.files.locks import writing

# Holds the output until its input ends.
OTHER = (
    "import sys; from pathlib import Path; from edge_bench.files.locks import writing\n"
    "with writing(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
)


def test_another_process_is_told_of_by_the_output(tmp_path: Path) -> None:
    out = tmp_path / "q.onnx"
    command = [sys.executable, "-c", OTHER, str(out)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        said = rf"{re.escape(str(out))}: another process is writing"
        with pytest.raises(InputError, match=said), writing(out):
            pass
        other.kill()
    with writing(out):
        assert [path.name for path in tmp_path.iterdir()] == [".q.onnx.lock"]
    assert not list(tmp_path.iterdir())


def test_a_folder_that_nothing_was_written_to_is_not_left(tmp_path: Path) -> None:
    with writing(tmp_path / "a" / "x"):
        pass
    assert not (tmp_path / "a").exists()
    with writing(tmp_path / "a" / "x"):
        (tmp_path / "a" / "x").write_text("kept")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["x"]
