"""JSON and TOML that others wrote, bounded: a text is refused before it can exhaust a stack.

The parsers of the standard library end in a RecursionError for deep texts and read NaN, numbers of
any size, and the last of two fields of one name. Here each of these is a ValueError that says so.
"""

from __future__ import annotations

import json
import sys
from math import isfinite
from typing import Any, NoReturn

DEEPEST = 64
"""Levels of lists and fields within one another; no file of ours has more than ten."""

MOST, LEAST = 2**63 - 1, -(2**63)
"""Whole numbers that TOML, arrays and most other readers of JSON can hold."""


def json_of(text: str | bytes) -> Any:
    """What a JSON text holds.

    Raises:
        ValueError: no JSON, or one beyond the bounds of this module; in a few words.
    """
    try:
        found = json.loads(text, object_pairs_hook=_once_each, parse_constant=_no_number)
    except RecursionError:
        raise _too_deep() from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise
    except ValueError as error:
        raise _told(error) from None
    _check(found)
    return found


def toml_of(text: str) -> dict[str, Any]:
    """What a TOML text holds.

    Raises:
        ValueError: no TOML, or one beyond the bounds of this module; in a few words.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        found = tomllib.loads(text)
    except RecursionError:
        raise _too_deep() from None
    except tomllib.TOMLDecodeError:
        raise
    except ValueError as error:
        raise _told(error) from None
    _check(found)
    return found


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {twice[:40]!r} stands twice in it")
    return found


def _no_number(constant: str) -> NoReturn:
    raise ValueError(f"{constant} stands in it, which is no number")


def _told(error: ValueError) -> ValueError:
    """Python's refusal of very long numbers speaks of a setting that nobody should touch."""
    if "integer string conversion" in str(error):
        return _too_large()
    return error


def _too_large() -> ValueError:
    return ValueError("a number in it is too large (more than 64 bits)")


def _too_deep() -> ValueError:
    return ValueError(f"it is nested more than {DEEPEST} deep")


def _check(found: Any) -> None:
    """Hold numbers and depth to their bounds, without recursion."""
    level, deep = [found], 0
    while level:
        below: list[Any] = []
        for value in level:
            kind = type(value)
            if kind is int:
                if not LEAST <= value <= MOST:
                    raise _too_large()
            elif kind is float:
                if not isfinite(value):
                    raise ValueError("a number in it is infinite or none at all")
            elif kind in (dict, list):
                if deep == DEEPEST:
                    raise _too_deep()
                below.extend(value.values() if kind is dict else value)
        level, deep = below, deep + 1
