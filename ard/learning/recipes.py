"""Recipes: training settings in TOML, read into and written from the frozen `TrainConfig`.

A setting is named by its dotted path in the config: `epochs`, `loss.ranking.k`. What exists, and
of which type it is, follows from the dataclasses, so a new field needs nothing here. A layer is a
dict of settings from one place; layers are merged in order, so that the later place wins:

    defaults of the dataclasses < recipe < --set < flags
"""

from __future__ import annotations

import difflib
import hashlib
import types
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin, get_type_hints

import tomli_w

from edge_bench.core.errors import InputError, first_line
from edge_bench.core.parse import toml_of
from edge_bench.core.spec import parse_epsilon
from edge_bench.files.store import TEXT, atomic_file, require_file

if TYPE_CHECKING:
    from ard.learning.config import TrainConfig
    from edge_bench.core.spec import ModelCard

Layer = dict[str, Any]

CONFIG = "config.toml"
SEAL = "# sha256 of all below: "
"""How the first line of a recipe begins that a run saved; people's own recipes have none."""
HEADER = "# The settings of a finished run; give this file to --config to repeat them.\n\n"

BUDGETS = ("epsilon", "step_size")
"""Settings that people write as fractions, such as "8/255"."""

BESIDE = {"description": str, "minutes": float}
"""What a recipe may say beside the config: a line for people, and a time to plan epochs for."""

NONE = {"unlabelled": "none"}
"""What takes a setting back that a recipe, or the card of weights, has."""

PLANNED = ("epoch_steps", "validate_every")
"""Settings that a time plans for one run: another one's --init does not take them over."""

IDENTITY = "_sha256"
"""Fields that end so say which files a run had; they are found, not chosen."""

EXPECTED = {
    int: "a whole number such as 5",
    float: "a number such as 0.1",
    bool: "true or false",
    str: 'text such as "ard"',
}


def presets() -> dict[str, Path]:
    """The recipes that come with ardx, by name."""
    folder = Path(__file__).parents[1] / "presets"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def find_recipe(name: str) -> Path:
    """The file that `--config` names: a preset of that name, or a path."""
    known = presets()
    if name in known:
        return known[name]
    if not Path(name).exists() and Path(name).name == name and not name.endswith(".toml"):
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}" if close else f"the presets are {', '.join(known)}"
        raise InputError(f"--config {name}: no such file, and no preset of that name; {hint}")
    return Path(name)


def read_recipe(path: Path) -> Layer:
    """Read a recipe file.

    Raises:
        InputError: unreadable, not TOML, with a setting that does not exist or is of another type,
            or with both epochs and minutes.
    """
    flat = _flat(read_toml(path))
    layer = {key: convert(key, value, f"{path}: {key}") for key, value in flat}
    refuse_both(layer, where=f"{path}: ")
    return layer


def read_toml(path: Path) -> dict[str, Any]:
    """What a recipe file says, unchecked.

    Raises:
        InputError: unreadable, not TOML, or saved by a run with other settings than it has now.
    """
    require_file(path, "a recipe in TOML")
    try:
        text = path.read_text(encoding=TEXT)
        found = toml_of(text)
    except ValueError as error:  # No TOML, no UTF-8, or beyond the bounds of `parse`.
        raise InputError(f"{path}: expected TOML, but {first_line(error)}; mend it there") from None
    first, _, below = text.partition("\n")
    if first.startswith(SEAL) and first.removeprefix(SEAL) != _sha256(below):
        raise InputError(
            f"{path}: expected the settings that a run saved, but they do not have the sha256 that "
            "the first line names: they were edited or damaged; copy the file again, or, where "
            "they were changed on purpose, take the first line out"
        )
    if not found:
        raise InputError(f"{path}: expected settings, found none; write lines such as epochs = 30")
    return found


def settings_of_card(card: ModelCard, *, distils: bool) -> Layer:
    """The settings by which weights were trained, as far as they are settings today.

    Args:
        distils: whether they are for `distill`; a method without a teacher is left out then.
    """
    from ard.learning.config import dotted
    from ard.methods.registry import METHODS

    known = setting_types()
    found = {key: value for key, value in dotted(card.recipe).items() if value is not None}
    layer = {k: convert(k, value, f"model card: {k}") for k, value in found.items() if k in known}
    layer |= {"dataset": card.dataset, "architecture": card.architecture}
    for planned in PLANNED:
        layer.pop(planned, None)
    if layer.get("method") not in METHODS or METHODS[layer["method"]].distils != distils:
        layer.pop("method", None)
    if layer.get("step_size") == layer.get("epsilon", 0) / 4:
        # It follows from the budget, and goes along where another is given.
        layer.pop("step_size", None)
    return layer


def parse_sets(assignments: list[str]) -> Layer:
    """Read the values of `--set`: `key=value`, the value in TOML or else plain text."""
    layer: Layer = {}
    for assignment in assignments:
        key, equals, text = (part.strip() for part in assignment.partition("="))
        if not (key and equals and text):
            raise InputError(
                f"--set {assignment}: expected key=value, such as --set loss.ranking.k=5"
            )
        for name, value in _flat({key: _toml_value(text)}):
            layer[name] = convert(name, value, f"--set {name}")
    refuse_both(layer, option="--set ")
    return layer


def refuse_both(layer: Layer, *, where: str = "", option: str = "") -> None:
    """Refuse a layer from one place with epochs and minutes, of which neither wins.

    Args:
        where: the place, as the sentence begins.
        option: what stands before the name of a setting there.

    Raises:
        InputError: both are in it.
    """
    if {"epochs", "minutes"} <= layer.keys():
        raise InputError(
            f"{where}{option}epochs {layer['epochs']} with {option}minutes {layer['minutes']:g}: "
            "the minutes choose the epochs; give one of the two"
        )


def _toml_value(text: str) -> Any:
    """The value that a TOML file would hold; plain text where it would not be TOML."""
    try:
        table = toml_of(f"value = {text}")
    except ValueError:
        return text
    return table["value"] if len(table) == 1 else text


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by dotted name; an empty table is nothing if it is one that may be filled."""
    for key, value in table.items():
        name = prefix + key
        if isinstance(value, dict) and (value or name in _sections()):
            yield from _flat(value, f"{name}.")
        else:
            yield name, value


def merge(*layers: Layer) -> Layer:
    """One layer of several; the later wins, and `epochs` also wins over an earlier `minutes`."""
    merged: Layer = {}
    for layer in layers:
        if "epochs" in layer:
            merged.pop("minutes", None)
        merged |= layer
    return merged


def build_config(settings: Layer) -> TrainConfig:
    """The frozen config of a merged layer; a step is a quarter of the budget unless given."""
    from ard.learning.config import TrainConfig

    quarter = {"step_size": settings["epsilon"] / 4}
    config: TrainConfig = _build(TrainConfig, quarter | settings, prefix="")
    return config


@cache
def _hints(kind: Any) -> dict[str, Any]:
    """The types of a class's fields, which Python parses anew whenever it is asked."""
    return get_type_hints(kind)


def _build(kind: Any, settings: Layer, prefix: str) -> Any:
    hints = _hints(kind)
    arguments: Layer = {}
    for field in fields(kind):
        name = prefix + field.name
        if is_dataclass(hints[field.name]):
            arguments[field.name] = _build(hints[field.name], settings, f"{name}.")
        elif name in settings:
            arguments[field.name] = settings[name]
    return kind(**arguments)


def write_config(path: Path, config: TrainConfig) -> None:
    """Write the config as a recipe that `read_recipe` turns into the same config."""
    text = f"{HEADER}{tomli_w.dumps(_table(config))}"
    with atomic_file(path, force=True) as partial:
        partial.write_text(f"{SEAL}{_sha256(text)}\n{text}", encoding="utf-8")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _table(config: Any) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        if value is None:
            # TOML has no null: what is left out takes its default, and that is None, unless
            # weights that training starts from have another.
            value = NONE.get(field.name)
        if value is None or field.name.endswith(IDENTITY):
            continue
        if is_dataclass(value):
            value = _table(value)
        elif isinstance(value, tuple):
            value = list(value)
        elif field.name in BUDGETS:
            value = _budget(value)
        table[field.name] = value
    return table


def _budget(value: float) -> str | float:
    """In whole 8-bit steps where that is the same number to the last bit."""
    levels = round(value * 255)
    return f"{levels}/255" if levels / 255 == value else value


def convert(key: str, value: Any, where: str) -> Any:
    """The value of a setting, in its type; `where` names it in a sentence.

    None where `NONE` says that it takes the setting back.
    """
    if key not in setting_types():
        raise InputError(f"{where}: {_unknown(key)}")
    if key in NONE and value == NONE[key]:
        return None
    if key in BUDGETS and isinstance(value, str | float | int) and not isinstance(value, bool):
        return parse_epsilon(str(value), where)
    found = _convert(value, setting_types()[key], where)
    if key == "minutes":
        # Not at the top, as the config below: it imports torch.
        from ard.learning.pace import check_minutes

        check_minutes(found, where)
    return found


def _unknown(key: str) -> str:
    known = list(setting_types())
    if key in _sections():
        return f"expected a table of settings such as {key}.{_sections()[key]}"
    # People leave out the path before they misspell a name.
    close = [name for name in known if name.rpartition(".")[2] == key]
    close = close or difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}" if close else f"expected one of {', '.join(known)}"
    return f"no such setting; {hint}"


def _convert(value: Any, kind: Any, where: str) -> Any:
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(member for member in get_args(kind) if member is not type(None))
    if get_origin(kind) is tuple:
        if isinstance(value, list | tuple):
            return tuple(_convert(item, get_args(kind)[0], where) for item in value)
        expected = f"a list, each {EXPECTED[get_args(kind)[0]]}"
        raise InputError(f"{where}: expected {expected}, came {value!r}")
    # A bool is an int to Python; a whole number is a float to people.
    numeric = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    if kind is float and (numeric or isinstance(value, float)):
        return float(value)
    if numeric if kind is int else isinstance(value, kind):
        return value
    raise InputError(f"{where}: expected {EXPECTED[kind]}, came {value!r}")


@cache
def setting_types() -> dict[str, Any]:
    """The type of every setting, by dotted name."""
    # Not at the top: `ardx recipes` lists files, and need not wait for torch.
    from ard.learning.config import TrainConfig

    return dict(_types(TrainConfig, "")) | BESIDE


def _types(kind: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    hints = _hints(kind)
    for field in fields(kind):
        if is_dataclass(hints[field.name]):
            yield from _types(hints[field.name], f"{prefix}{field.name}.")
        elif not field.name.endswith(IDENTITY):
            yield prefix + field.name, hints[field.name]


@cache
def _sections() -> dict[str, str]:
    """The tables of a recipe, each with a setting in it."""
    sections: dict[str, str] = {}
    for name in setting_types():
        section, _, setting = name.rpartition(".")
        while section:
            sections.setdefault(section, setting)
            outer, _, inner = section.rpartition(".")
            section, setting = outer, f"{inner}.{setting}"
    return sections
