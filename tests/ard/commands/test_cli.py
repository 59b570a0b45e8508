"""The commands as a user types them."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from PIL import Image

from ard.cli import app
from ard.commands.doctor import examine
from ard.data.splits import Dataset
from ard.models.weight_files import load_model, save_model
from edge_bench.files.store import sha256_file

from ..conftest import SmallModels
from .typed import QUICK_BENCH, RUNNER, ardx, sentence

ARRAYS = ("images", "clean", "labels", "source_success")


def test_two_teachers_distil_with_scalars_for_tensorboard(
    small_models: SmallModels, tmp_path: Path
) -> None:
    weights = small_models.teacher.weights
    quick = ("--dataset", "digits", "--epsilon", "0.15", "--inner-steps", "1", "--epochs", "1")
    student = ("--student", "resnet8:4", "--tensorboard", "--out", tmp_path)
    two = ("--method", "mtard", "--teacher", weights, "--clean-teacher", weights)
    ardx("distill", *quick, *two, *student)
    line = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert line["terms"].keys() == {"kl_adversarial", "kl_clean"}
    assert list((tmp_path / "tensorboard").iterdir())


def test_a_student_is_fine_tuned_quantised_and_exported_as_it_was_trained(
    small_models: SmallModels, tmp_path: Path
) -> None:
    student, teacher = small_models.student.weights, small_models.teacher.weights
    start = ("--init", student, "--teacher", teacher)
    quick = ("--epochs", "1", "--train-fraction", "0.2", "--inner-steps", "1")
    printed = ardx("distill", "--qat", "--target", "arm", *start, *quick, "--out", tmp_path / "q")
    assert "resnet8:8 by ard as INT8 for arm" in printed
    weights = tmp_path / "q" / "student.safetensors"
    # What was not given is as the student was trained, but for how far training moves it.
    _, card = load_model(weights)
    before = small_models.student.config
    assert card.recipe["batch_size"] == before.batch_size
    assert card.recipe["epsilon"] == before.epsilon
    assert card.recipe["learning_rate"] == 0.01
    # Its recipe repeats it, with what it starts from.
    again = ("--config", tmp_path / "q" / "config.toml", "--out", tmp_path / "again")
    ardx("distill", *start, *again)
    assert sha256_file(tmp_path / "again" / "student.safetensors") == sha256_file(weights)
    out = tmp_path / "int8.onnx"
    parity = json.loads(ardx("export", weights, "--int8", "--out", out, "--json"))["parity"]
    assert min(kind["agreement"] for kind in parity) >= 0.999


def test_weights_bring_no_objective_of_another_method(
    small_models: SmallModels, tmp_path: Path
) -> None:
    """Its constants by default would pass for asked for: a teacher knows no temperature of one."""
    teacher = small_models.teacher
    start = ("--init", teacher.weights, "--teacher", teacher.weights)
    quick = ("--epochs", "1", "--train-fraction", "0.1", "--inner-steps", "1")
    ardx("distill", *start, *quick, "--out", tmp_path / "d")
    recipe = load_model(tmp_path / "d" / "student.safetensors")[1].recipe
    assert recipe["batch_size"] == teacher.config.batch_size
    found = recipe["method"], recipe["loss"]["anchor"], recipe["loss"]["teacher_temperature"]
    assert found == ("ard", "igdm", 0.5)


def test_teach_then_distill_write_what_they_say(tmp_path: Path) -> None:
    quick = ("--dataset", "digits", "--epsilon", "0.15", "--inner-steps", "1", "--epochs", "1")
    taught = json.loads(
        ardx(
            "teach",
            *quick,
            "--arch",
            "resnet8:4",
            "--method",
            "trades",
            "--json",
            "--out",
            tmp_path / "teacher",
        )
    )
    assert taught["method"] == "trades"
    assert Path(taught["weights"]).is_file()
    distilled = json.loads(
        ardx(
            "distill",
            *quick,
            "--teacher",
            taught["weights"],
            "--student",
            "resnet8:4",
            "--method",
            "ard",
            "--agreement",
            "spearman",
            "--anchor",
            "ce",
            "--json",
            "--out",
            tmp_path / "student",
        )
    )
    names = {p.name for p in (tmp_path / "student").iterdir()}
    files = {"student.safetensors", "config.toml", "metrics.jsonl", "checkpoint.safetensors"}
    assert names == files
    assert 0 <= distilled["validation"]["robust_accuracy"] <= 1
    again = sentence(
        "distill",
        *quick,
        "--teacher",
        taught["weights"],
        "--student",
        "resnet8:4",
        "--out",
        tmp_path / "student",
    )
    assert "--force" in again


def test_evaluate_prints_ordered_accuracies_and_writes_masks(
    small_models: SmallModels, tmp_path: Path
) -> None:
    arguments = (
        "evaluate",
        small_models.student.weights,
        "--attacks",
        "clean,fgsm,pgd3,cw3",
        "--limit",
        "80",
        "--out",
        tmp_path / "e.json",
    )
    found = json.loads(ardx(*arguments, "--json"))
    accuracy = found["accuracy"]
    assert list(accuracy) == ["clean", "fgsm", "pgd3", "cw3", "worst case"]
    assert accuracy["worst case"] <= min(accuracy.values())
    assert found["epsilon"] == 0.15
    masks = json.loads((tmp_path / "e.json").read_text())["masks"]
    assert {name: mask.count("1") / 80 for name, mask in masks.items()} == accuracy
    assert "pgd3" in ardx(*arguments, "--force")


def test_the_chain_from_export_to_gate(shipped: Path) -> None:
    report = json.loads((shipped / "report.json").read_text())
    assert report["artifact"]["card"]["precision"] == "fp32"
    assert {s["relation"] for s in report["sets"]} == {"its parent"}
    passed = ("gate", shipped / "report.json", "--min-robust-accuracy", "0.01")
    assert "gate: passed" in ardx(*passed, "--max-latency-p95-ms", "1000")
    failed = ardx("gate", shipped / "report.json", "--min-robust-accuracy", "0.99", code=1)
    assert "worst-case robust accuracy is" in failed
    assert "gate: failed" in failed


def test_an_int8_report_compares_with_the_fp32_baseline(shipped: Path, tmp_path: Path) -> None:
    result = RUNNER.invoke(
        app,
        [
            "bench",
            str(shipped / "student-int8.onnx"),
            "--sets",
            str(shipped / "sets"),
            "--out",
            str(tmp_path / "int8.json"),
            *QUICK_BENCH,
        ],
    )
    assert result.exit_code == 0
    assert "upper bound" in result.stderr
    gate = ("gate", tmp_path / "int8.json", "--baseline", shipped / "report.json")
    assert "passed" in ardx(*gate, "--max-robust-drop", "0.2")


def test_a_set_crafted_on_another_model_is_called_so(
    small_models: SmallModels, shipped: Path, tmp_path: Path
) -> None:
    ardx("attack", small_models.teacher.weights, "--attack", "fgsm", "--out", tmp_path / "fgsm")
    out = ardx(
        "bench",
        shipped / "student.onnx",
        "--sets",
        tmp_path / "fgsm",
        *QUICK_BENCH,
        "--out",
        tmp_path / "r.json",
    )
    assert "crafted on another model" in out


def test_pictures_of_a_folder_are_attacked(small_models: SmallModels, tmp_path: Path) -> None:
    for label in range(10):
        (tmp_path / "pictures" / str(label)).mkdir(parents=True)
        for number in range(2):
            levels = np.random.default_rng([label, number]).integers(0, 256, (9, 9))
            picture = Image.fromarray(levels.astype(np.uint8))
            picture.save(tmp_path / "pictures" / str(label) / f"{number}.png")
    weights, out = small_models.student.weights, tmp_path / "s"
    pictures = ("--images", tmp_path / "pictures", "--attack", "fgsm", "--out", out)
    assert "9x9 pixels, but the model reads 8x8" in sentence("attack", weights, *pictures)
    assert not list(tmp_path.glob(".*"))
    told = json.loads(ardx("attack", weights, *pictures, "--image-size", "8", "--json"))
    assert told["samples"] == 20
    assert np.load(out / "labels.npy").tolist() == [label for label in range(10) for _ in "ab"]
    clash = sentence("attack", weights, *pictures, "--dataset", "digits", "--force")
    assert "leave --dataset out" in clash


def test_pictures_are_of_the_models_classes_by_their_folders_names(
    small_models: SmallModels, shipped: Path, digits: Dataset, tmp_path: Path
) -> None:
    """A model of words, and folders of some of them, in another order than its own."""
    words = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    model, card = load_model(small_models.student.weights)
    weights = tmp_path / "words.safetensors"
    save_model(weights, model, replace(card, class_names=words), False)
    for label in (7, 2, 9):
        (tmp_path / "p" / words[label] / ".ipynb_checkpoints").mkdir(parents=True)
        for number, image in enumerate(digits.test.images[digits.test.labels == label][:10]):
            path = tmp_path / "p" / words[label] / f"{number}.png"
            Image.fromarray(image[0].numpy()).save(path)
    command = ("attack", weights, "--images", tmp_path / "p", "--attack", "fgsm")
    crafted = (*command, "--epsilon", "1/255", "--out", tmp_path / "s")
    result = RUNNER.invoke(app, [str(each) for each in (*crafted, "--json")])
    assert "skipped: 3 hidden and system files" in result.stderr.splitlines()
    # Under one step of the grid most of 30 are right, by how the processor rounded three epochs of
    # training (25 of them, or 23 with AVX2); under labels by place, none would be.
    assert json.loads(result.stdout)["source_accuracy"] > 0.5
    assert set(np.load(tmp_path / "s" / "labels.npy").tolist()) == {2, 7, 9}
    manifest = json.loads((tmp_path / "s" / "manifest.json").read_text())
    assert manifest["class_names"] == list(words)
    ardx("export", weights, "--out", tmp_path / "words.onnx")
    metadata = {p.key: p.value for p in onnx.load(tmp_path / "words.onnx").metadata_props}
    assert json.loads(metadata["ardx_card"])["class_names"] == list(words)
    bench = ("--sets", tmp_path / "s", "--device", "local", "--backend", "ort", *QUICK_BENCH)
    ardx("bench", tmp_path / "words.onnx", *bench, "--out", tmp_path / "r.json")
    told = sentence("bench", shipped / "student.onnx", *bench, "--out", tmp_path / "n.json")
    assert "classes of other names: 'zero', 'one'" in told
    (tmp_path / "p" / "nine").rename(tmp_path / "p" / "neuf")
    told = sentence(*command, "--out", tmp_path / "t")
    assert "class 'neuf' is none of the model's; found 'neuf', 'seven', 'two', expected" in told
    assert not (tmp_path / "t").exists()


def test_a_set_of_another_library_is_imported_and_replayed(
    small_models: SmallModels, shipped: Path, tmp_path: Path
) -> None:
    arrays = {name: np.load(shipped / "sets" / "pgd3" / f"{name}.npy") for name in ARRAYS}
    theirs = {"x_adv": arrays["images"] / np.float32(255), "x": arrays["clean"]}
    np.savez_compressed(tmp_path / "theirs.npz", labels=arrays["labels"], **theirs)
    weights, out = small_models.student.weights, tmp_path / "sets" / "theirs"
    imported = ("attack", weights, "--import", tmp_path / "theirs.npz", "--out", out)
    assert "x_adv" in sentence(*imported)
    keys = ("--import-key", "images=x_adv,clean=x")
    beyond = sentence(*imported, *keys, "--epsilon", "1/255")
    assert "--epsilon 0.0039" in beyond
    for option in ("--limit", "--image-size", "--images", "--step-size"):
        assert f"leave {option} out" in sentence(*imported, *keys, option, "3")
    assert not out.exists()
    said = ardx(*imported, *keys, "--attack", "their attack")
    assert "their attack, L-inf 0.15" in said
    assert json.loads((out / "manifest.json").read_text())["threat"] == "imported"
    for name, array in arrays.items():
        assert np.array_equal(np.load(out / f"{name}.npy"), array)
    bench = ("bench", shipped / "student.onnx", "--sets", out.parent, *QUICK_BENCH)
    assert "theirs" in ardx(*bench, "--out", tmp_path / "r.json")


def test_doctor_names_every_capability_and_its_mend() -> None:
    findings = {finding.capability.strip(): finding for finding in examine()}
    assert findings["bench --backend ort"].found
    assert "doctor" in ardx("--help")
    told = json.loads(ardx("doctor", "--json"))
    assert {name.strip() for name in told} == set(findings)


def test_doctor_finds_what_is_there_but_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(ModuleType):
        def __getattr__(self, name: str) -> object:
            raise OSError("libcurand.so.10: cannot open shared object file")

    for name in ("torch", "onnx", "deploy.quantization.targets"):
        monkeypatch.setitem(sys.modules, name, Broken(name))
    findings = {finding.capability.strip(): finding for finding in examine()}
    assert findings["training on a GPU: CUDA"].mend == "install torch first"
    assert findings["export --int8 --target auto"].mend == "name a --target"
    assert findings["bench --backend ort"].found


@pytest.mark.parametrize("name", [command.name for command in app.registered_commands])
def test_every_command_shows_an_example_in_its_help(name: str) -> None:
    assert f"Example: ardx {name}" in ardx(name, "--help")


def test_the_version_is_printed() -> None:
    from edge_bench import __version__

    assert ardx("--version") == f"ardx {__version__}\n"
