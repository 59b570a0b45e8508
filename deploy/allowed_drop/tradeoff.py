"""What each choice of precision bought, as tables, as plain values and as a picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from deploy.allowed_drop.terms import CHOSEN, FP32, Judged, Outcome, Trial
from edge_bench.core.errors import CapabilityError, InputError
from edge_bench.statistics.stats import mcnemar_p_value

PICTURES = (".svg", ".png")
MOST_STRAINS = 12
TRIAL_HEADER = [
    "in float",
    "which",
    "clean",
    "robust",
    "lost, points (95%)",
    "size",
    "p50",
    "speed",
    "",
]
STRAIN_HEADER = ["", "layer", "margin shift", "lost in replay", "in float"]
REPORT_HEADER = ["artefact", "clean", "robust", "lost, points (95%)", "p", "n"]


def trial_rows(outcome: Outcome) -> list[list[str]]:
    """fp32 and every artefact that was tried, on the half that decides."""
    rows = []
    rank = {strain.layer: number for number, strain in enumerate(outcome.strains, start=1)}
    for index, trial in enumerate((outcome.fp32, *outcome.trials), start=-1):
        mark = "chosen" if index == outcome.chosen else ""
        label = f"all {outcome.layers} (fp32)" if index < 0 else str(len(trial.in_float))
        rows.append(
            [
                label,
                _spans(sorted(rank[layer] for layer in trial.in_float)),
                _percent(trial.judged.clean.mean()),
                _percent(trial.judged.robust.mean()),
                "" if index < 0 else str(trial.drop),
                f"{trial.size_bytes / 1024:.0f} KiB",
                f"{trial.latency_ms:.3f} ms",
                f"{outcome.fp32.latency_ms / trial.latency_ms:.2f}x",
                mark,
            ]
        )
    return rows


def strain_rows(outcome: Outcome) -> list[list[str]]:
    """The layers that strain the network most, when each alone has the lower precision."""
    kept = outcome.in_float if outcome.chosen is not None else ()
    return [
        [
            str(number),
            strain.layer.name,
            f"{strain.margin_shift:.3g}",
            f"{100 * strain.drop.value + 0.0:.1f}",
            "yes" if strain.layer in kept else "",
        ]
        for number, strain in enumerate(outcome.strains[:MOST_STRAINS], start=1)
    ]


def report_rows(outcome: Outcome) -> list[list[str]]:
    """fp32, no layer in float and the chosen artefact, on the half that did not decide."""
    rows = []
    for name, judged in outcome.reported.items():
        drop = outcome.reported_drop(name)
        rows.append(
            [
                name,
                _percent(judged.clean.mean()),
                _percent(judged.robust.mean()),
                "" if name == FP32 else str(drop),
                "" if name == FP32 else f"{mcnemar_p_value(drop.lost, drop.gained):.2g}",
                str(drop.samples),
            ]
        )
    return rows


def notes(outcome: Outcome) -> list[str]:
    """What a reader of the tables must know: how fine they are, and whether the drop came back."""
    samples = outcome.fp32.drop.samples
    found = [
        f"{samples} images decide, so one image is {100 / samples:.2g} points; robust: right on "
        "the clean image, on the parent's adversarial one and under an attack on the artefact "
        "itself; p50: one image on this machine, ONNX Runtime with one thread"
    ]
    if outcome.reported:
        drop = outcome.reported_drop(CHOSEN)
        if drop.value > outcome.max_drop:
            found.append(
                f"on the {drop.samples} images that did not decide the loss is {drop} points, over "
                f"the budget of {100 * outcome.max_drop:g}: more images (--budget-images) or a "
                "smaller budget would settle it"
            )
    return found


def as_json(outcome: Outcome) -> dict[str, Any]:
    """All of it in plain values; accuracies and drops are fractions."""
    return {
        "max_robust_drop": outcome.max_drop,
        "met": outcome.chosen is not None,
        "layers": outcome.layers,
        "fp32": _trial(outcome.fp32),
        "trials": [_trial(trial) | {"drop": trial.drop.as_json()} for trial in outcome.trials],
        "chosen": outcome.chosen,
        "sensitivity": [
            {
                "layer": strain.layer.name,
                "margin_shift": strain.margin_shift,
                "drop_in_replay": strain.drop.value,
            }
            for strain in outcome.strains
        ],
        "reported": {
            name: _accuracies(judged) | outcome.reported_drop(name).as_json()
            for name, judged in outcome.reported.items()
        },
    }


def require_picture(path: Path) -> None:
    """Refuse, before any work is done, a picture that could not be drawn.

    Raises:
        InputError: another format.
        CapabilityError: matplotlib is not installed.
    """
    if path.suffix not in PICTURES:
        raise InputError(f"--pareto {path}: expected a file name that ends in .svg or .png")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise CapabilityError(
            "--pareto: the package matplotlib is not installed; run pip install 'ardx[plots]', "
            "or read the table"
        ) from None


def draw(outcome: Outcome, path: Path) -> None:
    """Robust accuracy against latency and against size, to an SVG or PNG file."""
    import matplotlib
    from matplotlib.figure import Figure

    points = [("fp32", outcome.fp32), *((str(len(t.in_float)), t) for t in outcome.trials)]
    limit = 100 * (outcome.fp32.judged.robust.mean() - outcome.max_drop)
    # The same measurements make the same file.
    with matplotlib.rc_context({"svg.hashsalt": "ardx"}):
        figure = Figure(figsize=(9, 4))
        for axes, (label, value) in zip(figure.subplots(1, 2, sharey=True), AXES, strict=True):
            for index, (name, trial) in enumerate(points, start=-1):
                colour = "#c0392b" if index == outcome.chosen else "#34495e"
                where = value(trial), 100 * float(trial.judged.robust.mean())
                axes.plot(*where, "s" if index < 0 else "o", color=colour)
                axes.annotate(name, where, xytext=(5, 5), textcoords="offset points", fontsize=9)
            axes.axhline(limit, linestyle="--", color="#7f8c8d", linewidth=1)
            axes.set_xlabel(label)
            axes.margins(0.12)
            axes.grid(alpha=0.3)
        figure.axes[0].set_ylabel("robust accuracy, % (dashed: the budget)")
        figure.suptitle("layers kept in float", fontsize=10)
        figure.tight_layout()
        metadata = {"Date": None} if path.suffix == ".svg" else {}
        figure.savefig(path, metadata=metadata)


AXES: tuple[tuple[str, Callable[[Trial], float]], ...] = (
    ("median latency of one image here, ms", lambda trial: trial.latency_ms),
    ("size of the file, KiB", lambda trial: trial.size_bytes / 1024),
)


def _spans(numbers: list[int]) -> str:
    """Sorted whole numbers as people write them: 1 to 4, 6."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and spans[-1][-1] == number - 1:
            spans[-1][1:] = [number]
        else:
            spans.append([number])
    return ", ".join(" to ".join(map(str, span)) for span in spans)


def _percent(share: Any) -> str:
    return f"{100 * share:.1f} %"


def _accuracies(judged: Judged) -> dict[str, Any]:
    return {
        "clean_accuracy": float(judged.clean.mean()),
        "robust_accuracy": float(judged.robust.mean()),
    }


def _trial(trial: Trial) -> dict[str, Any]:
    return {
        "float_layers": [layer.name for layer in trial.in_float],
        **_accuracies(trial.judged),
        "size_bytes": trial.size_bytes,
        "latency_p50_ms": trial.latency_ms,
    }
