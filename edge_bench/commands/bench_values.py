"""What people write in the options of `bench`, as the values that a run takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from edge_bench.commands.console import warn

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edge_bench.options.engine import EngineOptions
    from edge_bench.options.square import SquareOptions


def require_host(
    host: list[str] | None,
    wheels: Path | None,
    remote_python: str | None,
    ssh_config: Path | None,
) -> None:
    """Refuse options of another machine without --host."""
    from edge_bench.core.errors import InputError

    given = {"--wheels": wheels, "--remote-python": remote_python, "--ssh-config": ssh_config}
    named = [option for option, value in given.items() if value is not None]
    if named and not host:
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


def square_of(
    attack: str | None,
    queries: int | None,
    epsilon: str | None,
    seed: int | None,
    attack_all: bool,
) -> SquareOptions | None:
    """The attack on the spot, None where none was asked for."""
    from edge_bench.core.errors import InputError
    from edge_bench.core.spec import parse_epsilon
    from edge_bench.files.sets import grid_radius
    from edge_bench.options.square import SquareOptions

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
    """How TensorRT builds its engine."""
    from edge_bench.core.errors import InputError
    from edge_bench.options.engine import EngineOptions

    given = {
        "--workspace-mib": workspace_mib,
        "--tuned-batch": tuned_batch,
        "--engine-cache": cache,
    }
    named = [option for option, value in given.items() if value is not None]
    if named and backend not in ("trt", "all"):
        raise InputError(f"{named[0]}: belongs to TensorRT; give --backend trt, too")
    defaults = EngineOptions()
    return EngineOptions(
        cache=cache or defaults.cache,
        workspace_mib=workspace_mib,
        tuned_batch=defaults.tuned_batch if tuned_batch is None else tuned_batch,
        max_batch=max(batch_size, 1),
    )


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


def scenarios_of(names: list[str], streams: int | None, batches: str | None) -> dict[str, Any]:
    """The options of BenchOptions that say what is timed besides."""
    from edge_bench.core.errors import InputError

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
    from edge_bench.core.errors import InputError

    extra = list(context.args)
    if extra and not (sweep and all("=" in word for word in extra)):
        raise InputError(f"unexpected argument {extra[0]!r}; see {context.command_path} --help")
    words = [*(sweep or []), *extra]
    context.params["sweep"] = words
    return words
