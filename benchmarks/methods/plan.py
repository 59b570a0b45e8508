"""The runs of a grid file, in the order in which they are worth having.

An entry of a grid names a stage, a label and settings. Beyond that:

    seeds = [0, 1]            one run for each; every first seed before every second one
    each = { KEY = [..] }     one entry for each value, or combination of values
    chosen = ["igdm", ..]     one entry for each family, with the settings that its search chose
    family = "igdm"           in a stage with `[stages.NAME.search]`: see `searched`

`[stages.NAME]` gives a stage settings (`common`) and a judge (`judge`) of its own; with `apart =
true` its runs are made only where it is named, as those that need another teacher.
`[defaults.METHOD]` holds what the settings that no run names were when the grid was made: what ardx
takes for them changes with what it finds here, the runs must not.
"""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Callable, Iterator
from itertools import groupby, product, zip_longest
from typing import Any

from ard.learning.config import dotted
from ard.learning.recipes import convert, merge
from benchmarks.lines import Line

Entry = dict[str, Any]
Table = dict[str, Any]
Finished = Callable[[], dict[str, Line]]
"""Lines of the runs that are finished by now, by identifier."""

FAMILY_LABEL = "{family}: {label}"


def expand(table: Table, lines: Finished = dict) -> Iterator[dict[str, Any]]:
    """The runs of a grid, stage by stage in the order of the file.

    A search, and what stands on its choice, depend on lines that are written in the meantime: where
    another process is still at them, the runs that need them are left out.
    """
    for stage, group in groupby(table["runs"], key=lambda entry: str(entry["stage"])):
        entries = list(group)
        if "search" in stage_of(table, stage):
            yield from searched(table, stage, lines)
            continue
        entries = [one for entry in entries for one in variants(table, entry, lines)]
        seeds = [entry.get("seeds", [0]) for entry in entries]
        for row in zip_longest(*seeds):
            for entry, seed in zip(entries, row, strict=True):
                if seed is not None:
                    yield one_of(entry, seed, common_of(table, stage))


def stage_of(table: Table, stage: str) -> Table:
    """What the grid says about a stage as a whole."""
    found: Table = table.get("stages", {}).get(stage, {})
    return found


def common_of(table: Table, stage: str) -> Table:
    """The settings of all runs of a stage."""
    return dict(table["common"]) | dict(stage_of(table, stage).get("common", {}))


def in_force(table: Table, settings: dict[str, Any]) -> dict[str, Any]:
    """All settings of a run that are not left to ardx; identifiers are made of its own alone."""
    given = dotted(table.get("defaults", {}).get(settings["method"], {}))
    converted = {key: convert(key, value, f"defaults: {key}") for key, value in given.items()}
    return merge(converted, settings)


def judge_of(table: Table, stage: str) -> Table:
    """How the runs of a stage are judged."""
    return dict(table["judge"]) | dict(stage_of(table, stage).get("judge", {}))


def variants(table: Table, entry: Entry, lines: Finished) -> Iterator[Entry]:
    """An entry for each family that it takes the choice of, and for each value that it lists."""
    if "chosen" not in entry:
        yield from valued(entry)
        return
    for family in entry["chosen"]:
        found = choice(table, entry.get("from", "search"), family, lines)
        if found is not None:
            named = {"label": family, "set": dotted(found["set"]) | dotted(entry.get("set", {}))}
            yield from valued(entry | named)


def valued(entry: Entry) -> Iterator[Entry]:
    """An entry for each combination of the values that it lists under `each`."""
    lists = dotted(entry.get("each", {}))
    for values in product(*lists.values()):
        given = dict(zip(lists, values, strict=True))
        named = [f"{key.rpartition('.')[2].replace('_', ' ')} {v}" for key, v in given.items()]
        yield {name: value for name, value in entry.items() if name != "each"} | {
            "label": ", ".join([entry["label"], *named]),
            "set": dotted(entry.get("set", {})) | given,
        }


def one_of(entry: Entry, seed: int, common: Table) -> dict[str, Any]:
    """One run of a grid's entry."""
    where = f"{entry['stage']} {entry['label']}"
    layers = (common | {"seed": seed}, entry.get("set", {}))
    settings = merge(
        *({k: convert(k, v, f"{where}: {k}") for k, v in dotted(layer).items()} for layer in layers)
    )
    key = json.dumps(settings, sort_keys=True, default=str)
    digest = hashlib.sha256(key.encode()).hexdigest()[:12]
    return {
        "id": f"{where} {seed} {digest}",
        # Stages that differ only in how they judge share the weights.
        "weights": f"{settings['method']}-{seed}-{digest}",
        "stage": entry["stage"],
        "label": entry["label"],
        "seed": seed,
        "settings": settings,
        "attacks": entry.get("attacks"),
    }


def searched(table: Table, stage: str, lines: Finished) -> Iterator[dict[str, Any]]:
    """A search by successive halving, the same for every family of methods.

    1. every setting of the family, at the first seed;
    2. the best third of them, with each value of `then` (such as other learning rates);
    3. the best third of all so far, at the second seed, if there is one;
    4. the best third of those, and two at least, at each further one;

    and never more than `most` of them go on. Best is the highest `score`, a mean over the seeds
    that a setting has.
    """
    for family in families(table, stage):
        for entries, seed in rounds(table, stage, family, lines):
            for entry in entries:
                yield one_of(entry, seed, common_of(table, stage))


def families(table: Table, stage: str) -> list[str]:
    """The families of a search in the order of the file."""
    return list(dict.fromkeys(e["family"] for e in table["runs"] if e["stage"] == stage))


def rounds(
    table: Table, stage: str, family: str, lines: Finished
) -> Iterator[tuple[list[Entry], int]]:
    """The rounds of one family: settings and the seed of each; ends where lines are missing."""
    search = stage_of(table, stage)["search"]
    first, *later = search["seeds"]
    entries = [
        one | {"label": FAMILY_LABEL.format(family=family, label=one["label"])}
        for entry in table["runs"]
        if entry["stage"] == stage and entry["family"] == family
        for one in valued(entry)
    ]
    yield entries, first
    best = best_third(table, entries, [first], lines)
    more = [one for entry in best for one in valued(entry | {"each": search["then"]})]
    yield more, first
    best = [*entries, *more] if more else []
    for number, seed in enumerate(later, 1):
        least = min(number, 2)
        best = best_third(table, best, search["seeds"][:number], lines, least=least)
        yield best, seed


def best_third(
    table: Table, entries: list[Entry], seeds: list[int], lines: Finished, least: int = 1
) -> list[Entry]:
    """The best third of the settings, rounded up; nothing while some are not judged."""
    scored = {e["label"]: score(table, e, seeds, lines) for e in entries}
    if any(value is None for value in scored.values()):
        return []
    most = stage_of(table, entries[0]["stage"])["search"]["most"] if entries else 0
    count = min(most, max(least, -(-len(entries) // 3)))
    return sorted(entries, key=lambda e: -(scored[e["label"]] or 0.0))[:count]


def choice(table: Table, stage: str, family: str, lines: Finished) -> Entry | None:
    """The setting that the search chose: the best that all seeds judged; None while it goes on."""
    seeds = stage_of(table, stage)["search"]["seeds"]
    made = list(rounds(table, stage, family, lines))
    last = made[-1][0] if len(seeds) > 1 else [entry for entries, _ in made for entry in entries]
    scored = [(score(table, entry, seeds, lines), entry) for entry in last]
    if not made[-1][0] or any(value is None for value, _ in scored):
        return None
    return max(scored, key=lambda pair: pair[0] or 0.0)[1]


def score(table: Table, entry: Entry, seeds: list[int], lines: Finished) -> float | None:
    """Worst-case robust accuracy plus `clean_weight` times clean accuracy, a mean over seeds.

    0 where a run diverged; None where one has no line.
    """
    common, known = common_of(table, entry["stage"]), lines()
    weight = stage_of(table, entry["stage"])["search"]["clean_weight"]
    part = judge_of(table, entry["stage"])["part"]
    values: list[float] = []
    for seed in seeds:
        line = known.get(one_of(entry, seed, common)["id"])
        if line is None:
            return None
        found = line.get(part)
        values.append(min(found.values()) + weight * found["clean"] if found else 0.0)
    return statistics.fmean(values)
