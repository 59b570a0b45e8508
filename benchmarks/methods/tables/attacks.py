"""Tables of students that are attacked by more than the comparison is judged by."""

from __future__ import annotations

from benchmarks.methods.tables.figures import Groups, by_stage, spread

PARTS = {
    "clean": "clean",
    "apgd_ce": "APGD-CE",
    "apgd_t": "+ APGD-T",
    "fab_t": "+ FAB-T",
    "square": "+ Square",
    "autoattack": "+ rest",
}
"""Of the standard ensemble, each on what the earlier ones left, and how they are headed."""


def ensemble_table(groups: Groups) -> list[list[str]]:
    """What the whole standard ensemble takes off APGD-CE and APGD-T."""
    judged = [name for name in PARTS if any(name in runs[0]["test"] for runs in groups.values())]
    rows = [["method", "seeds", *(PARTS[name] for name in judged)]]
    for label, runs in groups.items():
        cells = [spread(runs, lambda line, n=name: line["test"][n]) for name in judged]
        rows.append([label, str(len(runs)), *cells])
    return rows


def blackbox_table(groups: Groups) -> list[list[str]]:
    """Robust accuracy under attacks without gradients of the student."""
    attacks = sorted({name for runs in groups.values() for line in runs for name in line["test"]})
    attacks.sort(key=lambda name: (name != "clean", name))
    rows = [["students of", "method", "seeds", *attacks]]
    for stage, methods in sorted(by_stage(groups).items()):
        for label, runs in methods.items():
            cells = [spread(runs, lambda line, name=name: line["test"][name]) for name in attacks]
            rows.append([stage, label, str(len(runs)), *cells])
    return rows


ALONE = {
    "clean": "clean",
    "apgd_ce": "APGD-CE",
    "apgd_t": "APGD-T",
    "square1000": "Square 1000",
    "worst case": "worst case",
}
"""Attacks on every image, from the weakest claim to the strongest, and how they are headed."""


def deployed_table(groups: Groups) -> list[list[str]]:
    """Students and their INT8 artefacts, under attacks by gradients and by scores."""
    parts = {
        (stage, label, precision): [run[precision] for run in runs]
        for stage, methods in sorted(by_stage(groups).items())
        for label, runs in methods.items()
        for precision in ("fp32", "int8")
    }
    judged = {name for part in parts.values() for name in part[0]["test"]}
    attacks = [*(name for name in ALONE if name in judged), *sorted(judged - ALONE.keys())]
    told = [ALONE.get(name, name) for name in attacks]
    rows = [["students of", "method", "precision", "seeds", *told, "doubts"]]
    for names, part in parts.items():
        cells = [spread(part, lambda one, n=name: one["test"][n]) for name in attacks]
        doubts = str(sum(len(one["doubts"]) for one in part))
        rows.append([*names, str(len(part)), *cells, doubts])
    return rows
