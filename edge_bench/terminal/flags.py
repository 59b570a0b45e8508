"""A command as a frozen value of its flags; and the flags that several commands share."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Annotated, Any, get_type_hints

import typer

Json = Annotated[bool, typer.Option("--json", help="Print a machine-readable summary.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite what --out names.")]


def command(name: str, flags: type[Any], run: Callable[[Any], None]) -> Callable[..., None]:
    """`run` as a command whose options are the fields of the dataclass `flags`.

    typer reads options from a signature; commands that share them would have to repeat it. A field
    whose type is a dataclass itself stands for the options of that one.
    """

    def invoke(**values: Any) -> None:
        run(_filled(flags, values))

    parameters = [_parameter(flag, hint) for flag, hint in _options(flags)]
    invoke.__name__, invoke.__doc__ = name, run.__doc__
    invoke.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return invoke


def _options(flags: type[Any]) -> Iterator[tuple[Field[Any], Any]]:
    """(field, type) of every option, in the order in which help shows them."""
    hints = get_type_hints(flags, include_extras=True)
    # A command's own options are what it is about: they come before those of its base.
    for flag in sorted(fields(flags), key=lambda flag: flag.name not in flags.__annotations__):
        if is_dataclass(hints[flag.name]):
            yield from _options(hints[flag.name])
        else:
            yield flag, hints[flag.name]


def _parameter(flag: Field[Any], hint: Any) -> inspect.Parameter:
    default = inspect.Parameter.empty if flag.default is MISSING else flag.default
    return inspect.Parameter(
        flag.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=flag.metadata.get("option", default),
        annotation=hint,
    )


def _filled(flags: type[Any], values: dict[str, Any]) -> Any:
    """A value of `flags` from the values of all options by name."""
    hints = get_type_hints(flags, include_extras=True)
    given = {}
    for flag in fields(flags):
        inner: type[Any] = hints[flag.name]
        nested = is_dataclass(inner)
        given[flag.name] = _filled(inner, values) if nested else values[flag.name]
    return flags(**given)
