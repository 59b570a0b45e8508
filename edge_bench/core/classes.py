"""The names of a model's classes, by which pictures, sets and teachers are matched to it.

A count of classes says nothing of their order. Where both sides have names, names decide; a model
of before they were kept has none, and then only the count can be compared.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge_bench.core.errors import InputError

ClassNames = tuple[str, ...]
SHOWN = 6


def in_order(names: Sequence[str]) -> list[str]:
    """Names of folders as classes count them: numbers as numbers, anything else as text."""
    if _are_numbers(names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def _are_numbers(names: Sequence[str]) -> bool:
    return all(name.isascii() and name.isdecimal() for name in names)


def shown(names: Sequence[str]) -> str:
    """A list of names that fits into a sentence."""
    text = ", ".join(repr(name) for name in names[:SHOWN])
    return f"{text}, ... ({len(names)} in all)" if len(names) > SHOWN else text


def indices_of(found: Sequence[str], known: ClassNames, where: str) -> list[int]:
    """The index among the classes `known` of each name in `found`.

    Names that are numbers, all below the number of classes, stand for indices where the model's
    own names are words.

    Raises:
        InputError: a name that the model does not know; gives both lists.
    """
    position = {name: index for index, name in enumerate(known)}
    strangers = [name for name in found if name not in position]
    if not strangers:
        return [position[name] for name in found]
    if len(strangers) == len(found) and _are_numbers(found) and max(map(int, found)) < len(known):
        return [int(name) for name in found]
    raise InputError(
        f"{where}: class {strangers[0]!r} is none of the model's; found {shown(found)}, expected "
        f"some of {shown(known)}; rename the classes as the model names them"
    )


def require_same(ours: ClassNames | None, theirs: ClassNames | None, where: str, what: str) -> None:
    """Refuse classes of other names, or in another order, where both sides have names.

    Args:
        ours: what is expected, `what` in words.
        theirs: those of `where`.
    """
    if ours is None or theirs is None or ours == theirs:
        return
    reason = "in another order" if set(ours) == set(theirs) else "of other names"
    raise InputError(
        f"{where}: classes {reason}: {shown(theirs)}, but {what} has {shown(ours)}; give one of "
        "the same classes"
    )
