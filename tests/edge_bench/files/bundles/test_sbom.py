"""A bundle says what its device's environment is made of, in the standard's own form."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from edge_bench.files.bundle import LOCK, SBOM, pack
from edge_bench.files.sbom import sbom
from edge_bench.files.store import sha256_file


def test_a_bundle_s_bill_is_valid_and_has_what_its_device_needs(
    tmp_path: Path, make_model: Callable[..., Path]
) -> None:
    model, out = make_model(), tmp_path / "out.ardx"
    pack(model, out, sets=None, gate=None, baseline=None, force=False)
    with zipfile.ZipFile(out) as archive:
        text, lock = archive.read(SBOM).decode(), archive.read(LOCK).decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    assert bill["metadata"]["component"]["hashes"][0]["content"] == sha256_file(model)
    told = {f"{c['name'].lower()}=={c['version']}" for c in bill["components"]}
    assert set(lock.splitlines()) <= told
    # What typer needs in turn, which a lock of four lines does not tell.
    assert f"rich=={metadata.version('rich')}" in told
    (root,) = (d for d in bill["dependencies"] if d["ref"] == "artefact")
    assert len(root["dependsOn"]) == len(lock.splitlines())


def test_the_same_environment_gives_the_same_bill() -> None:
    assert sbom(["numpy", "typer"], "0" * 64, "a.onnx") == sbom(
        ["typer", "numpy"], "0" * 64, "a.onnx"
    )
