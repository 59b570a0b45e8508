"""The first words of a page: what was found, in a sentence, and what it was found against."""

from __future__ import annotations

from edge_bench.core.pictures.walked import Walked
from edge_bench.core.spec import AttackSpec, Report, SetResult
from edge_bench.core.threats.attack import SEVERITIES
from edge_bench.core.timings import Measurement
from edge_bench.options.square import ON_THE_SPOT
from edge_bench.page.facts import clean, energies, lacking, latency, worst
from edge_bench.page.parts import (
    Headline,
    Section,
    Table,
    interval,
    number,
    percent,
    shown,
    size,
)
from edge_bench.report.summary import COMPARED_HEADER, compared_rows, threat_label
from edge_bench.statistics.apart import CORRUPTION
from edge_bench.statistics.metrics import adversarial
from edge_bench.statistics.path import right

KINDS = {
    "white-box": "an attacker who has the model and follows its gradients",
    "bpda": "an attacker who asks this very file and follows the gradients of a stand-in for it",
    "black-box": "an attacker who sees only the scores of the model",
    "hard-label": "an attacker who sees only the class that the model answers",
    "transfer": "an attacker who has another model and hopes that it errs alike",
    "imported": "a set that another library made; how well it fits this model is not known",
    "differential": "an attacker who wants this file and its parent to disagree",
    "corruption": "no attacker: noise, blur, weather or a camera, as nature deals them",
    "replay": "images crafted earlier; of how, the set does not say",
}
ON_OTHERS = "was crafted on another file and replayed here, so it flatters this one"


def named(report: Report) -> str:
    """The artefact of a report, for people."""
    return shown(report.artifact.path.rsplit("/", 1)[-1])


def device_named(report: Report) -> str:
    """The machine of a report, for people."""
    device = report.device
    return shown(device.board or device.cpu or device.device)


def verdict(report: Report) -> str:
    """The result in one sentence."""
    card = report.artifact.card
    what = named(report) + (f" ({card.precision})" if card else "")
    backend = f"{report.backend.name} {shown(report.backend.version)}"
    speed = f"{_speed(report.latency)} on {device_named(report)} ({backend})"
    unattacked, attacked = clean(report), worst(report)
    if unattacked is None and report.pictures is not None:
        return f"{what} {_on_pictures(report.pictures)}; {speed}; no set was replayed."
    if unattacked is None:
        return f"{what} was timed alone: {speed}; its accuracy and robustness were not measured."
    share, images = percent(unattacked.value), f"{unattacked.samples:,} images"
    if attacked is None:
        return f"{what} is right on {share} of {images}; {speed}."
    assert attacked.low is not None
    assert attacked.high is not None
    attacks = len(adversarial(report))
    by = "the one attack tried" if attacks == 1 else f"every one of the {attacks} attacks tried"
    return (
        f"{what} stays right on {percent(attacked.value)} of {images} under {by} (95% interval "
        f"{interval(attacked.low, attacked.high)}), of {share} unattacked; {speed}."
    )


def _speed(timed: Measurement) -> str:
    """Within what time most calls end, as far as so many calls tell."""
    images = f"{timed.batch_size} image{'s' if timed.batch_size > 1 else ''}"
    if count := lacking(timed, 0.95):
        return f"too few calls of {images} were timed for a p95 ({count})"
    return f"95 of 100 calls of {images} end within {latency(timed, 0.95).value:.3g} ms"


def _on_pictures(walked: Walked) -> str:
    """What it makes of pictures, on their way from file to logits."""
    mask = right(walked)
    crafted = f" crafted by {shown(walked.attack.name)}" if walked.attack else ""
    share = percent(float(mask.mean()))
    return f"is right on {share} of {len(mask):,} pictures{crafted}, from their files"


def verdict_section(report: Report) -> Section:
    """The verdict and the figures that stand for it."""
    heads = []
    for fact, title in ((worst(report), "Robust, worst case"), (clean(report), "Clean accuracy")):
        if fact is not None and fact.low is not None and fact.high is not None:
            note = f"{interval(fact.low, fact.high)} at 95%, {fact.samples:,} images"
            heads.append(Headline(name=title, value=percent(fact.value), note=note))
        else:
            note = "no set is of an attack" if report.sets else "give --sets to bench"
            heads.append(Headline(name=title, value="not measured", note=note))
    p95 = latency(report.latency, 0.95)
    ends = "too few calls for an interval"
    if count := lacking(report.latency, 0.95):
        ends = f"of too few calls: {count}"
    elif p95.low is not None and p95.high is not None:
        ends = f"{p95.low:.3g} to {p95.high:.3g} ms at 95%"
    heads.append(Headline(name="Latency, p95", value=f"{p95.value:.3g} ms", note=ends))
    energy = next(iter(energies(report)), None)
    if energy is None or energy.low is None or energy.high is None:
        heads.append(Headline(name="Energy", value="not measured", note="no sensor tells it"))
    else:
        note = f"{number(energy.low)} to {number(energy.high)} mJ, above idle"
        heads.append(Headline(name="Energy an image", value=f"{energy.value:.3g} mJ", note=note))
    sha = report.artifact.sha256[:16]
    heads.append(
        Headline(name="Size", value=size(report.artifact.size_bytes), note=f"sha256 {sha}…")
    )
    return Section(
        key="verdict", title="Verdict", paragraphs=(verdict(report),), headlines=tuple(heads)
    )


def threats_section(report: Report) -> Section:
    """What each attack stands for, and what nobody tried."""
    if not report.sets:
        untried = ("No attack was tried at all: nothing here says how robust this artefact is.",)
        if report.pictures is not None and report.pictures.attack is not None:
            untried = ("Crafted pictures alone: see From file to logits. No set was replayed.",)
        return Section(key="threats", title="What was tried, and what was not", points=untried)
    rows = tuple(
        (shown(s.name), budget(s.manifest.attack), threat_label(s), _means(s)) for s in report.sets
    )
    table = Table(
        caption="Attacks tried", header=("attack", "budget", "threat", "it stands for"), rows=rows
    )
    return Section(
        key="threats",
        title="What was tried, and what was not",
        paragraphs=(
            "An accuracy under attack is an upper bound: it says what these attacks found, within "
            "their budgets. Of what was not tried, this report says nothing:",
        ),
        points=tuple(_untried(report)),
        tables=(table, *_beside_parent(report)),
    )


def _beside_parent(report: Report) -> list[Table]:
    rows = tuple(tuple(row) for row in compared_rows(report))
    if not rows:
        return []
    return [Table(caption="Beside the parent", header=tuple(COMPARED_HEADER), rows=rows)]


def budget(attack: AttackSpec) -> str:
    """Norm, size and effort of an attack, in a cell."""
    if attack.severity is not None:
        return f"{shown(attack.name)}, severity {attack.severity} of {SEVERITIES[-1]}"
    parts = [attack.ball, f"{shown(attack.name)}"]
    if attack.steps is not None:
        parts.append(f"{attack.steps} {'queries' if attack.name in ON_THE_SPOT else 'steps'}")
    if attack.restarts > 1:
        parts.append(f"{attack.restarts} restarts")
    if attack.target is not None:
        parts.append(f"aimed at {attack.target.replace('_', ' ')}")
    if attack.direction is not None:
        parts.append(f"the {attack.direction} to err")
    return ", ".join(parts)


def _means(result: SetResult) -> str:
    means = KINDS[result.manifest.threat]
    crafted = result.relation == "this artefact" or result.manifest.threat == CORRUPTION
    return means if crafted else f"{means}; it {ON_OTHERS}"


def _untried(report: Report) -> list[str]:
    """What the attacks of a report leave open."""
    tried = adversarial(report)
    own = [s for s in tried if s.relation == "this artefact"]
    threats = {s.manifest.threat for s in own}
    norms = {s.manifest.attack.norm for s in tried}
    found = []
    if not threats & {"white-box", "bpda"}:
        found.append(
            "An attack that adapts to this very file by gradients, its own or a stand-in's: none "
            "of the sets was crafted so (ardx attack ARTEFACT --parent WEIGHTS)."
        )
    if not threats & {"black-box", "hard-label"}:
        found.append(
            "A search by scores alone, or by classes alone, which tells whether gradients were "
            "misleading (ardx bench --attack square, or rays)."
        )
    if all(s.manifest.threat != "differential" for s in report.sets):
        found.append(
            "Images on which this file and its parent disagree (ardx attack ARTEFACT --parent "
            "WEIGHTS --threat differential)."
        )
    if missing := [name for key, name in (("linf", "L-inf"), ("l2", "L2")) if key not in norms]:
        found.append(f"Changes bounded in {' or '.join(missing)}.")
    if all(s.manifest.attack.target is None for s in tried):
        found.append("An aim at one chosen class: the attacks were content with any error.")
    largest = max(
        (s.manifest.attack.epsilon for s in tried if s.manifest.attack.norm == "linf"),
        default=None,
    )
    if largest is not None:
        found.append(f"Any budget above L-inf {largest * 255:.3g}/255.")
    is_corrupted = any(s.manifest.threat == "corruption" for s in report.sets)
    found.append(
        "What no budget of pixels describes: patches and stickers, turning and scaling, "
        f"{'' if is_corrupted else 'noise, blur, weather and '}other cameras, poisoned training "
        "data, and a certificate of any kind."
    )
    return found
