"""A whole evaluation: order, worst case, going on after an interruption, artefacts by command."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn
from typer.testing import CliRunner

from ard.attacks.registry import ATTACKS, parse_attack
from ard.attacks.run import run_attack
from ard.attacks.victims import weights_victim
from ard.cli import app
from ard.data.splits import Dataset, take_limit
from ard.evaluation.accuracy import evaluate_all, evaluate_attack
from ard.evaluation.ledger import Ledger
from ard.evaluation.run import Evaluation, as_json
from ard.models.weight_files import load_model
from edge_bench.core.errors import InputError
from edge_bench.files.sets import open_sets
from edge_bench.options.bench import BenchOptions
from edge_bench.runs.one_run import run as run_bench
from edge_bench.statistics.metrics import BoolArray, decode_mask, worst_case_mask

from ..conftest import EPSILON, FirstClasses, SmallModels


def ardx(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def test_one_after_another_comes_to_the_worst_case_of_each_alone(
    small_models: SmallModels, digits: Dataset
) -> None:
    model, _ = load_model(small_models.student.weights)
    split = take_limit(digits.test, 100)
    specs = [parse_attack(name, epsilon=EPSILON) for name in ("fgsm", "pgd10", "cw10")]
    alone = evaluate_all(model, split, specs, each=True)
    cascade = evaluate_all(model, split, specs)
    assert list(cascade) == ["clean", "fgsm", "pgd10", "cw10", "worst case"]
    assert cascade["fgsm"].mean() >= cascade["pgd10"].mean() >= cascade["cw10"].mean()
    assert np.array_equal(cascade["cw10"], cascade["worst case"])
    everything = alone["clean"] & alone["fgsm"] & alone["pgd10"] & alone["cw10"]
    assert np.array_equal(alone["worst case"], everything)
    # The batches of what is left differ, and with them random starts: a sample may turn.
    assert np.mean(cascade["worst case"] != alone["worst case"]) <= 0.1
    assert abs(cascade["worst case"].mean() - alone["worst case"].mean()) <= 0.05
    assert np.array_equal(cascade["fgsm"], alone["fgsm"])


def test_the_ensemble_shows_its_parts_and_ends_where_they_do(
    dense: nn.Module, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ATTACKS, "square", replace(ATTACKS["square"], steps=20))
    split = digits.test.at((digits.test.labels < 4).nonzero().squeeze(1)[:20])
    spec = parse_attack("autoattack", epsilon=EPSILON)
    found = evaluate_all(FirstClasses(dense).eval(), split, [spec])
    assert list(found) == [
        "clean",
        "autoattack: apgd_ce",
        "autoattack: apgd_t",
        "autoattack: fab_t",
        "autoattack: square20",
        "autoattack",
        "worst case",
    ]
    left = [mask for name, mask in found.items() if name != "worst case"]
    assert not any((later & ~earlier).any() for earlier, later in pairwise(left))
    assert np.array_equal(found["autoattack"], found["autoattack: square20"])
    assert np.array_equal(found["autoattack"], found["worst case"])


def evaluation(models: SmallModels, digits: Dataset, *names: str, seed: int = 0) -> Evaluation:
    return Evaluation(
        victim=weights_victim(models.student.weights),
        split=take_limit(digits.test, 40),
        dataset=digits.name,
        specs=[parse_attack(name, epsilon=EPSILON, seed=seed) for name in names],
    )


def test_an_interrupted_evaluation_goes_on_after_its_last_whole_attack(
    small_models: SmallModels, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluation(small_models, digits, "fgsm", "pgd5", "cw5").run(doubting=False)
    ran: list[str] = []

    def until_cw(model: Any, images: Any, labels: Any, spec: Any, batch: int, **more: Any) -> Any:
        ran.append(spec.name)
        if spec.name == "cw" and ran.count("cw") == 1:
            raise KeyboardInterrupt
        return run_attack(model, images, labels, spec, batch, **more)

    monkeypatch.setattr("ard.evaluation.accuracy.run_attack", until_cw)
    asked = evaluation(small_models, digits, "fgsm", "pgd5", "cw5")
    ledger = Ledger(tmp_path / "e.json", asked.asked())
    with pytest.raises(KeyboardInterrupt):
        asked.run(ledger, doubting=False)
    assert ran == ["fgsm", "pgd", "cw"]
    again = Ledger(tmp_path / "e.json", asked.asked())
    assert list(again.masks) == ["clean", "fgsm", "pgd5"]
    found = asked.run(again, doubting=False)
    assert ran == ["fgsm", "pgd", "cw", "cw"]
    assert {k: v.tolist() for k, v in found.masks.items()} == {
        k: v.tolist() for k, v in whole.masks.items()
    }
    again.close()
    assert list(tmp_path.iterdir()) == []


def test_what_was_found_for_another_question_is_not_taken_over(
    small_models: SmallModels, digits: Dataset, tmp_path: Path
) -> None:
    first = evaluation(small_models, digits, "fgsm")
    mask: BoolArray = np.zeros(40, dtype=np.bool_)
    Ledger(tmp_path / "e.json", first.asked()).add("clean", mask)
    assert list(Ledger(tmp_path / "e.json", first.asked()).masks) == ["clean"]
    for other in (
        evaluation(small_models, digits, "fgsm", seed=1),
        evaluation(small_models, digits, "fgsm", "pgd5"),
        replace(first, each=True),
    ):
        assert Ledger(tmp_path / "e.json", other.asked()).masks == {}
    unfinished = tmp_path / ".e.unfinished.json"
    kept = unfinished.read_bytes()
    for place in range(len(kept)):
        flipped = bytearray(kept)
        flipped[place] ^= 1
        unfinished.write_bytes(flipped)
        for name, found in Ledger(tmp_path / "e.json", first.asked()).masks.items():
            assert name == "clean"
            assert np.array_equal(found, mask)
    (tmp_path / ".e.unfinished.json").write_text("[1", encoding="utf-8")
    assert Ledger(tmp_path / "e.json", first.asked()).masks == {}


def test_the_worst_case_lists_what_went_into_it(small_models: SmallModels, digits: Dataset) -> None:
    asked = evaluation(small_models, digits, "fgsm", "pgd3")
    summary = as_json(asked, asked.run(doubting=False))
    assert summary["worst_case_of"] == ["clean", "fgsm", "pgd3"]
    assert summary["threat"] == "white-box"
    assert summary["accuracy"]["worst case"] == min(summary["accuracy"].values())


def test_an_artefact_is_evaluated_through_its_runtime_along_its_parents_gradients(
    small_models: SmallModels, small_int8: Path, tmp_path: Path, brief_doubts: None
) -> None:
    out = tmp_path / "e.json"
    code, stdout, stderr = ardx(
        *("evaluate", small_int8, "--parent", small_models.student.weights, "--limit", 60),
        *("--attacks", "clean,pgd5,square30", "--out", out),
    )
    assert code == 0, stderr
    assert "bpda through ort" in stdout
    written = json.loads(out.read_text(encoding="utf-8"))
    assert written["threat"] == "bpda"
    assert written["surrogate_sha256"] == small_models.student.sha256
    assert written["versions"]["pyautoattack"]
    masks = {name: decode_mask(mask) for name, mask in written["masks"].items()}
    assert masks["clean"].sum() > masks["pgd5"].sum() >= masks["square30"].sum()
    assert np.array_equal(masks["worst case"], masks["square30"])
    assert [p.name for p in tmp_path.iterdir()] == ["e.json"]


def test_an_artefact_alone_is_asked_for_scores(small_int8: Path) -> None:
    code, stdout, _ = ardx(
        "evaluate", small_int8, "--attacks", "square20", "--limit", 20, "--no-doubts", "--json"
    )
    assert code == 0
    assert json.loads(stdout)["threat"] == "black-box"


def test_what_an_evaluation_found_is_kept_as_sets_that_replay_to_its_masks(
    small_models: SmallModels, small_fp32: Path, digits: Dataset, tmp_path: Path
) -> None:
    asked = replace(evaluation(small_models, digits, "pgd5", "cw5"), sets=tmp_path / "sets")
    result = asked.run(doubting=False)
    kept = open_sets(tmp_path / "sets")
    assert [(s.name, s.manifest.attacked, s.manifest.on_grid) for s in kept] == [
        ("cw5", "survivors", False),
        ("pgd5", "survivors", False),
    ]
    for found in kept:
        # On what was broken before it an attack ends with the clean image.
        assert np.array_equal(~found.source_success & result.masks["clean"], ~found.source_success)
    options = BenchOptions(settle_seconds=0, threads=1, min_runs=1, min_seconds=0, warmup_runs=0)
    worst = worst_case_mask(run_bench(small_fp32, kept, options))
    assert worst is not None
    assert np.array_equal(decode_mask(worst), result.masks["worst case"])


def test_an_evaluation_warns_of_other_sets_in_its_folder_and_leaves_them(
    small_models: SmallModels, tmp_path: Path
) -> None:
    """Whoever crafted them: a replay takes every set of a folder."""
    folder = tmp_path / "sets"
    quick = ("--limit", 10, "--no-doubts", "--sets", folder, "--force")
    common = ("evaluate", small_models.student.weights, *quick)
    assert "other sets" not in ardx(*common, "--attacks", "pgd2,fgsm")[2]
    (folder / "notes").mkdir()
    (folder / "notes" / "manifest.txt").write_text("mine")
    code, _, stderr = ardx(*common, "--attacks", "pgd2", "--epsilon", 0.05)
    assert code == 0
    assert f"warning: {folder}: holds other sets (fgsm), and bench replays every set" in stderr
    assert sorted(path.name for path in folder.iterdir()) == ["fgsm", "notes", "pgd2"]


def test_an_attack_whose_set_is_gone_is_run_again(
    small_models: SmallModels, digits: Dataset, tmp_path: Path
) -> None:
    sets = tmp_path / "sets"
    asked = replace(evaluation(small_models, digits, "fgsm", "pgd5"), sets=sets)
    whole = asked.run(Ledger(tmp_path / "e.json", asked.asked()), doubting=False)
    before = {path: path.read_bytes() for path in sets.rglob("*.npy")}
    shutil.rmtree(sets / "fgsm")
    again = asked.run(Ledger(tmp_path / "e.json", asked.asked()), doubting=False)
    assert {path: path.read_bytes() for path in sets.rglob("*.npy")} == before
    assert all(np.array_equal(again.masks[name], mask) for name, mask in whole.masks.items())


def test_a_budget_of_l2_is_told_without_levels(small_models: SmallModels) -> None:
    l2 = ("--norm", "l2", "--epsilon", 2, "--attacks", "fgsm", "--limit", 5, "--no-doubts")
    code, stdout, _ = ardx("evaluate", small_models.student.weights, *l2)
    assert code == 0
    assert "L2 2" in stdout
    assert "510/255" not in stdout


def test_doubts_are_printed_with_their_remedy(
    small_models: SmallModels, brief_doubts: None
) -> None:
    weak = ("--attacks", "pgd1", "--step-size", "0.001", "--limit", 60)
    code, stdout, stderr = ardx("evaluate", small_models.student.weights, *weak, "--json")
    assert code == 0
    assert "warning: 4 steps from two new starts" in stderr
    assert json.loads(stdout)["doubts"][0]["name"] == "not converged"
    _, _, stderr = ardx("evaluate", small_models.student.weights, *weak, "--no-doubts")
    assert "warning" not in stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--norm", "l1"), "--norm l1: expected linf or l2"),
        (("--norm", "l2"), "--norm l2: no budget of training is in this norm; give --epsilon"),
        (("--target-class", "12", "--attacks", "pgd2"), "expected a class from 0 to 9"),
        (("--target-class", "cat", "--attacks", "pgd2"), "expected a class number or least_likely"),
        (("--target-class", "1", "--attacks", "apgd_ce"), "apgd_ce cannot aim"),
        (("--parent", "x.safetensors"), "leave --parent out"),
    ],
)
def test_what_cannot_be_evaluated_is_a_sentence(
    small_models: SmallModels, arguments: tuple[str, ...], words: str
) -> None:
    code, _, stderr = ardx("evaluate", small_models.student.weights, "--limit", 20, *arguments)
    assert code == 2
    assert words in stderr
    assert len(stderr.strip().splitlines()[-1].split("error: ")) == 2


def test_the_l2_norm_is_told_in_the_title(small_models: SmallModels) -> None:
    code, stdout, _ = ardx(
        *("evaluate", small_models.student.weights, "--norm", "l2", "--epsilon", "1.5"),
        *("--attacks", "pgd5", "--limit", 40, "--no-doubts"),
    )
    assert code == 0
    assert "L2 1.5" in stdout


def test_crafting_by_command_for_every_threat(
    small_models: SmallModels, small_int8: Path, tmp_path: Path
) -> None:
    student, teacher = small_models.student.weights, small_models.teacher.weights
    common = ("--limit", 20, "--json", "--out")
    cases: dict[str, tuple[object, ...]] = {
        "bpda": (small_int8, "--parent", student, "--attack", "pgd3"),
        "black-box": (small_int8, "--threat", "blackbox", "--attack", "square20"),
        "transfer": (small_int8, "--threat", "transfer", "--from", teacher, "--attack", "pgd3"),
        "white-box": (student, "--attack", "pgd3", "--norm", "l2", "--epsilon", "1.0"),
    }
    for threat, arguments in cases.items():
        code, stdout, stderr = ardx("attack", *arguments, *common, tmp_path / threat)
        assert code == 0, stderr
        assert json.loads(stdout)["threat"] == threat
        if threat == "transfer":
            assert "student-int8.onnx keeps" in stderr
    code, _, stderr = ardx(
        "attack", small_int8, "--threat", "blackbox", "--attack", "pgd3", "--out", tmp_path / "x"
    )
    assert code == 2
    assert "expected squareN in linf for --threat blackbox" in stderr
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", ["pgd10", "apgd_ce", "apgd_t", "fab_t", "square60"])
def test_a_long_attack_on_one_batch_tells_how_far_it_is(
    name: str, dense: nn.Module, digits: Dataset
) -> None:
    told: list[tuple[int, int]] = []
    spec = parse_attack(name, epsilon=0.05)
    evaluate_attack(
        dense,
        take_limit(digits.test, 40),
        spec,
        report_progress=lambda done, total, text: told.append((done, total)),
    )
    begun = [done for done, _ in told]
    assert begun == sorted(begun)
    assert told[-1] == (40, 40)
    # Not all at once at the end: about half of the calls find it about half done.
    assert len(set(begun)) > 8
    assert 0.2 < begun[len(begun) // 2] / 40 < 0.8


def test_too_few_classes_for_the_ensemble_are_said_before_anything_runs(
    small_models: SmallModels, digits: Dataset
) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    specs = [parse_attack(name, epsilon=EPSILON) for name in ("pgd5", "autoattack")]
    told: list[str] = []
    with pytest.raises(InputError, match="autoattack: needs 4 classes or more"):
        evaluate_all(model, digits.test, specs, finished=lambda name, mask: told.append(name))
    assert told == []
