"""The table of networks of one's own: made from its lines, every family named, failures said."""

from __future__ import annotations

from typing import Any

from benchmarks.lines import RESULTS, recorded
from benchmarks.own import foreign
from benchmarks.own.foreign_files import FILES
from benchmarks.own.table import NETWORKS, document, failures, table
from benchmarks.own.ten_minutes import LINES, section

GOOD = {
    images: {"samples": 60, "agreement": 0.95, "torch": 0.9, "artefact": 0.85}
    for images in ("clean", "adversarial")
}


def line(name: str, **artefacts: Any) -> dict[str, Any]:
    return {"id": name, "machine": "a machine", "seconds": 1.0, **artefacts}


def test_the_document_is_made_from_its_lines() -> None:
    lines = RESULTS / "own.jsonl"
    rows = recorded(lines)
    ordered = [rows[name] for name in NETWORKS if name in rows]
    assert len(ordered) == len(rows)
    told = document(ordered, lines) + section(RESULTS / LINES)
    assert (RESULTS / "own.md").read_text(encoding="utf-8") == told


def test_what_failed_is_said_and_shown_as_no_figure() -> None:
    refused = {"refused": "INT8 agrees with torch on 40 % of images"}
    row = line("squeezenet1_1", **{"fp32": GOOD, "INT8 x86": refused, "INT8 arm": GOOD})
    cells = table([row]).splitlines()[-1].split(" | ")
    assert cells[2:] == [
        "90.0 / 90.0",
        "95.0 / 95.0; 85.0 / 85.0",
        "**no**",
        "95.0 / 95.0; 85.0 / 85.0 |",
    ]
    assert failures([row]) == f"- `squeezenet1_1`, INT8 x86: {refused['refused']}"
    assert failures([line("squeezenet1_1", fp32=GOOD)]) == "Nothing was refused."


def test_a_training_that_failed_is_told_with_its_sentence() -> None:
    row = line("squeezenet1_1", training="the network takes no images of 32x32")
    assert "the network takes no images of 32x32" in failures([row])
    assert "**no**" in table([row])


def test_a_network_at_chance_is_marked() -> None:
    blind = {"clean": GOOD["clean"] | {"torch": 0.5}, "adversarial": GOOD["adversarial"]}
    assert ", chance" in table([line("squeezenet1_1", fp32=blind)])
    assert "chance" not in table([line("squeezenet1_1", fp32=GOOD)])


def test_twelve_families_or_more() -> None:
    assert len(NETWORKS) >= 12


def test_the_page_of_foreign_files_says_what_its_lines_do() -> None:
    lines = recorded(RESULTS / "foreign.jsonl")
    rows = [lines[name] for name in FILES]

    assert foreign.table(rows) in (RESULTS / "foreign.md").read_text(encoding="utf-8")
    for each in rows:
        assert each["same_as_bare_loop"] == each["images"]
        assert max(each["differences"].values()) <= each["tolerance"]
        assert each["robust"] <= each.get("robust_in_torch", each["images"])


def test_the_figures_of_a_pair_stand_in_the_order_of_its_header() -> None:
    found = recorded(RESULTS / "foreign.jsonl")["channels last, opset 11"]
    found["differences"] = {"adversarial": 4e-7, "clean": 5e-7}
    found["int8"] |= {"agreement": {"adversarial": 0.98, "clean": 0.97}}
    head, _, row = foreign.table([found]).splitlines()
    cells = dict(zip(head.split(" | "), row.split(" | "), strict=True))
    assert cells["logits apart, clean / adversarial"] == "5e-07 / 4e-07 (0.001 allowed)"
    assert cells["INT8: agreement, clean / adversarial"] == "97.0 / 98.0"
