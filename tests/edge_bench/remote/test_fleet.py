"""Several hosts: a report each, one table, and an error that stays that of its host."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_bench.core.errors import InputError
from edge_bench.core.gate import Gate
from edge_bench.core.spec import Report
from edge_bench.files.bundle import pack
from edge_bench.files.store import read_json
from edge_bench.remote.fleet import HEADER, outputs, row

ROOT = Path(__file__).parents[3]
MakeReport = Callable[..., Report]
ONE = ("--threads", "1")
QUICK = ("--runs", "3", "--seconds", "0", "--warmup", "0", "--settle-seconds", "0", *ONE)


@pytest.fixture
def words(tmp_path: Path, make_model: Any, make_set: Any) -> list[object]:
    here = ["--ssh-config", tmp_path / "ssh_config", "--remote-python", sys.executable]
    out = ["--out", tmp_path / "report.json"]
    hosts = ["--host", "one", "--host", "two"]
    return ["bench", make_model(), "--sets", make_set().parent, *hosts, *here, *out, *QUICK]


def test_two_boards_make_a_table(
    make_board: Any, invoke: Any, words: list[object], tmp_path: Path
) -> None:
    boards = [make_board("one"), make_board("two")]
    bundle = tmp_path / "gated.ardx"
    model, sets, gate = Path(str(words[1])), Path(str(words[3])), Gate(min_clean_accuracy=0.99)
    pack(model, bundle, sets=sets, gate=gate, baseline=None, force=False)
    code, stdout, stderr = invoke("bench", bundle, *words[4:])
    assert code == 1, stderr
    assert stdout.count("--min-clean-accuracy") == 2
    for board in boards:
        report = read_json(tmp_path / f"report-{board.name}.json", Report, "a report")
        assert report.clean_mask is not None
        assert f"\n  {board.name}  " in stdout
        assert f"{board.name}: bench 2/2 pgd" in stderr
        assert f"\ngate: {board.name}: failed\n" in stdout
        assert board.left == {"lock", "running.json"}
    assert not (tmp_path / "report.json").exists()


def test_one_that_fails_costs_the_others_nothing(
    make_board: Any, retrust: Any, invoke: Any, words: list[object], tmp_path: Path
) -> None:
    one = make_board("one")
    make_board("two")
    retrust(one.folder, one.port, "other_key")
    code, stdout, stderr = invoke(*words, "--json")
    hosts = json.loads(stdout)["hosts"]
    assert code == hosts["one"]["exit_code"] == 3
    assert hosts["one"]["error"].startswith("one: ssh: Host key verification failed")
    assert "error: one: ssh: Host key" in stderr
    assert hosts["two"]["exit_code"] == 0
    assert Path(hosts["two"]["report"]) == tmp_path / "report-two.json"
    assert read_json(tmp_path / "report-two.json", Report, "a report").clean_mask


def scheduled(folder: Path) -> str:
    """Run the page's block with xargs, as it stands; what the scheduler told."""
    page = (ROOT / "docs/explanation/scale.md").read_text(encoding="utf-8")
    (block,) = (b for b in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) if "xargs" in b)
    done = subprocess.run(
        ["/bin/sh", "-c", block],
        cwd=folder,
        env=os.environ | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stderr


def test_a_scheduler_drives_the_boards_as_the_page_says(
    make_board: Any, retrust: Any, words: list[object], tmp_path: Path
) -> None:
    boards = [make_board(name) for name in ("one", "two", "three")]
    retrust(boards[1].folder, boards[1].port, "other_key")
    (tmp_path / "hosts.txt").write_text("".join(f"{board.name}\n" for board in boards))
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    gate = Gate(min_clean_accuracy=0.99)
    model, sets = Path(str(words[1])), Path(str(words[3]))
    pack(model, tmp_path / "student.ardx", sets=sets, gate=gate, baseline=None, force=False)
    # `ardx` as a person has it, whose options for this test the page does not know.
    here = ["--ssh-config", str(tmp_path / "ssh_config"), "--remote-python", sys.executable]
    called = shlex.join([sys.executable, "-m", "edge_bench"])
    (tmp_path / "bin").mkdir()
    ardx = tmp_path / "bin" / "ardx"
    ardx.write_text(f'#!/bin/sh\nexec {called} "$@" {shlex.join([*here, *QUICK])}\n')
    ardx.chmod(0o755)

    def lines() -> dict[str, dict[str, Any]]:
        text = (tmp_path / "fleet.jsonl").read_text(encoding="utf-8")
        return {line["host"]: line for line in map(json.loads, text.splitlines())}

    scheduled(tmp_path)
    assert {host: line["exit_code"] for host, line in lines().items()} == {
        "one": 1,
        "two": 3,
        "three": 1,
    }
    assert lines()["two"]["summary"] is None
    assert "Host key verification failed" in (tmp_path / "reports" / "two.log").read_text()
    first = (tmp_path / "reports" / "one.json").read_bytes()
    assert lines()["one"]["summary"]["gate"]["passed"] is False

    retrust(boards[1].folder, boards[1].port)
    scheduled(tmp_path)
    assert lines()["two"]["exit_code"] == 1
    assert (tmp_path / "reports" / "one.json").read_bytes() == first
    for name in ("one", "two", "three"):
        report = read_json(tmp_path / "reports" / f"{name}.json", Report, "a report")
        assert report.clean_mask is not None


def test_reports_go_to_names_that_are_safe_and_apart(tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    paths = outputs(out, ["pi@a", "ssh://pi@b:22/"], False)
    assert [p.name for p in paths.values()] == ["r-pi@a.json", "r-ssh_pi@b_22_.json"]
    assert outputs(out, ["pi@a"], False) == {"pi@a": out}
    for same in (["pi@a", "pi@a"], ["a:1", "a/1"], ["board", "Board"]):
        with pytest.raises(InputError, match="two of these share"):
            outputs(out, same, False)
    (tmp_path / "r-b.json").touch()
    with pytest.raises(InputError, match=r"r-b\.json exists already"):
        outputs(out, ["a", "b"], False)
    assert outputs(out, ["a", "b"], True)


def test_a_row_has_a_dash_for_what_is_not_known(make_report: MakeReport) -> None:
    report = make_report("1111111110", {"pgd": "1111110000"}, latency_ms=[2.0] * 200)
    cells = dict(zip(HEADER, row("pi@board", report), strict=True))
    assert cells == {
        "host": "pi@board",
        "board": "local",
        "backend": "ort 1.20.0",
        "p50 ms": "2.000",
        "p95 ms": "2.000",
        "images/s": "500",
        "mJ/image": "-",
        "clean": "90.0 %",
        "worst case": "60.0 %",
        "fingerprint": "-",
        "throttled": "-",
    }
    bare = dict(zip(HEADER, row("pi@board", make_report()), strict=True))
    assert (bare["clean"], bare["worst case"]) == ("-", "-")
