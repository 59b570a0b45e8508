"""What replay overstates: a resumable runner of every threat, and tables from its lines alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from numpy.typing import NDArray
from scipy.stats import binomtest
from torch import Tensor, nn
from typer.testing import CliRunner

from ard.attacks.attempt import margin
from ard.attacks.victims import open_victim, weights_victim
from ard.data.datasets import load_dataset
from ard.learning.config import TrainConfig
from ard.learning.learn import learn
from benchmarks.documents import filled
from benchmarks.int8_threats import report, run
from benchmarks.lines import RESULTS, ROOT, finished, pack, unpack
from edge_bench.backends import open_backend
from edge_bench.files.sets import open_set
from edge_bench.options.bench import BenchOptions
from edge_bench.robustness.replay import correct_mask

IMAGES = 40
EPSILON = 0.1


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = TrainConfig(
        dataset="digits",
        architecture="resnet8:4",
        method="pgd_at",
        epsilon=EPSILON,
        step_size=EPSILON / 2,
        inner_steps=1,
        epochs=3,
        learning_rate=0.2,
        ema_decay=0.9,
    )
    weights = tmp_path_factory.mktemp("student") / "student.safetensors"
    digits = load_dataset("digits", Path("unused"))
    return learn(config, digits, None, weights).weights


@pytest.fixture(scope="module")
def outcome(student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the lines and the files of one small run, by short attacks."""
    folder = tmp_path_factory.mktemp("threats")
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch)
        launch(student, folder)
    return folder


def shorten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(run, "ARTEFACTS", {"fp32": None, "x86": "x86"})
    patch.setattr(run, "ATTACKS", ("pgd2", "apgd_ce"))
    patch.setattr(run, "MORE", ("pgd3",))


def launch(student: Path, folder: Path, *more: str) -> None:
    app = typer.Typer()
    app.command()(run.main)
    where = ["--work", str(folder / "work"), "--lines", str(folder / "lines.jsonl")]
    asked = ["--limit", str(IMAGES), "--queries", "30", "--data-dir", str(folder)]
    result = CliRunner().invoke(app, [str(student), *where, *asked, *more])
    assert result.exit_code == 0, result.output


def by_name(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    texts = (folder / "lines.jsonl").read_text(encoding="utf-8").splitlines()
    return {(line["artefact"], line["label"]): line for line in map(json.loads, texts)}


def test_every_artefact_gets_every_threat_once(outcome: Path) -> None:
    own = ["clean", "replay pgd2", "replay apgd_ce", "replay strongest"]
    own += ["bpda pgd2", "bpda apgd_ce", "bpda pgd3", *run.SQUARES]
    expected = {(name, label) for name in ("fp32", "x86") for label in own}
    expected |= {("fp32", "transfer x86"), ("x86", "transfer fp32")}
    assert set(by_name(outcome)) == expected
    assert len((outcome / "lines.jsonl").read_text().splitlines()) == len(expected)


def test_a_second_run_finds_nothing_to_do(
    student: Path, outcome: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten(monkeypatch)
    before = (outcome / "lines.jsonl").read_bytes()
    launch(student, outcome)
    assert (outcome / "lines.jsonl").read_bytes() == before


def test_other_queries_are_another_run_of_square_alone(
    student: Path, outcome: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten(monkeypatch)
    bench = run.opened(student, outcome / "work", outcome, IMAGES, 31)
    with open_victim(outcome / "work/fp32.onnx", parent=student, threads=1) as victim:
        lines = finished(outcome / "lines.jsonl")
        for job in run.jobs():
            if job.label != "transfer fp32":
                known = f"fp32 {job.label} {run.digest(bench, job, victim)}" in lines
                assert known == (job.threat != "black-box")


def test_an_attack_waits_for_the_lines_that_it_goes_on_from(tmp_path: Path) -> None:
    lines = tmp_path / "lines.jsonl"
    more = run.Job(threat="bpda", attack=run.MORE[0])
    assert run.is_ready(run.Job(threat="clean", attack="clean"), "x86", lines)
    assert not run.is_ready(more, "x86", lines)
    labels = ["clean", *(f"bpda {attack}" for attack in run.ATTACKS)]
    lines.write_text("".join(json.dumps({"id": f"x86 {label} 0a"}) + "\n" for label in labels))
    assert run.is_ready(more, "x86", lines)
    assert not run.is_ready(more, "arm", lines)
    assert not run.is_ready(run.Job(threat="transfer", attack="x86"), "fp32", lines)


def test_masks_are_what_the_bench_finds_on_the_images_that_were_kept(
    student: Path, outcome: Path
) -> None:
    bench = run.opened(student, outcome / "work", outcome, IMAGES, 30)
    lines, levels = by_name(outcome), bench.split.images.numpy().astype(int)
    path = outcome / "work/x86.onnx"
    with open_victim(path, parent=student, threads=1) as victim, open_backend("ort", path, 1) as b:
        clean = unpack(lines["x86", "clean"], "grid")
        for attack in ("pgd2", "apgd_ce", "pgd3"):
            images = np.load(run.attacked_images(bench, victim, attack))
            assert abs(images - levels).max() <= int(EPSILON * 255)
            labels = bench.split.labels.numpy()
            kept = correct_mask(b, images, labels, 10, BenchOptions(), "the images") & clean
            assert (kept == unpack(lines["x86", f"bpda {attack}"], "grid")).all()
        assert unpack(lines["x86", "bpda apgd_ce"], "grid").sum() < clean.sum()


def test_replay_on_the_fp32_artefact_finds_what_crafting_found_on_the_weights(
    outcome: Path,
) -> None:
    for attack in ("pgd2", "apgd_ce"):
        line = by_name(outcome)["fp32", f"replay {attack}"]
        fooled = open_set(outcome / f"work/sets/{attack}-{IMAGES}").source_success
        # One image may lie so near the boundary that another order of sums turns it round.
        assert (unpack(line, "float") == fooled).sum() <= 1
        assert line["spec"]["seed"] == run.SEED_OF_SETS


def test_attacks_on_artefacts_draw_other_numbers_than_the_sets(outcome: Path) -> None:
    seeds = {line["spec"]["seed"] for line in by_name(outcome).values() if line["threat"] == "bpda"}
    assert seeds == {run.SEED_OF_ATTACKS}
    assert run.SEED_OF_ATTACKS != run.SEED_OF_SETS


def test_more_steps_attack_only_what_the_others_left(outcome: Path) -> None:
    lines = by_name(outcome)
    left = unpack(lines["x86", "bpda pgd2"], "grid") & unpack(lines["x86", "bpda apgd_ce"], "grid")
    assert lines["x86", "bpda pgd3"]["attacked"] == left.sum()
    assert lines["x86", "bpda pgd2"]["attacked"] == unpack(lines["x86", "clean"], "grid").sum()


def test_square_keeps_to_its_budget_and_breaks_only_what_was_right(outcome: Path) -> None:
    line = by_name(outcome)["x86", "square"]
    clean = unpack(by_name(outcome)["x86", "clean"], "grid")
    kept = unpack(line, "grid")
    assert not (kept & ~clean).any()
    assert line["attacked"] == clean.sum()
    assert 30 * kept.sum() <= line["queries"]["all"] <= 30 * clean.sum()


def test_the_strongest_set_has_the_largest_margin_of_all_sets(
    student: Path, outcome: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten(monkeypatch)
    bench = run.opened(student, outcome / "work", outcome, IMAGES, 30)
    module, labels = weights_victim(student).module, bench.split.labels

    def margins(images: Tensor) -> Tensor:
        return margin(run.logits(module, run.on_grid(bench, images)), labels)

    each = torch.stack([margins(run.crafted(bench, attack)[0]) for attack in run.ATTACKS])
    assert torch.allclose(margins(run.strongest(bench)), each.amax(dim=0), atol=1e-5)


def test_rounding_in_the_loop_gives_the_levels_logits_and_passes_gradients() -> None:
    images = torch.rand(2, 1, 3, 3, requires_grad=True)
    module = run.OnGrid(nn.Flatten())
    logits = module(images)
    assert torch.allclose(logits * 255, (logits * 255).round(), atol=1e-4)
    (gradient,) = torch.autograd.grad(logits.sum(), images)
    assert torch.equal(gradient, torch.ones_like(images))


def bootstrapped(values: NDArray[np.int64]) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    means = rng.choice(values, (20_000, len(values))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975], method="inverted_cdf")
    return float(low), float(high)


@pytest.mark.parametrize("counts", [{1: 12, -1: 5}, {1: 3}, {2: 1, 1: 9, -1: 9}, {-2: 4, -1: 1}])
def test_the_bootstrap_interval_is_the_one_that_drawing_finds(counts: dict[int, int]) -> None:
    values = np.zeros(300, dtype=np.int64)
    values[: sum(counts.values())] = [v for v, count in counts.items() for _ in range(count)]
    found, drawn = report.bootstrap_interval(values), bootstrapped(values)
    assert found == pytest.approx(drawn, abs=1.01 / 300)


def test_without_any_difference_the_interval_is_that_of_a_count_of_zero() -> None:
    most = binomtest(0, 1000).proportion_ci(0.95, method="exact").high
    found = report.bootstrap_interval(np.zeros(1000, dtype=np.int64))
    assert found == pytest.approx((-most, most))
    assert report.loss(np.zeros(1000, dtype=np.int64)) == "0.0 (0.0 to 0.4)"


def lines_of(masks: dict[str, dict[str, NDArray[np.bool_]]]) -> list[dict[str, Any]]:
    """Lines of made-up masks, by artefact and label; whatever is not given is all right."""
    found = []
    for name in run.ARTEFACTS:
        given = masks.get(name, {})
        labels = ["clean", *report.REPLAYS, "replay strongest", *report.BPDA, *report.BPDA_MORE]
        labels += [label for label in report.TRANSFERS if label != f"transfer {name}"]
        for label in [*labels, *run.SQUARES]:
            mask = given.get(label, np.ones(200, dtype=np.bool_))
            found.append(
                {
                    "artefact": name,
                    "label": label,
                    "threat": label.split()[0],
                    "images": 200,
                    "bytes": 2048,
                    "attacked": 200,
                    "spec": {"steps": 1000},
                    "queries": {
                        "all": 9000,
                        "median to break one": None,
                        "most to break one": 0,
                    },
                    "masks": {kind: pack(mask) for kind in ("grid", "float")},
                }
            )
    return found


def kept(count: int) -> NDArray[np.bool_]:
    return np.arange(200) < count


def test_the_overstatement_is_replay_minus_worst_case_beside_its_control() -> None:
    masks = {
        "fp32": {"replay pgd20": kept(100), "bpda pgd20": kept(98)},
        "x86": {"replay pgd20": kept(104), "bpda pgd20": kept(96), "square": kept(90)},
    }
    rows = report.overstatement_table(lines_of(masks))
    assert rows[0][2:4] == ["fp32", "x86"]
    all_four = next(r for r in rows if r[:2] == ["replay, all four", "**worst case**"])
    assert all_four[2].startswith("1.0 (")
    assert all_four[3].startswith("7.0 (")
    assert all_four[6].startswith("+6.0 (")
    bpda = next(r for r in rows if r[:2] == ["replay, all four", "BPDA, the same four"])
    assert bpda[3].startswith("+4.0 (")
    exact = binomtest(14, 200).proportion_ci(0.95, method="exact")
    assert all_four[3] == f"7.0 ({100 * exact.low:.1f} to {100 * exact.high:.1f})"


def test_what_an_attack_alone_breaks_is_counted_against_all_others() -> None:
    rows = report.found_table(lines_of({"arm": {"square": kept(190), "bpda cw100": kept(193)}}))
    cells = {row[0]: row[-1] for row in rows}
    assert rows[0][-1] == "arm"
    assert cells["broken by Square alone"] == "3"
    assert cells["broken by BPDA alone"] == "0"


def test_an_artefact_above_its_parent_is_told_by_both_counts() -> None:
    worse = kept(150)
    worse[190:] = True
    rows = report.parents_table(lines_of({"fp32": {"square": worse}, "x86": {"square": kept(170)}}))
    square = next(row for row in rows if row[0] == "Square")
    assert square[1].startswith("+20 -10: +5.0 (")


def test_lines_of_two_models_are_refused(tmp_path: Path) -> None:
    base = {"images_sha256": "1", "epsilon": 0.1, "artefact": "x86"}
    texts = [json.dumps(base | {"parent_sha256": str(i), "label": str(i)}) for i in range(2)]
    (tmp_path / "lines.jsonl").write_text("\n".join(texts))
    with pytest.raises(ValueError, match="of one model"):
        report.read(tmp_path / "lines.jsonl")


def test_tables_fill_only_their_places() -> None:
    for name in report.TABLES:
        text = f"a\n<!-- table {name} -->\nold\n<!-- end -->\nb\n"
        made = filled(text, report.maker(lines_of({})))
        assert made.startswith(f"a\n<!-- table {name} -->\n| ")
        assert made.endswith("<!-- end -->\nb\n")
        assert "old" not in made


def test_the_published_tables_are_what_the_lines_say() -> None:
    text = (RESULTS / "int8_threats.md").read_text(encoding="utf-8")
    assert filled(text, report.maker(report.read(run.LINES))) == text


def test_the_page_on_threats_quotes_the_headline() -> None:
    page = ROOT / "docs" / "explanation" / "threat-model.md"
    words = " ".join(page.read_text(encoding="utf-8").split())
    assert report.headline(report.read(run.LINES)) in words


def test_every_artefact_of_the_published_lines_has_every_threat() -> None:
    lines = report.read(run.LINES)
    for name in run.ARTEFACTS:
        expected = {job.label for job in run.jobs()} - {f"transfer {name}"}
        assert {line["label"] for line in lines if line["artefact"] == name} == expected
