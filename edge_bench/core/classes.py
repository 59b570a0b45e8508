"""The names of a model's classes, by which pictures, sets and teachers are matched to it.

A count of classes says nothing of their order. Where both sides have names, names decide; a model
of before they were kept has none, and then only the count can be compared.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from edge_bench.core.errors import InputError

ClassNames = tuple[str, ...]
SHOWN = 6
MOST_CLASSES = 1 << 20
"""Far above any classifier: figures by class take memory for each."""


def check_count(classes: int, where: str) -> None:
    """Refuse a number of classes that no classifier has.

    Raises:
        InputError: says what came.
    """
    if not 2 <= classes <= MOST_CLASSES:
        raise InputError(f"{where}: expected 2 to {MOST_CLASSES} classes, came {classes}")


def check_names(names: ClassNames | None, classes: int, where: str) -> None:
    """Refuse names that are not one for each class; None where they are not told.

    Raises:
        InputError: says what came.
    """
    if names is not None and (len(names) != classes or len(set(names)) != classes):
        raise InputError(
            f"{where}: expected {classes} different class names, came {len(set(names))} in "
            f"{len(names)}"
        )


def in_order(names: Sequence[str]) -> list[str]:
    """Names of folders as classes count them: numbers as numbers, anything else as text."""
    if _are_numbers(names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def composed(name: str) -> str:
    """A name with one character for a letter and its accent: macOS stores two."""
    return unicodedata.normalize("NFC", name)


def _are_numbers(names: Sequence[str]) -> bool:
    return all(name.isascii() and name.isdecimal() for name in names)


def shown(names: Sequence[str]) -> str:
    """A list of names that fits into a sentence."""
    text = ", ".join(repr(name) for name in names[:SHOWN])
    return f"{text}, ... ({len(names)} in all)" if len(names) > SHOWN else text


def indices_of(found: Sequence[str], known: ClassNames, where: str) -> list[int]:
    """The index among the classes `known` of each name in `found`.

    See `are_indices` for names that are numbers.

    Raises:
        InputError: a name that the model does not know; gives both lists.
    """
    position = {name: index for index, name in enumerate(known)}
    strangers = [name for name in found if name not in position]
    if not strangers:
        return [position[name] for name in found]
    if are_indices(found, known):
        return [int(name) for name in found]
    raise InputError(
        f"{where}: class {strangers[0]!r} is none of the model's; found {shown(found)}, expected "
        f"some of {shown(known)}; rename the classes as the model names them"
    )


def are_indices(found: Sequence[str], known: ClassNames) -> bool:
    """Are the names `found` the numbers 0 to C - 1, and none of the C names `known` a number?

    Then they stand for indices, as the folders '0' to '99' of CIFAR-100 do. Of a part of the
    numbers nobody could tell whether they count from 0.
    """
    if not _are_numbers(found) or any(_are_numbers([name]) for name in known):
        return False
    return sorted(map(int, found)) == list(range(len(known)))


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
