"""Files of every kind as ardx 0.1.0 wrote them still load, and newer ones are refused by name.

`data/formats/0.1.0` was written by the commands of 0.1.0 (the progress of a set and the record of
an engine by the functions behind them, the conditions of a gate by hand): a ResNet-8 of width 4 on
digits, 12 epochs, and 32 test images. No file there is ever written anew; another version of a
format brings another folder.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import pkgutil
import re
import zipfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jsonschema import Draft202012Validator

import ard
import edge_bench
from ard.evaluation.record import EvaluationRecord
from ard.learning.config import dotted
from ard.learning.recipes import build_config, read_recipe
from ard.learning.run_state import CHECKPOINT_FORMAT, Run, read_checkpoint
from ard.models.architectures import build_model
from ard.models.weight_files import load_model, load_tensors, save_tensors
from edge_bench.backends import open_backend
from edge_bench.backends.engine_cache import EngineRecord, record_path
from edge_bench.core.errors import InputError
from edge_bench.core.formats import KEY, WRITER, Change, Format
from edge_bench.core.gate import Gate
from edge_bench.core.progress import no_progress
from edge_bench.core.spec import ModelCard, Report, SetManifest
from edge_bench.explain.departures import Explanation
from edge_bench.explain.probe_file import About
from edge_bench.files.bundle import BundleManifest
from edge_bench.files.fingerprint import Origin, compare, fingerprint_path, read_fingerprint
from edge_bench.files.onnx_file import CARD_KEY, model_card, read_onnx
from edge_bench.files.pictures.crafted import CraftedPictures
from edge_bench.files.set_writer import SetProgress
from edge_bench.files.sets import as_unit, open_sets
from edge_bench.files.store import from_json, read_json, sha256_file, to_json
from edge_bench.files.unpack import unpacked
from edge_bench.options.bench import BenchOptions
from edge_bench.policy.baseline import Baseline
from edge_bench.policy.gate import check, read_conditions
from edge_bench.report.compare import Comparison
from edge_bench.robustness.inference import stored_logits
from edge_bench.robustness.replay import replay

from .tools.format_pages import FORMATS, PAGES, files

OLD = Path(__file__).parent / "data" / "formats" / "0.1.0"
MODEL = OLD / "model.onnx"
ENGINE = next((OLD / "engines").glob("*.engine"))

GATE_SINCE = {"max_divergence", "max_path_gap"}
"""Conditions that 0.1.0 did not know."""

JSON_FILES: dict[str, tuple[Path, type[Any]]] = {
    "set_manifest": (OLD / "sets" / "fgsm" / "manifest.json", SetManifest),
    "report": (OLD / "report.json", Report),
    "baseline": (OLD.parent / "0.2.0" / "baseline.json", Baseline),
    "probe": (OLD.parent / "0.2.0" / "probe.json", About),
    "crafted_pictures": (OLD.parent / "0.2.0" / "crafted_pictures.json", CraftedPictures),
    "explanation": (OLD.parent / "0.2.0" / "explanation.json", Explanation),
    "comparison": (OLD / "comparison.json", Comparison),
    "evaluation": (OLD / "evaluation.json", EvaluationRecord),
    "engine_record": (record_path(ENGINE), EngineRecord),
    "set_progress": (OLD / "progress.json", SetProgress),
}


def old_values() -> dict[str, tuple[Any, type[Any]]]:
    """What the old files hold as JSON, by the name of their page."""
    with zipfile.ZipFile(OLD / "model.ardx") as archive:
        bundle = json.loads(archive.read("manifest.json"))
    with np.load(fingerprint_path(MODEL), allow_pickle=False) as arrays:
        about = json.loads(str(arrays["about"]))
    return {
        "model_card": (json.loads(read_onnx(MODEL).metadata[CARD_KEY]), ModelCard),
        "bundle_manifest": (bundle, BundleManifest),
        "fingerprint": (about, Origin),
    } | {name: (json.loads(path.read_text()), kind) for name, (path, kind) in JSON_FILES.items()}


def schema(name: str) -> dict[str, Any]:
    text = (FORMATS / f"{name}.schema.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


# --- what 0.1.0 wrote ------------------------------------------------------------------------


def test_an_old_set_on_an_old_artefact_gives_the_old_masks() -> None:
    report = read_json(OLD / "report.json", Report, "a report")
    opened = open_sets(OLD / "sets")
    with open_backend("ort", MODEL, 1) as backend:
        found = replay(opened, backend, report.artifact, BenchOptions(), no_progress)
    # As it was told then.
    results = tuple(replace(each, answers=None, beside_source=None) for each in found.results)
    assert (found.clean_mask, results) == (report.clean_mask, report.sets)
    assert 0 < results[0].mask.count("1") < len(results[0].mask) == 32


def test_old_weights_give_what_the_old_set_says_of_them() -> None:
    model, card = load_model(OLD / "model.safetensors")
    (opened,) = open_sets(OLD / "sets")
    with torch.no_grad():
        logits = model(torch.from_numpy(as_unit(opened.images)))
    fooled = logits.argmax(dim=1).numpy() != opened.labels
    assert (fooled == np.load(opened.path / "source_success.npy")).all()
    assert opened.manifest.source_sha256 == sha256_file(OLD / "model.safetensors")
    assert (card.schema_version, card.ardx_version, card.class_names) == (3, None, None)


def test_an_old_artefact_answers_as_its_old_fingerprint_says() -> None:
    fingerprint = read_fingerprint(fingerprint_path(MODEL), sha256_file(MODEL))
    card = model_card(read_onnx(MODEL).metadata, MODEL)
    assert card is not None
    assert card.parent_sha256 == sha256_file(OLD / "model.safetensors")
    with open_backend("ort", MODEL, 1) as backend:
        found = compare(fingerprint, lambda x: stored_logits(backend, x, card.classes), "fp32")
    assert found.same_class == found.samples == 16
    assert found.largest_difference < found.tolerance


def test_an_old_checkpoint_is_gone_on_from() -> None:
    path = OLD / "checkpoint.safetensors"
    tensors, metadata = read_checkpoint(path)
    config = build_config(dotted(json.loads(metadata["config"])))
    student = build_model(config.architecture, 1, 10, torch.zeros(1), torch.ones(1), (8, 8))
    run = Run(config, student)
    run.restore(path, config)
    assert (run.epochs_done, run.best is not None) == (12, True)
    for name, tensor in student.state_dict().items():
        assert torch.equal(tensor, tensors[f"student/{name}"])


def test_an_old_recipe_says_what_the_card_of_its_weights_says() -> None:
    settings = read_recipe(OLD / "config.toml")
    recipe = dotted(load_model(OLD / "model.safetensors")[1].recipe)
    assert settings["epochs"] == 12
    assert {name: recipe[name] for name in settings} == {
        name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()
    }
    assert build_config(settings).learning_rate == 0.1


def test_an_old_bundle_unpacks_to_what_went_in() -> None:
    with unpacked(OLD / "model.ardx") as found:
        assert found.gate == Gate(min_robust_accuracy=0.01)
        assert sha256_file(found.model) == sha256_file(MODEL)
        assert found.sets is not None
        assert [opened.name for opened in open_sets(found.sets)] == ["fgsm"]


def test_old_conditions_judge_an_old_report() -> None:
    conditions = read_conditions(OLD / "gate.toml", {})
    old = [f.name for f in dataclasses.fields(Gate) if f.name not in GATE_SINCE]
    assert all(getattr(conditions, name) for name in old)
    report = read_json(OLD / "report.json", Report, "a report")
    assert check(report, Gate(min_robust_accuracy=0.1, max_robust_drop=0.01), report) == []


@pytest.mark.parametrize("name", [page.name for page in PAGES])
def test_an_old_value_loads_and_stays_what_it_was(name: str) -> None:
    plain, kind = old_values()[name]
    value = from_json(plain, kind, "here", "it")
    assert value.schema_version == kind.FORMAT.version
    # What was in it is in it still, and once it is written anew it reads as the same.
    assert holds(json.loads(to_json(value)), plain)
    again = from_json(json.loads(to_json(value)), kind, "here", "it")
    assert to_json(again) == to_json(value)


def holds(new: Any, old: Any) -> bool:
    """Has `new` all that `old` has, but for versions?"""
    if isinstance(old, dict):
        return all(holds(new[name], value) for name, value in old.items() if name != KEY)
    if isinstance(old, list):
        return len(new) == len(old) and all(map(holds, new, old))
    return bool(new == old)


# --- newer ones ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [page.name for page in PAGES])
def test_a_newer_value_is_refused_by_its_version_before_its_fields(name: str) -> None:
    plain, kind = old_values()[name]
    newer = kind.FORMAT.version + 1
    plain |= {KEY: newer, WRITER: "9.8.1", "what_only_that_one_knows": 1}
    with pytest.raises(InputError) as caught:
        from_json(plain, kind, "file.json", "it")
    reads = "1" if newer == 2 else f"1 to {newer - 1}"
    assert str(caught.value) == (
        f"file.json: schema version {newer} of {kind.FORMAT.name}, written by ardx 9.8.1, but this "
        f"ardx ({edge_bench.__version__}) reads {reads}; use ardx 9.8.1, or a later one"
    )


def test_a_newer_part_of_a_known_file_is_refused_by_its_own_name() -> None:
    plain = json.loads((OLD / "report.json").read_text())
    plain["artifact"]["card"] |= {KEY: 9, "hue": 1}
    with pytest.raises(InputError, match=r"artifact: card: schema version 9 of a model card, but"):
        from_json(plain, Report, "report.json", "a report")
    plain = json.loads((OLD / "report.json").read_text())
    plain["sets"][0]["manifest"] |= {KEY: 9, "versions": {"ardx": "7.0"}}
    with pytest.raises(InputError, match=r"the manifest of a set, .* use ardx 7\.0, or a later"):
        from_json(plain, Report, "report.json", "a report")


@pytest.mark.parametrize("writer", [5, "", "of\nmine", "9" * 99, None, ["1"]])
def test_a_writer_that_is_no_release_is_not_repeated(writer: object) -> None:
    plain = {KEY: 9, WRITER: writer, "versions": ["ardx"]}
    with pytest.raises(InputError, match=r"but this ardx \(.*\) reads 1; use the ardx that wrote"):
        from_json(plain, Comparison, "file.json", "it")


@pytest.mark.parametrize("file", ["model.safetensors", "checkpoint.safetensors"])
def test_newer_tensors_are_refused_by_name(tmp_path: Path, file: str) -> None:
    tensors, metadata = load_tensors(OLD / file, "tensors")
    newer = {KEY: 9, WRITER: "9.8.1"}
    if CARD_KEY in metadata:
        metadata[CARD_KEY] = json.dumps(json.loads(metadata[CARD_KEY]) | newer)
    else:
        metadata |= {KEY: "9", WRITER: "9.8.1"}
    save_tensors(tmp_path / file, tensors, metadata, force=False)
    read: Callable[[Path], object] = load_model if CARD_KEY in metadata else read_checkpoint
    with pytest.raises(InputError, match=rf"{file}: schema version 9 of a .*; use ardx 9\.8\.1"):
        read(tmp_path / file)


# --- formats ---------------------------------------------------------------------------------


def test_upgrades_run_one_after_the_other_from_the_version_of_the_file() -> None:
    def second(data: dict[str, Any]) -> dict[str, Any]:
        return {KEY: data[KEY], "b": data["a"] + 1}

    def third(data: dict[str, Any]) -> dict[str, Any]:
        return {KEY: data[KEY], "c": data["b"] * 10}

    format_ = Format(
        name="a thing",
        history=(
            Change(ardx="1", what="a"),
            Change(ardx="2", what="b", upgrade=second),
            Change(ardx="3", what="c", upgrade=third),
        ),
    )
    assert format_.version == 3
    assert format_.upgraded({KEY: 1, "a": 1}, "here") == {KEY: 3, "c": 20}
    assert format_.upgraded({KEY: 2, "b": 1}, "here") == {KEY: 3, "c": 10}
    assert format_.upgraded({KEY: 3, "c": 1}, "here") == {KEY: 3, "c": 1}


def versioned_dataclasses() -> set[type[Any]]:
    found: set[type[Any]] = set()
    for package in (ard, edge_bench):
        for info in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if not info.name.endswith("__main__"):
                values = vars(importlib.import_module(info.name)).values()
                found |= {v for v in values if isinstance(v, type) and dataclasses.is_dataclass(v)}
    return {kind for kind in found if KEY in {f.name for f in dataclasses.fields(kind)}}


def test_every_versioned_dataclass_has_its_own_format_and_page() -> None:
    kinds = {page.kind for page in PAGES}
    assert versioned_dataclasses() == kinds
    formats = [kind.FORMAT for kind in kinds] + [CHECKPOINT_FORMAT]
    assert len({format_.name for format_ in formats}) == len(formats)


def test_no_format_comes_from_a_later_ardx_than_this_one() -> None:
    def release(text: str) -> list[int]:
        return [int(part) for part in re.findall(r"\d+", text)[:3]]

    for format_ in [page.kind.FORMAT for page in PAGES] + [CHECKPOINT_FORMAT]:
        releases = [release(change.ardx) for change in format_.history]
        assert releases == sorted(releases)
        assert releases[-1] <= release(edge_bench.__version__)


# --- pages and schemas -----------------------------------------------------------------------


def test_the_pages_of_formats_are_up_to_date() -> None:
    stale = [
        path.name
        for path, text in files().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    assert stale == [], "run python -m tests.tools.format_pages"
    assert set(FORMATS.iterdir()) - {FORMATS / "index.md"} == set(files())


@pytest.mark.parametrize("name", [page.name for page in PAGES])
def test_a_real_file_fits_its_schema_old_and_new_and_a_spoilt_one_does_not(name: str) -> None:
    plain, kind = old_values()[name]
    Draft202012Validator.check_schema(schema(name))
    validator = Draft202012Validator(schema(name))
    validator.validate(plain)
    validator.validate(json.loads(to_json(from_json(plain, kind, "here", "it"))))
    required = schema(name)["required"]
    without = {key: value for key, value in plain.items() if key != required[-1]}
    spoilt = [
        without,
        plain | {"notes": "mine"},
        plain | {KEY: kind.FORMAT.version + 1},
        plain | {required[-1]: 1.5},
    ]
    for value in spoilt:
        assert not validator.is_valid(value)
        with pytest.raises(InputError):
            from_json(value, kind, "here", "it")


def test_conditions_fit_their_schema() -> None:
    validator = Draft202012Validator(schema("gate"))
    asked = asdict(read_conditions(OLD / "gate.toml", {}))
    validator.validate(asked)
    validator.validate(asdict(replace(Gate(**asked), max_energy_mj=None)))
    assert not validator.is_valid(asked | {"min_beauty": 1})
