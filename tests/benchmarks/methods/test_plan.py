"""The order of runs, the search by halving, and what stands on its choice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ard.learning.recipes import build_config, read_toml
from benchmarks.methods import plan, run

TABLE: dict[str, Any] = {
    "common": {"dataset": "digits", "architecture": "resnet8:4", "epsilon": 0.1, "epochs": 1},
    "judge": {"part": "test", "attacks": ["pgd2"]},
    "stages": {
        "search": {
            "common": {"train_fraction": 0.5},
            "judge": {"part": "unused"},
            "search": {
                "seeds": [0, 1, 2],
                "clean_weight": 0.25,
                "most": 3,
                "then": {"learning_rate": [0.4]},
            },
        }
    },
    "runs": [
        {
            "stage": "search",
            "family": "trades",
            "label": "trades",
            "set": {"method": "trades"},
            "each": {"loss": {"beta": [1.0, 2.0, 3.0, 4.0]}},
        },
        {"stage": "main", "label": "pgd_at", "seeds": [0, 1], "set": {"method": "pgd_at"}},
        {"stage": "main", "label": "as chosen", "chosen": ["trades"], "seeds": [0]},
    ],
}


def figures(settings: dict[str, Any]) -> dict[str, float]:
    """The larger beta is the more robust and the less accurate, and rate 0.4 is better still."""
    beta, rate = settings["loss.beta"], settings.get("learning_rate", 0.1)
    return {"clean": 0.5 - 0.001 * beta, "pgd2": 0.2 + 0.01 * beta + 0.005 * (rate == 0.4)}


def played(table: dict[str, Any], diverging: str = "", most: int = 99) -> list[dict[str, Any]]:
    """The runs that a process would make, each having its line before the next one is asked for."""
    known: dict[str, dict[str, Any]] = {}
    for each in plan.expand(table, lambda: known):
        if len(known) == most:
            break
        if each["id"] in known:
            continue
        found = {"unused": figures(each["settings"])} if each["stage"] == "search" else {"test": {}}
        known[each["id"]] = each | ({"diverged": ""} if each["label"] == diverging else found)
    return list(known.values())


def names(runs: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(each["label"].removeprefix("trades: trades, "), each["seed"]) for each in runs]


def test_a_search_halves_and_the_main_runs_take_its_choice() -> None:
    runs = played(TABLE)
    assert names(runs) == [
        *((f"beta {beta}", 0) for beta in (1.0, 2.0, 3.0, 4.0)),
        *((f"beta {beta}, learning rate 0.4", 0) for beta in (4.0, 3.0)),
        *((f"beta {beta}", 1) for beta in ("4.0, learning rate 0.4", "4.0")),
        *((f"beta {beta}", 2) for beta in ("4.0, learning rate 0.4", "4.0")),
        ("pgd_at", 0),
        ("trades", 0),
        ("pgd_at", 1),
    ]
    chosen = runs[-2]["settings"]
    assert chosen["loss.beta"] == 4.0
    assert chosen["learning_rate"] == 0.4
    # The search keeps images back; what is judged on test images does not.
    assert runs[0]["settings"]["train_fraction"] == 0.5
    assert "train_fraction" not in chosen


@pytest.mark.parametrize("count", range(8))
def test_a_search_of_one_seed_chooses_among_all_that_it_tried(count: int) -> None:
    search = TABLE["stages"]["search"] | {
        "search": TABLE["stages"]["search"]["search"] | {"seeds": [0]}
    }
    table = TABLE | {"stages": {"search": search}}
    runs = played(table, most=count)
    assert runs == played(table)[:count]
    later = [each for each in played(table) if each["stage"] == "main"]
    assert [each["label"] for each in later] == ["pgd_at", "trades", "pgd_at"]
    assert later[1]["settings"]["loss.beta"] == 4.0
    assert later[1]["settings"]["learning_rate"] == 0.4
    known = {each["id"]: each for each in runs}
    stages = [e["stage"] for e in plan.expand(table, lambda: known) if e["label"] == "trades"]
    assert stages == ["main"] * (count >= 6)


def test_a_run_that_diverged_is_never_chosen() -> None:
    runs = played(TABLE, diverging="trades: trades, beta 4.0, learning rate 0.4")
    assert runs[-2]["settings"]["loss.beta"] == 4.0
    assert "learning_rate" not in runs[-2]["settings"]


def test_clean_accuracy_counts_as_much_as_it_is_said_to() -> None:
    search = TABLE["stages"]["search"]["search"] | {"clean_weight": 100.0}
    table = TABLE | {"stages": {"search": TABLE["stages"]["search"] | {"search": search}}}
    assert played(table)[-2]["settings"]["loss.beta"] == 1.0


@pytest.mark.parametrize("count", range(13))
def test_a_search_that_is_not_done_chooses_nothing(count: int) -> None:
    """Wherever it is cut off: what is done is never another run than in one sitting."""
    runs = played(TABLE, most=count)
    assert runs == played(TABLE)[:count]
    known = {each["id"]: each for each in runs}
    later = [each["label"] for each in plan.expand(TABLE, lambda: known) if each["stage"] == "main"]
    assert ("trades" in later) == (count >= 10)


def test_a_stage_may_come_back_with_more_seeds() -> None:
    entry = {"label": "pgd_at", "set": {"method": "pgd_at"}}
    runs = [
        {"stage": "a", "seeds": [0], **entry},
        {"stage": "b", "seeds": [0], **entry},
        {"stage": "a", "seeds": [1], **entry},
    ]
    found = [(each["stage"], each["seed"]) for each in plan.expand(TABLE | {"runs": runs})]
    assert found == [("a", 0), ("b", 0), ("a", 1)]


def test_every_run_of_the_frontiers_has_settings_that_exist() -> None:
    table = read_toml(Path(run.__file__).parent / "frontiers.toml")
    known: dict[str, dict[str, Any]] = {}
    for each in plan.expand(table, lambda: known):
        config = build_config(plan.in_force(table, each["settings"]))
        judge = plan.judge_of(table, each["stage"])
        assert judge["epsilon"] == "8/255"
        assert (judge["part"] == "unused") == (config.train_fraction == 0.9)
        known[each["id"]] = each | {judge["part"]: {"clean": 0.5, "pgd10": 0.2}}
    stages = {each["stage"] for each in known.values()}
    assert {"search", "main", "budget 6", "budget 10", "limited 10", "longer"} <= stages
    budgets = {e["stage"]: round(255 * e["settings"]["epsilon"], 6) for e in known.values()}
    assert (budgets["main"], budgets["budget 6"], budgets["budget 10"]) == (8, 6, 10)
