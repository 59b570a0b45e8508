"""The board is a machine that somebody else may hold: whatever it answers becomes a sentence."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_bench.core.errors import CapabilityError
from edge_bench.core.progress import no_progress
from edge_bench.files.unpack import Unpacked
from edge_bench.options.bench import BenchOptions
from edge_bench.remote.client import Client
from edge_bench.remote.layout import Job
from edge_bench.remote.parcel import Parcel, make_parcel
from edge_bench.remote.ssh import Ssh

GOOD = {
    "look": '{"python": [3, 12, 1], "folder": "/there", "missing": []}',
    "lacks": "[]",
    "start": '{"state": "ended", "pid": null}',
    "follow": "",
    "fetch": '{"code": 0, "error": null, "files": {}}',
}


@pytest.fixture
def parcel(make_model: Callable[..., Path], tmp_path: Path) -> Parcel:
    model = make_model()
    job = Job(python="python3", backend="ort", options=())
    parts = Unpacked(model=model, sets=None, gate=None, baseline=None)
    return make_parcel(tmp_path, model, parts, job, None, no_progress)


@pytest.fixture
def client(
    parcel: Parcel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Client]:
    """A client of a host that answers as the test says, by a program called `ssh`."""

    def answering(more: int = 0, **answers: str) -> Client:
        for verb, answer in (GOOD | answers).items():
            (tmp_path / verb).write_text(answer + "\n", encoding="utf-8", errors="surrogatepass")
        cases = "".join(f'*" {verb} "*) cat "{tmp_path}/{verb}";;\n' for verb in GOOD)
        program = tmp_path / "ssh"
        program.write_text(f'#!/bin/sh\ncase "$* " in\n{cases}esac\nexit 0\n', encoding="utf-8")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        return Client(Ssh("pi@board"), parcel, "model.onnx", lambda line: None, more)

    return answering


def test_what_ardx_there_says_is_taken(client: Callable[..., Client]) -> None:
    fetched = client(fetch='{"code": 3, "error": "x", "files": {"report.json": "{}"}}').run()
    assert (fetched.code, fetched.errors, fetched.files) == (3, ("x",), {"report.json": "{}"})


def test_a_report_may_be_as_long_as_the_timings_that_were_asked_for(
    client: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_bench.remote.ssh.MOST_ANSWER", 1 << 16)
    soaked = json.dumps({"code": 0, "error": None, "files": {"report.json": "9" * 100_000}})
    minute, hour = (BenchOptions(soak_minutes=m).most_timed_bytes for m in (1, 60))
    # A model that answers in 0.05 ms, as a soak keeps its calls.
    assert hour - minute > 59 * 60 * 20_000 * 6
    fetched = client(more=minute, fetch=soaked).run()
    assert len(fetched.files["report.json"]) == 100_000
    with pytest.raises(CapabilityError, match="pi@board: its answer is longer than 0 MiB"):
        client(fetch=soaked).run()


@pytest.mark.parametrize(
    ("verb", "answer"),
    [
        ("look", "[]"),
        ("look", "7"),
        ("look", '{"python": "3.12", "folder": "/", "missing": []}'),
        ("look", '{"python": [3, 12], "folder": 1, "missing": []}'),
        ("look", '{"python": [3, 12], "folder": "/", "missing": [1]}'),
        ("look", '{"python": [3, 12]}'),
        ("start", "[]"),
        ("start", '{"state": "ended"}'),
        ("start", '{"state": "flies", "pid": 1}'),
        ("start", '{"state": ["ended"], "pid": 1}'),
        ("start", '{"state": "ended", "pid": NaN}'),
        ("start", "[" * 100_000),
        ("fetch", "null"),
        ("fetch", '{"code": 1e999, "error": null, "files": {}}'),
        ("fetch", f'{{"code": {10**30}, "error": null, "files": {{}}}}'),
        ("fetch", '{"code": -1, "error": null, "files": {}}'),
        ("fetch", '{"code": 0, "error": 5, "files": {}}'),
        ("fetch", '{"code": 0, "error": null, "files": []}'),
        ("fetch", '{"code": 0, "error": null, "files": {"a": 1}}'),
        ("fetch", "9" * 5000),
    ],
)
def test_what_it_never_says_is_a_sentence_with_the_host(
    client: Callable[..., Client], verb: str, answer: str
) -> None:
    with pytest.raises(CapabilityError, match=r"^pi@board: ") as caught:
        client(**{verb: answer}).run()
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)
