"""The expressions of GitHub's workflows, as far as this project's own files use them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

TOKEN = re.compile(r"\s*('(?:[^']|'')*'|&&|\|\||==|!=|!|\(|\)|[\w.-]+)")
EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)


def value_of(text: str, contexts: Mapping[str, Any]) -> Any:
    """The value of one expression; `contexts` holds names, and functions without arguments."""
    tokens = TOKEN.findall(text)
    assert "".join(tokens) == re.sub(r"\s+(?=(?:[^']*'[^']*')*[^']*$)", "", text), text
    value, left = _either(tokens, contexts)
    assert not left, f"not understood: {text}"
    return value


def filled(text: Any, contexts: Mapping[str, Any]) -> str:
    """A value of a file with every `${{ }}` in it replaced, as text."""
    return EXPRESSION.sub(lambda match: _text(value_of(match[1], contexts)), _text(text))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def _either(tokens: list[str], contexts: Mapping[str, Any]) -> tuple[Any, list[str]]:
    value, left = _both(tokens, contexts)
    while left[:1] == ["||"]:
        other, left = _both(left[1:], contexts)
        value = value or other
    return value, left


def _both(tokens: list[str], contexts: Mapping[str, Any]) -> tuple[Any, list[str]]:
    value, left = _compared(tokens, contexts)
    while left[:1] == ["&&"]:
        other, left = _compared(left[1:], contexts)
        value = value and other
    return value, left


def _compared(tokens: list[str], contexts: Mapping[str, Any]) -> tuple[Any, list[str]]:
    value, left = _one(tokens, contexts)
    if left[:1] in (["=="], ["!="]):
        sign = left[0]
        other, left = _one(left[1:], contexts)
        value = (_text(value).lower() == _text(other).lower()) == (sign == "==")
    return value, left


def _one(tokens: list[str], contexts: Mapping[str, Any]) -> tuple[Any, list[str]]:
    first, left = tokens[0], tokens[1:]
    if first == "!":
        value, left = _one(left, contexts)
        return not value, left
    if first == "(":
        value, left = _either(left, contexts)
        assert left[0] == ")", tokens
        return value, left[1:]
    if first.startswith("'"):
        return first[1:-1].replace("''", "'"), left
    if left[:2] == ["(", ")"]:
        return contexts[first](), left[2:]
    value = contexts
    for name in first.split("."):
        # What is not there is empty, as on GitHub.
        value = value.get(name, "") if isinstance(value, Mapping) else ""
    return value, left
