"""What travels, under which name; what comes back, and what is believed of it."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from edge_bench.commands.benching.remote import forwarded
from edge_bench.core.errors import CapabilityError, InputError
from edge_bench.core.progress import no_progress
from edge_bench.core.spec import Report
from edge_bench.files.bundle import pack
from edge_bench.files.seals.content import SEAL, sealed
from edge_bench.files.store import read_json, to_json
from edge_bench.files.unpack import Unpacked, unpacked
from edge_bench.remote.client import Fetched
from edge_bench.remote.home import Expected, bring_home
from edge_bench.remote.layout import REPORT, Job
from edge_bench.remote.parcel import Parcel, make_parcel
from edge_bench.report.compare import Comparison, Contender
from edge_bench.runs.every_backend import ALL, report_path

JOB = Job(python="python3", backend="ort", options=("--threads=1",))


@pytest.fixture
def send(tmp_path: Path) -> Callable[..., Parcel]:
    """Make a parcel in a folder of its own."""
    made = iter(range(100))

    def make(model: Path, parts: Unpacked, job: Job = JOB, wheels: Path | None = None) -> Parcel:
        folder = tmp_path / f"parcel-{next(made)}"
        folder.mkdir()
        return make_parcel(folder, model, parts, job, wheels, no_progress)

    return make


@pytest.fixture
def parts(make_model: Callable[..., Path], make_set: Callable[..., Path]) -> Unpacked:
    return Unpacked(model=make_model(), sets=make_set().parent, gate=None, baseline=None)


def test_the_same_run_has_the_same_name(
    send: Callable[..., Parcel], parts: Unpacked, make_set: Callable[..., Path], tmp_path: Path
) -> None:
    first = send(parts.model, parts)
    assert send(parts.model, parts).key == first.key
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "a-1-py3-none-any.whl").write_bytes(b"1")
    # How packages get there does not change what runs.
    assert send(parts.model, parts, wheels=tmp_path / "w").key == first.key
    keys = {
        send(parts.model, parts, replace(JOB, options=("--threads=2",))).key,
        send(parts.model, parts, replace(JOB, backend="openvino")).key,
        send(parts.model, parts, replace(JOB, python="python3.12")).key,
        send(parts.model, replace(parts, sets=None)).key,
    }
    assert len(keys | {first.key}) == 5


def test_a_bundle_goes_as_it_is_unless_sets_lie_beside_it(
    send: Callable[..., Parcel], parts: Unpacked, tmp_path: Path
) -> None:
    whole, bare = tmp_path / "whole.ardx", tmp_path / "bare.ardx"
    for path, sets in ((whole, parts.sets), (bare, None)):
        pack(parts.model, path, sets=sets, gate=None, baseline=None, force=False)
    with unpacked(whole) as inside:
        assert send(whole, inside).files["bundle.ardx"].path == whole
    with unpacked(bare) as inside:
        assert send(bare, inside).files["bundle.ardx"].path == bare
        sent = send(bare, replace(inside, sets=parts.sets)).files["bundle.ardx"].path
    with zipfile.ZipFile(sent) as archive:
        assert "sets/pgd/manifest.json" in archive.namelist()


def test_a_folder_without_wheels_is_refused_before_anything_is_sent(
    send: Callable[..., Parcel], parts: Unpacked, tmp_path: Path
) -> None:
    (tmp_path / "w").mkdir()
    with pytest.raises(InputError, match=r"--wheels .*: expected a folder with wheels"):
        send(parts.model, parts, wheels=tmp_path / "w")
    (tmp_path / "w" / "a b.whl").touch()
    with pytest.raises(InputError, match=r"a b\.whl: not the name of a wheel"):
        send(parts.model, parts, wheels=tmp_path / "w")


def test_options_travel_as_they_were_given() -> None:
    app, seen = typer.Typer(), []

    @app.command()
    def bench(
        context: typer.Context,
        model: str,
        host: Annotated[list[str], typer.Option()],
        out: Annotated[Path, typer.Option()] = Path("o"),
        batch_size: Annotated[int, typer.Option()] = 64,
        seconds: Annotated[float, typer.Option()] = 2.0,
        mean: Annotated[str | None, typer.Option()] = None,
        attack_all: Annotated[bool, typer.Option("--attack-all")] = False,
        doubts: Annotated[bool, typer.Option("--doubts/--no-doubts")] = True,
        sweep: Annotated[list[str] | None, typer.Option()] = None,
        cache: Annotated[Path | None, typer.Option(envvar="CACHE_FOR_TEST")] = None,
    ) -> None:
        seen.append(forwarded(context))

    words = "m --host h --out r --seconds 2.0 --mean=-1,0 --attack-all --no-doubts"
    words += " --sweep a=1,2 --sweep b=3"
    result = CliRunner().invoke(app, words.split(), env={"CACHE_FOR_TEST": "/here"})
    assert result.exit_code == 0, result.output
    expected = "--seconds=2.0 --mean=-1,0 --attack-all --no-doubts --sweep=a=1,2 --sweep=b=3"
    assert sorted(seen[0]) == sorted(expected.split())


def anew(report: str, old: str, new: str) -> str:
    """The report with another text in it, and a hash that fits: a stranger's board."""
    plain = json.loads(report.replace(old, new))
    return json.dumps(sealed(Report, {k: v for k, v in plain.items() if k != SEAL}))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (lambda report: "{", "no whole report came back"),
        (lambda report: json.dumps({"schema_version": 1}), "field '.*' is missing"),
        (
            lambda report: report.replace('"clean_mask": "1', '"clean_mask": "7'),
            "does not have the",
        ),
        (lambda report: anew(report, '"clean_mask": "1', '"clean_mask": "7'), "'0' and '1'"),
        (lambda report: anew(report, "a" * 64, "e" * 64), "is of the artefact eeeeeeeeeeeeeeee"),
    ],
)
def test_a_report_that_cannot_be_ours_is_not_written(
    make_report: Callable[..., Report],
    tmp_path: Path,
    text: Callable[[str], str],
    sentence: str,
) -> None:
    report = to_json(make_report("10", {"pgd": "10"}))
    out = tmp_path / "r.json"
    expected = Expected(path="m", sha256="a" * 64, out=out, every_backend=False, force=False)
    fetched = Fetched(code=0, errors=(), files={"report.json": text(report)})
    with pytest.raises(CapabilityError, match=sentence):
        bring_home("pi", fetched, expected)
    assert not out.exists()
    assert bring_home("pi", replace(fetched, files={"report.json": report}), expected)
    assert read_json(out, Report, "a report").artifact.path == "m"


@pytest.mark.parametrize(
    ("names", "rounds", "second", "sentence"),
    [
        (("ort", "../../ort"), (3, 3), "10", r"came a backend '\.\./\.\./ort'"),
        (("ort", "ort"), (3, 3), "10", "came a backend 'ort'"),
        (("ort", "openvino"), (3, 2), "10", "races of 2 and 3 rounds"),
        (("ort", "openvino"), (3, 3), "101", "saw other images or attacks"),
        (("ort", "openvino"), (3, 3), "10", ""),
    ],
)
def test_a_race_that_cannot_be_ours_is_not_written(
    make_report: Callable[..., Report],
    tmp_path: Path,
    names: tuple[str, ...],
    rounds: tuple[int, ...],
    second: str,
    sentence: str,
) -> None:
    comparison = Comparison(
        created="2025-01-01T00:00:00+00:00",
        ardx_version="0.1.0",
        artifact_sha256="a" * 64,
        batch_size=1,
        contenders=tuple(
            Contender(backend=name, report="r.json", round_ns=(1000,) * count)
            for name, count in zip(names, rounds, strict=True)
        ),
        absent={},
    )
    files = {
        f"{Path(REPORT).stem}-{name}.json": to_json(make_report(mask, {"pgd": mask}))
        for name, mask in zip(names, ("10", second), strict=True)
    }
    files[report_path(Path(REPORT), ALL).name] = to_json(comparison)
    out = tmp_path / "r.json"
    expected = Expected(path="m", sha256="a" * 64, out=out, every_backend=True, force=False)
    fetched = Fetched(code=0, errors=(), files=files)
    if not sentence:
        assert bring_home("pi", fetched, expected)
        return
    with pytest.raises(CapabilityError, match=f"^pi: .*{sentence}"):
        bring_home("pi", fetched, expected)
    assert not list(tmp_path.iterdir())


def test_options_of_a_host_need_one(invoke: Callable[..., Any], tmp_path: Path) -> None:
    for option in ("--wheels", "--remote-python", "--ssh-config"):
        code, _, stderr = invoke("bench", tmp_path / "m.onnx", option, "x")
        assert code == 2
        assert stderr == f"error: {option}: belongs to another machine; give --host, too\n"
