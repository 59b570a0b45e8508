"""What people write in the options of `bench`, as the values that a run takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from edge_bench.console import warn

if TYPE_CHECKING:
    from edge_bench.backends.engine_cache import EngineOptions
    from edge_bench.bench_options import BenchOptions
    from edge_bench.black_box import SquareOptions


def require_host(
    host: list[str] | None,
    wheels: Path | None,
    remote_python: str | None,
    ssh_config: Path | None,
) -> None:
    """Refuse options of another machine without --host."""
    from edge_bench.errors import InputError

    given = {"--wheels": wheels, "--remote-python": remote_python, "--ssh-config": ssh_config}
    named = [option for option, value in given.items() if value is not None]
    if named and not host:
        raise InputError(f"{named[0]}: belongs to another machine; give --host, too")


def square_of(
    attack: str | None,
    queries: int | None,
    epsilon: str | None,
    seed: int | None,
    attack_all: bool,
) -> SquareOptions | None:
    """The attack on the spot, None where none was asked for."""
    from edge_bench.black_box import SquareOptions
    from edge_bench.errors import InputError
    from edge_bench.sets import grid_radius
    from edge_bench.spec import parse_epsilon

    given = {"--queries": queries, "--epsilon": epsilon, "--seed": seed}
    named = [option for option, value in given.items() if value is not None]
    named += ["--attack-all"] if attack_all else []
    if attack is None:
        if named:
            raise InputError(f"{named[0]}: belongs to an attack; give --attack square, too")
        return None
    if attack != "square":
        raise InputError(
            f"--attack {attack}: expected square, which needs no gradients; other attacks are "
            "crafted by ardx attack and replayed with --sets"
        )
    budget = None if epsilon is None else parse_epsilon(epsilon)
    if budget is not None and abs(budget * 255 - grid_radius(budget)) > 1e-6:
        warn(
            f"--epsilon {budget:g} is {budget * 255:.2f} steps of the 8-bit grid; "
            f"{grid_radius(budget)} are used"
        )
    defaults = SquareOptions()
    return SquareOptions(
        queries=defaults.queries if queries is None else queries,
        epsilon=budget,
        seed=defaults.seed if seed is None else seed,
        attack_all=attack_all,
    )


def engine_of(
    backend: str,
    batch_size: int,
    workspace_mib: int | None,
    tuned_batch: int | None,
    cache: Path | None,
) -> EngineOptions:
    """How TensorRT, or TensorRT for RTX, builds its engine."""
    from edge_bench.backends import BACKENDS
    from edge_bench.backends.engine_cache import EngineOptions
    from edge_bench.errors import InputError

    given = {
        "--workspace-mib": workspace_mib,
        "--tuned-batch": tuned_batch,
        "--engine-cache": cache,
    }
    named = [option for option, value in given.items() if value is not None]
    builders = [name for name, runtime in BACKENDS.items() if runtime.builds]
    if named and backend not in (*builders, "all"):
        raise InputError(
            f"{named[0]}: belongs to TensorRT; give --backend {' or '.join(builders)}, too"
        )
    defaults = EngineOptions()
    return EngineOptions(
        cache=cache or defaults.cache,
        workspace_mib=workspace_mib,
        tuned_batch=defaults.tuned_batch if tuned_batch is None else tuned_batch,
        max_batch=max(batch_size, 1),
    )


def with_bundled_engine(options: BenchOptions, engines: Path | None, model: Path) -> BenchOptions:
    """The options to run one of the `engines` that the bundle `model` brings."""
    from dataclasses import replace

    from edge_bench.backends import BACKENDS
    from edge_bench.errors import InputError

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
    from edge_bench.errors import InputError

    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(
            f"{option} {text}: expected numbers with commas, one per channel, such as 0.5,0.5,0.5"
        ) from None


def scenarios_of(names: list[str], streams: int | None, batches: str | None) -> dict[str, Any]:
    """The options of BenchOptions that say what is timed besides."""
    from edge_bench.errors import InputError

    given = [name for text in names for name in text.split(",")]
    for option, value, scenario in (
        ("--streams", streams, "multi-stream"),
        ("--batches", batches, "offline"),
    ):
        if value is not None and scenario not in given:
            raise InputError(f"{option}: belongs to a scenario; give --scenario {scenario}, too")
    sizes = batches.split(",") if batches is not None else []
    if not all(size.isdecimal() for size in sizes):
        raise InputError(f"--batches {batches}: expected whole numbers with commas, such as 1,8,32")
    options: dict[str, Any] = {"scenarios": tuple(given), "batches": tuple(map(int, sizes))}
    return options if streams is None else options | {"streams": streams}


def sweep_words(context: typer.Context, sweep: list[str] | None) -> list[str]:
    """The settings of --sweep, those that follow it as further words among them.

    They join its values in `context`, too, which is what travels to another machine.

    Raises:
        InputError: words that no option asked for.
    """
    from edge_bench.errors import InputError

    extra = list(context.args)
    if extra and not (sweep and all("=" in word for word in extra)):
        raise InputError(f"unexpected argument {extra[0]!r}; see {context.command_path} --help")
    words = [*(sweep or []), *extra]
    context.params["sweep"] = words
    return words
