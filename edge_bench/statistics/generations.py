"""How old the source of a set is, in generations of the lineage of the artefact that it meets."""

from __future__ import annotations

from edge_bench.core.spec import Report


def generations(report: Report) -> dict[str, int | None]:
    """By set, how many models lie between the artefact and what the set was crafted on.

    0 is the artefact itself, 1 the weights that it was exported from, 2 the teacher of those, as
    its card says. What is older is told by sets that were refreshed: each names the sources before
    it, of which each is one generation older than the next. None where nothing tells.
    """
    ages = _of_the_card(report)
    chains = [
        [source.sha256 for source in (*s.manifest.refreshed,)] + [s.manifest.source_sha256]
        for s in report.sets
    ]
    # A chain can hang on another, so as often as there are chains.
    for _ in chains:
        for chain in chains:
            for newer, older in zip(chain[:0:-1], chain[-2::-1], strict=True):
                if newer in ages:
                    ages.setdefault(older, ages[newer] + 1)
    return {s.name: ages.get(s.manifest.source_sha256) for s in report.sets}


def _of_the_card(report: Report) -> dict[str, int]:
    ages, card = {report.artifact.sha256: 0}, report.artifact.card
    if card is None:
        return ages
    if card.parent_sha256 is not None:
        ages.setdefault(card.parent_sha256, 1)
    teacher = card.recipe.get("teacher_sha256")
    if isinstance(teacher, str):
        ages.setdefault(teacher, 2)
    return ages
