"""The comparison of methods: a resumable runner, and tables made from its lines alone."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from numpy.typing import NDArray
from scipy.stats import ttest_rel
from typer.testing import CliRunner

from ard.data.datasets import load_dataset
from ard.learning.config import dotted
from ard.learning.recipes import build_config, read_toml
from ard.learning.train import training_data
from ard.models.weight_files import load_model
from benchmarks.documents import filled
from benchmarks.lines import RESULTS, finished, pack, recorded, unpack
from benchmarks.methods import plan, report, run, teachers
from benchmarks.methods.tables.figures import worst_of
from edge_bench.core.errors import InputError

GRID = """
[common]
dataset = "digits"
architecture = "resnet8:4"
epsilon = "16/255"
inner_steps = 1
epochs = 1
train_fraction = 0.3

[judge]
part = "test"
images = 60
attacks = ["pgd2", "cw2"]

[[runs]]
stage = "main"
label = "pgd_at"
seeds = [0, 1]
set = { method = "pgd_at" }

[[runs]]
stage = "later"
label = "trades"
set = { method = "trades", loss.beta = 2.0 }
"""


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    path = tmp_path / "grid.toml"
    path.write_text(GRID, encoding="utf-8")
    return path


def launch(grid: Path, *more: str) -> Path:
    app = typer.Typer()
    app.command()(run.main)
    folder = grid.parent
    teacher = ["--teacher", "none.safetensors", "--data-dir", str(folder)]
    work = ["--work", str(folder / "work"), "--lines", str(folder / "lines.jsonl")]
    result = CliRunner().invoke(app, [str(grid), *teacher, *work, *more])
    assert result.exit_code == 0, result.output
    return folder / "lines.jsonl"


def test_a_line_tells_config_seed_commit_machine_and_masks(grid: Path) -> None:
    lines = launch(grid, "--stage", "main")
    first, second = (json.loads(text) for text in lines.read_text().splitlines())
    assert [first["seed"], second["seed"]] == [0, 1]
    assert first["settings"]["epsilon"] == pytest.approx(16 / 255)
    assert first["weights_sha256"] != second["weights_sha256"]
    assert {"commit", "machine", "validation", "seconds"} <= first.keys()
    assert unpack(first, "cw2").mean() == pytest.approx(first["test"]["cw2"])
    assert first["test"]["cw2"] <= first["test"]["pgd2"] <= first["test"]["clean"]


@pytest.mark.parametrize(
    ("fast", "asked", "used"),
    [("bf16", [], "bf16"), ("fp32", [], "fp32"), ("bf16", ["--fp32"], "fp32")],
)
def test_what_a_processor_would_emulate_is_computed_in_fp32_and_the_line_tells_it(
    grid: Path, fast: str, asked: list[str], used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = grid.read_text(encoding="utf-8")
    text = text.replace("[common]", '[common]\nprecision = "bf16"')
    grid.write_text(text.replace("[judge]", '[judge]\ngradients = "bf16"'), encoding="utf-8")
    monkeypatch.setattr(run, "fast_precision", lambda device: fast)
    (line,) = recorded(launch(grid, "--stage", "later", *asked)).values()
    assert line["config"]["precision"] == line["gradients"] == used
    # Of the same run, which the other processor does not make again.
    assert line["settings"]["precision"] == "bf16"


def test_finished_runs_are_not_run_again_and_later_ones_add_lines(grid: Path) -> None:
    lines = launch(grid, "--stage", "main")
    before = lines.read_text()
    launch(grid, "--stage", "main")
    assert lines.read_text() == before
    launch(grid)
    assert lines.read_text().startswith(before)
    assert len(finished(lines)) == 3


def test_a_stage_apart_is_run_only_when_it_is_named(grid: Path) -> None:
    grid.write_text(GRID + "\n[stages.main]\napart = true\n", encoding="utf-8")
    lines = launch(grid)
    assert [json.loads(text)["stage"] for text in lines.read_text().splitlines()] == ["later"]
    launch(grid, "--stage", "main")
    assert len(finished(lines)) == 3


def test_only_the_methods_that_are_asked_for_are_run(grid: Path) -> None:
    lines = launch(grid, "--label", "trades")
    assert [line["label"] for line in recorded(lines).values()] == ["trades"]


def test_runs_that_the_grid_does_not_have_are_named(grid: Path) -> None:
    work, lines = grid.parent / "work", grid.parent / "lines.jsonl"
    with pytest.raises(InputError, match=r"grid\.toml: .*--stage main and --label mian"):
        run.main(grid, grid, work, lines, stage="main", label=["mian"])
    assert not lines.exists()


def test_unused_images_are_training_images_that_the_run_never_sees() -> None:
    digits = load_dataset("digits", Path("unused"))
    config = build_config(
        {"dataset": "digits", "architecture": "resnet8:4", "method": "pgd_at", "epsilon": 0.1}
        | {"train_fraction": 0.3}
    )
    seen, validation = training_data(config, digits)
    unused = run.judged_images("unused", digits, config)
    assert len(unused) + len(seen) + len(validation) == len(digits.train)
    images = torch.cat((seen.images, validation.images, unused.images)).flatten(1).sum(dim=1)
    assert int(images.sum()) == int(digits.train.images.sum())


def test_a_run_that_lost_its_line_goes_on_from_its_checkpoint(grid: Path) -> None:
    lines = launch(grid, "--stage", "later")
    line = json.loads(lines.read_text())
    lines.unlink()
    launch(grid, "--stage", "later")
    again = json.loads(lines.read_text())
    assert again["weights_sha256"] == line["weights_sha256"]
    assert again["masks"] == line["masks"]
    _, card = load_model(grid.parent / "work" / line["weights"] / "student.safetensors")
    assert card.recipe["loss"]["beta"] == 2.0


def test_a_run_that_diverges_has_a_line_and_the_next_one_is_made(tmp_path: Path) -> None:
    path = tmp_path / "grid.toml"
    mad = GRID.replace(
        'set = { method = "pgd_at" }', 'set = { method = "pgd_at", learning_rate = 1e9 }'
    )
    path.write_text(mad.replace("seeds = [0, 1]", "seeds = [0]"), encoding="utf-8")
    lines = launch(path)
    first, second = (json.loads(text) for text in lines.read_text().splitlines())
    assert "--learning-rate" in first["diverged"]
    assert "test" in second
    before = lines.read_text()
    assert launch(path).read_text() == before
    assert list(report.read(lines)) == ["later"]


def test_students_are_judged_at_the_budget_of_the_grid(grid: Path) -> None:
    # Long enough that there is something to lose.
    longer = GRID.replace("epochs = 1", "epochs = 5")
    weak = longer.replace("images = 60", 'images = 60\nepsilon = "1/255"')
    grid.write_text(longer, encoding="utf-8")
    strong = launch(grid, "--stage", "later").read_text()
    grid.write_text(weak, encoding="utf-8")
    (grid.parent / "lines.jsonl").unlink()
    found = launch(grid, "--stage", "later").read_text()
    first, second = json.loads(strong), json.loads(found)
    assert first["weights_sha256"] == second["weights_sha256"]
    assert second["test"]["cw2"] > first["test"]["cw2"]


def line(label: str, seed: int, mask: NDArray[np.bool_], clean: float = 0.9) -> dict[str, Any]:
    return {
        "stage": "main",
        "label": label,
        "seed": seed,
        "settings": {"method": label.split(",")[0]},
        "images": len(mask),
        "test": {
            "clean": clean,
            "apgd_ce": float(mask.mean()) + 0.01,
            "apgd_t": float(mask.mean()),
        },
        "masks": {"clean": pack(np.ones_like(mask)), "apgd_t": pack(mask)},
        "seconds": {"training": 120.0},
    }


def test_the_table_gives_mean_deviation_difference_and_the_weaker_test(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ours = [rng.random(203) < 0.6 for _ in range(3)]
    theirs = [mask & (rng.random(203) < 0.8) for mask in ours]
    lines = [line("ard", seed, mask) for seed, mask in enumerate(ours)]
    lines += [line("rslad", seed, mask) for seed, mask in enumerate(theirs)]
    path = tmp_path / "lines.jsonl"
    path.write_text("\n".join(json.dumps(each) for each in lines), encoding="utf-8")
    rows = report.main_table(report.read(path)["main"])
    assert [row[0] for row in rows] == ["method", "**ard**", "rslad"]
    means = [100 * mask.mean() for mask in theirs]
    assert rows[2][4] == f"{np.mean(means):.1f} ± {np.std(means, ddof=1):.1f}"
    images = ttest_rel(np.mean(ours, axis=0), np.mean(theirs, axis=0)).pvalue
    seeds = ttest_rel([m.mean() for m in ours], [m.mean() for m in theirs]).pvalue
    difference = 100 * (np.mean(ours) - np.mean(theirs))
    p = max(images, seeds)
    assert rows[2][7] == f"{difference:+.1f} (p {'< 0.01' if p < 0.01 else f'{p:.2f}'})"
    assert rows[2][6] == "+0.0 (p 1.00)"
    weighted = [(90 + each) / 2 for each in means]
    assert rows[2][5] == f"{np.mean(weighted):.1f} ± {np.std(weighted, ddof=1):.1f}"


def test_the_chosen_settings_are_compared_with_every_rival_beside_the_pooled_deviation() -> None:
    rng = np.random.default_rng(1)
    masks = [rng.random(200) < share for share in (0.50, 0.55, 0.60, 0.20, 0.30)]
    chosen = [line("ard, on igdm", seed, masks[seed], clean=0.9) for seed in range(3)]
    rival = [line("igdm", seed, masks[3 + seed], clean=0.8) for seed in range(2)]
    others = {"ard": [line("ard", 0, masks[0])], "trades": [line("trades", 0, masks[4], clean=0.7)]}
    head, *rows = report.rivals_table({"ard, on igdm": chosen, "igdm": rival} | others)
    assert head[0] == "rival"
    assert [row[0] for row in rows] == ["trades", "igdm"]
    ours, theirs = ([100 * m.mean() for m in some] for some in (masks[:3], masks[3:]))
    assert rows[1][3].startswith(f"{np.mean(ours[:2]) - np.mean(theirs):+.1f} (p ")
    # Bessel's correction in both, weighed by their degrees of freedom.
    shared = np.sqrt((2 * np.var(ours, ddof=1) + np.var(theirs, ddof=1)) / 3)
    assert rows[1][4] == f"{shared:.1f}"
    assert rows[1][5] == f"{(90 + np.mean(ours)) / 2 - (80 + np.mean(theirs)) / 2:+.1f}"
    assert rows[0][4] == ""


def test_seeds_that_only_one_method_has_are_not_compared() -> None:
    mask = np.ones(8, dtype=np.bool_)
    ours, theirs = [line("ard", 0, mask)], [line("rslad", 1, mask)]
    assert report.versus(ours, theirs, worst_of) == ""


def test_a_check_reads_every_document_and_writes_nothing(tmp_path: Path) -> None:
    lines = tmp_path / "lines.jsonl"
    lines.write_text(json.dumps(line("ard", 0, np.ones(8, dtype=np.bool_))), encoding="utf-8")
    pages = [tmp_path / "first.md", tmp_path / "second.md"]
    for page in pages:
        page.write_text("<!-- table main -->\nold\n<!-- end -->\n", encoding="utf-8")
    picture = tmp_path / "picture.svg"
    report.main(lines, pages[:1], picture)
    picture.unlink()
    report.main(lines, pages[:1], picture, check=True)
    with pytest.raises(typer.Exit) as ended:
        report.main(lines, pages, picture, check=True)
    assert ended.value.exit_code == 1
    assert "old" in pages[1].read_text(encoding="utf-8")
    assert not picture.exists()


def test_tables_fill_only_their_places() -> None:
    text = "a\n<!-- table main -->\nold\n<!-- end -->\nb\n"
    mask = np.ones(8, dtype=np.bool_)
    made = filled(text, report.maker({"main": {"ard": [line("ard", 0, mask)]}}))
    assert made.startswith("a\n<!-- table main -->\n| method |")
    assert made.endswith("<!-- end -->\nb\n")
    assert "old" not in made


PAGES = {
    "methods": "frontiers",
    "methods_search": "frontiers",
    "methods_attacks": "frontiers",
    "methods_earlier": "methods_earlier",
}
"""Each page of results and its lines."""

GRIDS = {
    "frontiers": ["frontiers"],
    "methods_earlier": [f"earlier/{name}" for name in ("rates", "search", "ablation", "cifar10")],
}
"""Lines, and the grids that they are runs of."""


@pytest.mark.parametrize("page", PAGES)
def test_the_published_tables_are_what_the_lines_say(page: str) -> None:
    text = (RESULTS / f"{page}.md").read_text(encoding="utf-8")
    stages = report.read(RESULTS / f"{PAGES[page]}.jsonl")
    assert filled(text, report.maker(stages)) == text


def test_the_published_table_of_teachers_is_what_its_lines_say() -> None:
    text = teachers.PAGE.read_text(encoding="utf-8")
    assert filled(text, teachers.maker([*recorded(teachers.LINES).values()])) == text
    found = [json.loads(line) for line in teachers.LINES.read_text(encoding="utf-8").splitlines()]
    rows = {row[0]: row for row in teachers.table(found)}
    worst = [100 * line["test"]["cw20"] for line in found if line["teacher"] == "logits x 0.5"]
    assert rows["logits x 0.5"][-1] == f"{np.mean(worst):.1f} ± {np.std(worst, ddof=1):.1f}"


@pytest.mark.parametrize(("lines", "grids"), GRIDS.items(), ids=GRIDS)
def test_every_published_line_is_a_run_of_a_grid_with_the_same_settings(
    lines: str, grids: list[str]
) -> None:
    """Those that the run had, too: a default that has changed since is in the grid."""
    published = recorded(RESULTS / f"{lines}.jsonl")
    known = {}
    for grid in grids:
        table = read_toml(Path(run.__file__).parent / f"{grid}.toml")
        for each in plan.expand(table, lambda: published):
            known[each["id"]] = table, each
    for name, line in published.items():
        # A student that was judged once more, by something else, is a run of the grid too.
        for again in ("blackbox ", "deployed ", "order "):
            name = name.removeprefix(again)
        table, expected = known[name]
        assert build_config(line["settings"]) == build_config(expected["settings"])
        if "config" in line:
            config = build_config(plan.in_force(table, expected["settings"]))
            now = dotted(json.loads(json.dumps(asdict(config))))
            then = dotted(line["config"])
            if then["method"] == "ard" and then["inner"] is None:
                # What that meant whatever the anchor was.
                then["inner"] = "kl_clean"
            if then["precision"] == "fp32":
                # The processor had no bf16, see `in_fp32`.
                now["precision"] = "fp32"
            # Settings that came later, or are gone, are not in both; others do not rank.
            common = [k for k in now.keys() & then.keys() if not k.endswith("sha256")]
            if then["method"] != "ard" and then["inner"] != "ranking":
                common = [k for k in common if not k.startswith(("loss.anchor", "loss.ranking"))]
            assert {k: now[k] for k in common} == {k: then[k] for k in common}
            assert len(common) > 24
