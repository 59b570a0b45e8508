"""What the options of `bench` ask for, checked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from edge_bench.backends.registry import BACKENDS
from edge_bench.commands.benching.flags import (
    BenchFlags,
    HostFlags,
    SquareFlags,
    TimingFlags,
)
from edge_bench.core.pictures.walked import CARD
from edge_bench.terminal.console import warn

if TYPE_CHECKING:
    from edge_bench.files.sets import AdversarialSet
    from edge_bench.files.unpack import Unpacked
    from edge_bench.options.bench import BenchOptions
    from edge_bench.options.engine import EngineOptions
    from edge_bench.options.pictures import PictureOptions
    from edge_bench.options.square import SquareOptions


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a benchmark on this machine is given.

    Attributes:
        path: how the report names the model, which may lie in a folder that is gone tomorrow.
    """

    parts: Unpacked
    path: str
    sets: list[AdversarialSet]
    options: BenchOptions
    square: SquareOptions | None
    out: Path
    force: bool
    json_summary: bool


def bench_options(flags: BenchFlags) -> BenchOptions:
    """How to run, checked.

    Raises:
        InputError: a value out of its range, or an option of something that was not asked for.
    """
    from edge_bench.options.bench import BenchOptions
    from edge_bench.options.setting import read_sweep

    timing = flags.timing
    return BenchOptions(
        device=flags.device,
        backend=flags.backend,
        threads=flags.threads,
        batch_size=flags.batch_size,
        warmup_runs=timing.warmup,
        min_runs=timing.runs,
        min_seconds=timing.seconds,
        settle_seconds=timing.settle_seconds,
        **scenarios_of(timing),
        sweep=read_sweep(sweep_words(flags.context, timing.sweep)),
        soak_minutes=timing.soak,
        idle_seconds=timing.idle_seconds,
        output=flags.output,
        mean=floats_of(flags.mean, "--mean"),
        std=floats_of(flags.std, "--std"),
        engine=engine_of(flags),
        pictures=pictures_of(flags),
    )


def pictures_of(flags: BenchFlags) -> PictureOptions | None:
    """Pictures and how to make images of them, None where none were given.

    Raises:
        InputError: a pipeline without pictures, or what another machine cannot find.
    """
    from edge_bench.core.errors import InputError
    from edge_bench.files.code.own_function import names_function
    from edge_bench.options.pictures import PictureOptions

    folder, pipeline = flags.shown.pictures, flags.shown.pipeline
    if folder is None:
        if pipeline is not None:
            raise InputError("--pipeline: belongs to pictures; give --pictures DIR, too")
        return None
    if flags.there.host and not folder.is_absolute():
        raise InputError(
            f"--pictures {folder} with --host: pictures are not sent; give the absolute path of a "
            "folder there"
        )
    if flags.there.host and names_function(pipeline or ""):
        raise InputError(
            f"--pipeline {pipeline} with --host: no code is sent; run ardx bench on the board "
            "itself, in the folder where the module lies"
        )
    return PictureOptions(folder=folder, pipeline=pipeline or CARD)


def require_host(flags: HostFlags) -> None:
    """Refuse options of another machine without --host."""
    from edge_bench.core.errors import InputError

    given = {
        "--wheels": flags.wheels,
        "--remote-python": flags.remote_python,
        "--ssh-config": flags.ssh_config,
    }
    named = [option for option, value in given.items() if value is not None]
    if named and not flags.host:
        raise InputError(f"{named[0]}: belongs to another machine; give --host, too")


def warn_of_saturation(model: Path, backends: Iterable[str], root: Path | None = None) -> None:
    """Say before anything is measured where the processor has no VNNI and the artefact wants it.

    `root` is of the file system; None is this machine's.
    """
    from edge_bench.core.saturation import saturation
    from edge_bench.devices import ROOT
    from edge_bench.devices.generic import has_vnni
    from edge_bench.files.onnx_file import read_card

    card, vnni = read_card(model), has_vnni(root or ROOT)
    for backend in backends:
        if found := saturation(card, backend, vnni):
            warn(found)


def square_of(flags: SquareFlags) -> SquareOptions | None:
    """The attack on the spot, None where none was asked for."""
    from edge_bench.core.errors import InputError
    from edge_bench.core.spec import parse_epsilon
    from edge_bench.files.sets import grid_radius
    from edge_bench.options.square import SquareOptions

    given = {"--queries": flags.queries, "--epsilon": flags.epsilon, "--seed": flags.seed}
    named = [option for option, value in given.items() if value is not None]
    named += ["--attack-all"] if flags.attack_all else []
    if flags.attack is None:
        if named:
            raise InputError(f"{named[0]}: belongs to an attack; give --attack square or rays, too")
        return None
    budget = None if flags.epsilon is None else parse_epsilon(flags.epsilon)
    if budget is not None and abs(budget * 255 - grid_radius(budget)) > 1e-6:
        warn(
            f"--epsilon {budget:g} is {budget * 255:.2f} steps of the 8-bit grid; "
            f"{grid_radius(budget)} are used"
        )
    defaults = SquareOptions()
    return SquareOptions(
        attack=flags.attack,
        queries=defaults.queries if flags.queries is None else flags.queries,
        epsilon=budget,
        seed=defaults.seed if flags.seed is None else flags.seed,
        attack_all=flags.attack_all,
    )


def engine_of(flags: BenchFlags) -> EngineOptions:
    """How TensorRT, or TensorRT for RTX, builds its engine."""
    from edge_bench.core.errors import InputError
    from edge_bench.options.engine import EngineOptions

    wanted = flags.engine
    given = {
        "--workspace-mib": wanted.workspace_mib,
        "--tuned-batch": wanted.tuned_batch,
        "--engine-cache": wanted.engine_cache,
    }
    named = [option for option, value in given.items() if value is not None]
    builders = [name for name, runtime in BACKENDS.items() if runtime.builds]
    if named and flags.backend not in (*builders, "all"):
        raise InputError(
            f"{named[0]}: belongs to TensorRT; give --backend {' or '.join(builders)}, too"
        )
    defaults = EngineOptions()
    return EngineOptions(
        cache=wanted.engine_cache or defaults.cache,
        workspace_mib=wanted.workspace_mib,
        tuned_batch=defaults.tuned_batch if wanted.tuned_batch is None else wanted.tuned_batch,
        max_batch=max(flags.batch_size, 1),
    )


def with_bundled_engine(options: BenchOptions, engines: Path | None, model: Path) -> BenchOptions:
    """The options to run one of the `engines` that the bundle `model` brings."""
    from dataclasses import replace

    from edge_bench.core.errors import InputError

    runtime = BACKENDS.get(options.backend)
    if runtime is None or not runtime.builds:
        raise InputError("--bundled-engine: belongs to TensorRT for RTX; give --backend trt-rtx")
    if engines is None:
        raise InputError(
            f"--bundled-engine: {model} brings no engine; leave it out, or pack a bundle that does "
            "(ardx bundle --for sm86)"
        )
    return replace(options, engine=replace(options.engine, bundled=engines))


def floats_of(text: str | None, option: str) -> tuple[float, ...] | None:
    """Numbers with commas, one per channel."""
    from edge_bench.core.errors import InputError

    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(
            f"{option} {text}: expected numbers with commas, one per channel, such as 0.5,0.5,0.5"
        ) from None


def scenarios_of(flags: TimingFlags) -> dict[str, Any]:
    """The options of BenchOptions that say what is timed besides."""
    from edge_bench.core.errors import InputError
    from edge_bench.options.setting import whole_number

    streams, batches = flags.streams, flags.batches
    given = [name for text in flags.scenario or [] for name in text.split(",")]
    for option, value, scenario in (
        ("--streams", streams, "multi-stream"),
        ("--batches", batches, "offline"),
    ):
        if value is not None and scenario not in given:
            raise InputError(f"{option}: belongs to a scenario; give --scenario {scenario}, too")
    sizes = tuple(whole_number(size) for size in batches.split(",")) if batches is not None else ()
    if any(size < 0 for size in sizes):
        raise InputError(f"--batches {batches}: expected whole numbers with commas, such as 1,8,32")
    options: dict[str, Any] = {"scenarios": tuple(given), "batches": sizes}
    return options if streams is None else options | {"streams": streams}


def sweep_words(context: typer.Context, sweep: list[str] | None) -> list[str]:
    """The settings of --sweep, those that follow it as further words among them.

    They join its values in `context`, too, which is what travels to another machine.

    Raises:
        InputError: words that no option asked for.
    """
    from edge_bench.core.errors import InputError

    extra = list(context.args)
    if extra and not (sweep and all("=" in word for word in extra)):
        raise InputError(f"unexpected argument {extra[0]!r}; see {context.command_path} --help")
    words = [*(sweep or []), *extra]
    context.params["sweep"] = words
    return words
