"""Layer by layer: is any slower in INT8 than in float?"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from benchmarks.speed.finding import Asked, Case, Finding, against, missing
from benchmarks.speed.networks import CALIBRATION, NAMES, files, images, target
from benchmarks.speed.subjects.int8 import ort_call
from benchmarks.speed.turns import by_turns, seconds_a_call
from deploy.lowering.graph import INPUT
from deploy.quantization.quantize import Quantiser

TITLE = "First layer and tail of small networks"
SECONDS = 50.0
ABOUT = """ONNX Runtime's own profile of the INT8 and the FP32 file, one image, one thread, by
turns: each convolution or matrix product beside the one that writes as many values and ranks alike
among those (the two runtimes' graphs order them differently), and what lies between them (padding
and quantising the image, sums, pools, reordering). The profile counts whole microseconds, so
layers below 8 of them in both are left out. Then the file as it is beside one whose first or last
layer the export leaves in float."""
LEFT = """The first convolution reads three channels, where its integer kernel takes four or more
at once and FP32's has a kernel for just that. Left in float it writes four times the bytes, which
have to be quantised after it: the rows above say that the file gets no faster, or by a hundredth
or two (MobileNetV3). The other layers that are slower are the projections of shortcuts and the
classifier, of a few microseconds each, and what is no layer is padding, quantising and reordering
the image."""

LAYERS = ("Conv", "Gemm", "MatMul")
"""What the names of operators that compute layers hold: QLinearConv, FusedGemm, MatMulInteger."""
SMALL = ("resnet8", "resnet20", "mobilenet_v2", "mobilenet_v3_small")
RUNS = 100
MOST = 1.0
MOST_LEFT = 1.03
"""What leaving a layer in float may gain before the export has to do so."""
FILLED_UP_TO = 16
LEAST_SECONDS = 8e-6
"""Of a layer in either file, for the profile to tell them apart."""


Layers = dict[tuple[int, int], float]
"""Seconds by the values that a layer writes, and its rank among those that write as many."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Median seconds of one inference: of the layers, of the first one, and of all the rest."""

    layers: Layers
    first: float
    rest: float

    @property
    def whole(self) -> float:
        """All of it."""
        return sum(self.layers.values()) + self.rest


def cases(asked: Asked) -> dict[str, Case]:
    """Networks."""
    chosen = SMALL[:1] if asked.quick else SMALL
    return {NAMES[each]: partial(measured, each, asked) for each in chosen}


def measured(architecture: str, asked: Asked) -> list[Finding]:
    """The slowest layer, the first one, what is no layer; and files with a layer left in float."""
    folder = files(architecture, asked)
    runs = 5 if asked.quick else RUNS
    found = by_turns(
        {
            "int8": partial(profile, folder / "int8.onnx", target()[1], runs),
            "fp32": partial(profile, folder / "fp32.onnx", {}, runs),
        },
        asked.turns,
    )
    int8, fp32 = found["int8"], found["fp32"]

    def beside(of: Callable[[Profile], float], rival: str, **more: Any) -> Finding:
        return against(
            [of(one) for one in int8], [of(one) for one in fp32], "over", rival=rival, **more
        )

    share = np.median([one.first / one.whole for one in int8])
    return [
        _slowest(int8, fp32),
        beside(
            lambda one: one.first,
            "its first layer in float",
            bar=MOST,
            note=f"{100 * share:.0f} % of the INT8 time",
        ),
        beside(lambda one: one.rest, "all that is no layer"),
        *_left_in_float(folder, asked),
    ]


def _slowest(int8: list[Profile], fp32: list[Profile]) -> Finding:
    """The layer that loses most, of those that both files have."""
    rival = "its slowest layer in float"
    if int8[0].layers.keys() != fp32[0].layers.keys():
        counts = f"{len(int8[0].layers)} layers beside {len(fp32[0].layers)}: no pairs"
        return missing(rival, "over", counts, bar=MOST)
    each = [
        against(
            [one.layers[key] for one in int8],
            [one.layers[key] for one in fp32],
            "over",
            rival=rival,
            bar=MOST,
            note=f"of those that write {key[0]:,} values, number {key[1] + 1} by time",
        )
        for key in fp32[0].layers
        if max(int8[0].layers[key], fp32[0].layers[key]) >= LEAST_SECONDS
    ]
    return max(each, key=lambda finding: finding.value or 0.0)


def _left_in_float(folder: Path, asked: Asked) -> list[Finding]:
    """Our file beside those whose first or last layer the export would leave in float."""
    given, entries = images(1, seed=1), target()[1]
    with tempfile.TemporaryDirectory() as name:
        made = Path(name)
        quantiser = Quantiser(folder / "fp32.onnx", made, images(CALIBRATION), target()[0])
        for which, layer in (("first", quantiser.layers[0]), ("last", quantiser.layers[-1])):
            quantiser.make(made / f"{which}.onnx", [layer])
        calls = {"ours": ort_call(folder / "int8.onnx", given, 1, entries)}
        calls |= {w: ort_call(made / f"{w}.onnx", given, 1, entries) for w in ("first", "last")}
        for call in calls.values():
            call()
        least = 0.02 if asked.quick else 0.15
        timed = {which: seconds_a_call(call, least) for which, call in calls.items()}
        found = by_turns(timed, asked.turns)
    return [
        against(
            found["ours"],
            found[which],
            "over",
            rival=f"the {which} layer left in float",
            bar=MOST_LEFT,
        )
        for which in ("first", "last")
    ]


def profile(path: Path, entries: dict[str, str], runs: int) -> Profile:
    """From ONNX Runtime's profile of `runs` inferences of one image, after some to warm up."""
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        for key, value in entries.items():
            options.add_session_config_entry(key, value)
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        feed, warm = {INPUT: images(1)}, max(1, runs // 10)
        for _ in range(warm + runs):
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    kernels = [
        event
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
    ]
    operators = [event["args"]["op_name"] for event in kernels]
    count = len(kernels) // (warm + runs)
    durations = np.array([event["dur"] for event in kernels], dtype=float).reshape(-1, count)
    medians = 1e-6 * np.median(durations[warm:], axis=0)
    at = [n for n in range(count) if any(layer in operators[n] for layer in LAYERS)]
    by_size: dict[int, list[float]] = {}
    for n in at:
        by_size.setdefault(_written(kernels[n]), []).append(float(medians[n]))
    return Profile(
        layers={
            (size, rank): took
            for size, times in by_size.items()
            for rank, took in enumerate(sorted(times, reverse=True))
        },
        first=float(medians[at[0]]),
        rest=float(np.delete(medians, at).sum()),
    )


def _written(kernel: dict[str, Any]) -> int:
    """Values of a kernel's output, its channels filled up as FP32's own layout does."""
    ((shape,),) = (tuple(each.values()) for each in kernel["args"]["output_type_shape"])
    count = int(np.prod(shape))
    if len(shape) < 4:
        return count
    # Channels come first or last, and the two sides are alike.
    channels: int = shape[3] if shape[1] == shape[2] else shape[1]
    return count // channels * -(-channels // FILLED_UP_TO) * FILLED_UP_TO
