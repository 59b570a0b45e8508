"""What the board needs: a Python, packages, room."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_bench.backends.packages import Package
from edge_bench.remote import environment
from edge_bench.remote import receive as receive_module
from edge_bench.remote.layout import BUNDLE, EXIT, JOB, LOG, Job

ONE = ("--threads", "1")
QUICK = ("--runs", "3", "--seconds", "0", "--warmup", "0", "--settle-seconds", "0", *ONE)
BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("numpy", "typer", "psutil", "onnxruntime"):
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Blocker())
import edge_bench.remote.board, edge_bench.remote.receive, edge_bench.job
"""


@pytest.fixture
def words(tmp_path: Path, make_model: Any, make_set: Any) -> Callable[..., list[object]]:
    """`bench` on the board with this Python."""
    model, sets = make_model(), make_set().parent

    def with_python(python: object) -> list[object]:
        here = ["--ssh-config", tmp_path / "ssh_config", "--remote-python", python]
        out = ["--out", tmp_path / "report.json"]
        return ["bench", model, "--sets", sets, "--host", "board", *here, *out, *QUICK]

    return with_python


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], Path]:
    """A program of these lines."""

    def write(lines: str) -> Path:
        path = tmp_path / "a python"
        path.write_text(f"#!/bin/sh\n{lines}\n")
        path.chmod(0o755)
        return path

    return write


def assert_one_error(stderr: str, sentence: str) -> None:
    (line,) = (line for line in stderr.splitlines() if line.startswith("error: "))
    assert sentence in line
    assert "Traceback" not in stderr


# --- Python and packages ----------------------------------------------------------------------


def test_what_answers_the_client_needs_no_package() -> None:
    subprocess.run([sys.executable, "-B", "-c", BLOCKED], check=True)


@pytest.mark.parametrize(("heard", "told"), [(0, True), (20, False), (500, True)])
def test_a_log_that_a_power_cut_shortened_is_heard_anew(
    tmp_path: Path, heard: int, told: bool
) -> None:
    """`heard` bytes of it were read before; of 500 there are no more than 20 left."""
    (tmp_path / LOG).write_text("error: no room left\n", encoding="utf-8")
    (tmp_path / EXIT).write_text('{"code": 3, "error": null}', encoding="utf-8")
    follow = [sys.executable, "-m", "edge_bench.remote.board", "follow", str(tmp_path)]
    with subprocess.Popen(
        [*follow, str(heard)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as listening:
        assert listening.stdout is not None
        came = listening.stdout.read()
    assert came.endswith(b"error: no room left\n") == told
    assert listening.returncode == 0


def test_a_python_that_is_not_there(board: Any, invoke: Any, words: Any) -> None:
    code, _, stderr = invoke(*words("/nowhere/python3"))
    assert code == 3
    assert_one_error(stderr, "error: board: ")
    assert_one_error(stderr, "/nowhere/python3 does not start there, so install Python 3.10")


def test_a_python_that_is_too_old(board: Any, invoke: Any, words: Any, script: Any) -> None:
    # No old Python is at hand: this says what one would, to the question that is asked first.
    found = {"python": [3, 8, 10], "folder": "/nowhere", "missing": []}
    old = script(f"echo '{json.dumps(found)}'")
    code, _, stderr = invoke(*words(old))
    assert code == 3
    assert_one_error(stderr, f"board: {old} is Python 3.8.10, and ardx needs 3.10 or newer")
    assert board.left == set()


def test_a_program_that_is_no_python(board: Any, invoke: Any, words: Any, script: Any) -> None:
    code, _, stderr = invoke(*words(script("echo SyntaxError: invalid syntax >&2; exit 1")))
    assert code == 3
    assert_one_error(stderr, "there ended with 'SyntaxError: invalid syntax'; expected Python 3.10")


def test_a_package_counts_where_it_is_new_enough() -> None:
    assert Package(module="numpy", requirement="numpy>=1.24").is_here()
    assert not Package(module="numpy", requirement="numpy>=999.1").is_here()
    assert not Package(module="nowhere", requirement="nowhere>=1").is_here()
    # Another distribution of the same module will do, as will one that nothing is known of.
    assert Package(module="numpy", requirement="no>=999", others=("numpy",)).is_here() is False
    assert Package(module="numpy", requirement="no>=1", others=("numpy",)).is_here()
    assert Package(module="json", requirement="json>=1").is_here()


def test_backends_need_their_runtime() -> None:
    def names(backend: str) -> list[str]:
        return [package.requirement.partition(">")[0] for package in environment.needed(backend)]

    base = ["numpy", "typer", "psutil"]
    assert names("ort") == [*base, "onnxruntime"]
    assert names("ort-cuda") == [*base, "onnxruntime-gpu"]
    assert names("openvino") == [*base, "openvino"]
    assert names("trt") == [*base, "polygraphy"]
    rtx = [f"tensorrt-rtx-cu13-{part}" for part in ("libs", "bindings")]
    assert names("trt-rtx") == [*base, "polygraphy", *rtx]
    assert names("all") == base  # onnxruntime is here
    assert names("nope") == base


def test_wheels_that_do_not_fit_end_with_the_remedy(
    board: Any, invoke: Any, words: Any, tmp_path: Path
) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "numpy-2.0-cp39-cp39-win32.whl", "w") as archive:
        archive.writestr("nothing", "")
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    code, _, stderr = invoke(*words(bare / "bin" / "python"), "--wheels", wheels)
    assert code == 3
    assert_one_error(stderr, "error: board: --wheels holds no ")
    version = f"Python {sys.version_info[0]}.{sys.version_info[1]}"
    assert_one_error(stderr, f"typer>=0.26 psutil>=5.9 onnxruntime>=1.17 that fits {version} on ")
    # An environment that was not finished is made anew; the job itself is gone.
    (left,) = board.left - {"lock", "running.json"}
    assert left.startswith("venv-")
    assert not (board.root / left / "ready").exists()
    settings = (board.root / left / "pyvenv.cfg").read_text()
    assert "include-system-site-packages = true" in settings  # where JetPack keeps TensorRT


# --- files that arrive --------------------------------------------------------------------------


def receive(home: Path, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    program = Path(receive_module.__file__).read_text()
    return subprocess.run(
        [sys.executable, "-I", "-c", program, *words],
        input=stdin,
        env={"HOME": str(home)},
        capture_output=True,
        check=False,
    )


def test_files_arrive_whole_or_not_at_all(tmp_path: Path) -> None:
    contents = {"a": b"first", "w/b": b"", "c": bytes(3 << 20)}
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    coming = [w for n, c in contents.items() for w in (n, hashes[n], str(len(c)))]
    stream = b"".join(contents.values())
    cut = receive(tmp_path, "take", "KEY", *coming, stdin=stream[:-1])
    folder = tmp_path / ".cache" / "ardx" / "remote" / "KEY"
    assert cut.returncode == 3
    assert cut.stderr.decode().startswith(f"error: {folder}/c: cut short on the way; ")
    assert {str(p.relative_to(folder)) for p in folder.rglob("*")} == {"a", "w", "w/b"}

    pairs = [word for pair in hashes.items() for word in pair]
    (folder / "a").write_bytes(b"another")
    seen = json.loads(receive(tmp_path, "look", "KEY", *pairs).stdout)
    assert (seen["folder"], seen["missing"]) == (str(folder), ["a", "c"])
    assert receive(tmp_path, "take", "KEY", *coming, stdin=stream).returncode == 0
    assert {n: (folder / n).read_bytes() for n in contents} == contents
    assert json.loads(receive(tmp_path, "look", "KEY", *pairs).stdout)["missing"] == []


# --- room -------------------------------------------------------------------------------------


def test_a_disk_that_is_full_is_named(make_board: Any, invoke: Any, words: Any) -> None:
    board = make_board(most_kib=64)
    code, _, stderr = invoke(*words(sys.executable))
    assert code == 3
    (job,) = (path for path in board.root.iterdir() if path.is_dir())
    assert_one_error(stderr, f"error: board: {job}/ardx_edge_bench-")
    assert_one_error(stderr, "File too large; free space there")
    # What had arrived before waits for the next try.
    assert {p.name for p in job.iterdir()} == {BUNDLE}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 2 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(path)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small disk")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def test_a_disk_that_fills_up_while_it_runs_still_tells_how_it_ended(
    small_disk: Path, tmp_path: Path
) -> None:
    folder = small_disk / "job"
    folder.mkdir()
    job = Job(python=sys.executable, backend="ort", options=("--threads=1",))
    (folder / JOB).write_text(job.to_text())
    # No bundle lies there, which is an error; and the log, as all else, has no room for it.
    program = (
        "import sys; from pathlib import Path\n"
        "from edge_bench import job\n"
        "from edge_bench.remote import layout\n"
        "folder = Path(sys.argv[1])\n"
        "layout.reserve_room(folder)\n"
        "try: (folder / 'rest').write_bytes(bytes(4 << 20))\n"
        "except OSError: pass\n"
        "job.main(str(folder))\n"
    )
    with (folder / "log").open("ab") as log:
        subprocess.run([sys.executable, "-B", "-c", program, str(folder)], stderr=log, check=False)
    ended = json.loads((folder / "exit.json").read_text())
    assert ended["code"] in (2, 3)
    assert (folder / "log").read_text() == ""
    assert "No space left on device" in ended["error"]
