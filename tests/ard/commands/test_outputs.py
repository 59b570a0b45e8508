"""What is written together is never half of one run and half of another."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from ard.cli import app
from ard.data.splits import Dataset
from ard.exporting.export import export
from edge_bench.files.fingerprint import fingerprint_path, read_fingerprint
from edge_bench.files.locks import writing
from edge_bench.files.store import sha256_file

from ..conftest import SmallModels

DIGITS = ("--dataset", "digits")


def test_an_artefact_that_is_there_has_its_fingerprint_whenever_export_is_killed(
    small_models: SmallModels, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, replace = tmp_path / "q.onnx", Path.replace
    there: list[bool] = []

    def look() -> None:
        """What a kill at this moment would leave."""
        there.append(out.exists())
        if out.exists():
            read_fingerprint(fingerprint_path(out), sha256_file(out))

    def watched(path: Path, target: Path) -> Path:
        look()
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", watched)
    export(small_models.student.weights, digits, out)
    look()
    assert there == [False, False, False, True]


@pytest.mark.parametrize("force", [(), ("--force",)])
@pytest.mark.parametrize("command", ["export", "evaluate", "teach", "distill"])
def test_of_two_commands_with_one_out_the_other_says_so(
    command: str, force: tuple[str, ...], small_models: SmallModels, tmp_path: Path
) -> None:
    weights = small_models.student.weights
    out = tmp_path / {"export": "q.onnx", "evaluate": "e.json"}.get(command, "run")
    learns = command in ("teach", "distill")
    arguments: dict[str, tuple[object, ...]] = {
        "export": (weights,),
        "evaluate": (weights, "--attacks", "fgsm", "--limit", "20"),
        "teach": (*DIGITS, "--arch", "resnet8:2", "--method", "natural", "--epochs", "1"),
        "distill": (*DIGITS, "--student", "resnet8:2", "--teacher", weights, "--epochs", "1"),
    }
    line = [command, *map(str, arguments[command]), "--out", str(out), *force]
    with writing(out, out / "checkpoint.safetensors" if learns else out):
        before = sorted(tmp_path.rglob("*"))
        result = CliRunner().invoke(app, line)
        assert result.exit_code == 2
        assert f"{out}: another process is writing it" in " ".join(result.stderr.split())
        assert sorted(tmp_path.rglob("*")) == before
