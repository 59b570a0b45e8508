"""Files: hashes, atomic writes, and JSON to and from the frozen values of `spec`."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import types
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import MISSING, asdict, fields, is_dataclass
from math import isfinite
from pathlib import Path
from tokenize import TokenError
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from edge_bench.core.errors import InputError, first_line
from edge_bench.core.formats import KEY, Format
from edge_bench.core.parse import LEAST, MOST, json_of, toml_of
from edge_bench.files.seals.content import sealed, unsealed

T = TypeVar("T")

TEXT = "utf-8-sig"
"""Encoding of what people may have edited: some editors put a byte order mark before UTF-8."""

BROKEN_ARRAY = (
    *(ValueError, TypeError, ArithmeticError, MemoryError, RecursionError),
    *(SyntaxError, TokenError),  # numpy reads the headers of Python 2 as it reads programs
)
"""What numpy raises for an array file whose header says what cannot be, each for its own reason."""


@contextmanager
def array_header() -> Iterator[None]:
    """Where numpy reads a header: its remark on those of Python 2 is for nobody here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def sha256_file(path: Path) -> str:
    """Hex digest of a file, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def identity(paths: list[Path]) -> tuple[str, int]:
    """(sha256, size in bytes) of a file; of several, the sha256 over their sha256s, and the sum."""
    hashes = [sha256_file(path) for path in paths]
    size = sum(path.stat().st_size for path in paths)
    if len(hashes) == 1:
        return hashes[0], size
    return hashlib.sha256("".join(hashes).encode()).hexdigest(), size


def public_path(path: Path) -> str:
    """A path as a file that travels may tell it: as it was given, or the name alone where it
    would tell of the machine that it was given on."""
    tells = path.is_absolute() or ".." in path.parts or path.parts[:1] == ("~",)
    return path.name if tells else path.as_posix()


def public_artifact(told: str) -> str:
    """`public_path` of how a run calls its artefact: a path, or `BUNDLE: NAME IN IT`."""
    bundle, inside, name = told.rpartition(": ")
    if inside and "/" not in name:
        return f"{public_path(Path(bundle))}: {name}"
    return public_path(Path(told))


def require_file(path: Path, what: str) -> Path:
    """Return `path`, or say that the file is missing or empty.

    A device, pipe or socket is not opened: some wait for ever, some never end.

    Raises:
        InputError: no such file, not a file, or no bytes in it.
    """
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "no file there"
        if path.exists() and not path.is_dir():
            kind = "a device, pipe or socket"
        raise InputError(f"{path}: expected {what}, found {kind}; check the path")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: expected {what}, found an empty file; make it again")
    return path


def refuse_existing(path: Path, force: bool) -> None:
    """Raise InputError where `path` exists and `--force` was not given.

    A link counts as what is there, whether or not it leads anywhere; with `force` it is replaced,
    and what it leads to stays.
    """
    if _is_taken(path) and not force:
        raise InputError(f"{path} exists already; choose another name or pass --force")


def refuse_existing_file(path: Path, force: bool) -> None:
    """`refuse_existing` for an output that is a file; with `force` too, nothing else is replaced.

    A rename onto a device takes it away from the whole machine, where the user may do so (root, in
    containers above all), and so does one onto a link to it such as /dev/stdout.
    """
    kind = "a folder" if path.is_dir() else None
    of_devices = path.is_symlink() and path.parent.resolve() == Path("/dev")
    if of_devices or (path.exists() and not (path.is_file() or path.is_dir())):
        kind = "a device, pipe or socket"
    if kind:
        raise InputError(f"{path}: expected the name of a file to write, found {kind}; name a file")
    refuse_existing(path, force)


def refuse_read(option: str, path: Path, inputs: Iterable[Path]) -> None:
    """Raise InputError where `path`, which `option` names to be written, is one of `inputs`."""
    for read in inputs:
        if same_place(path, read):
            raise InputError(
                f"{option} {path}: expected a file to write, came {read}, which is read; name "
                "another file"
            )


def same_place(one: Path, other: Path) -> bool:
    """Do two paths name one file, there or not?"""
    with suppress(OSError):
        return one.samefile(other)  # In other letters, too, where the file system takes no notice.
    return one.resolve() == other.resolve()


@contextmanager
def atomic_file(path: Path, force: bool) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it becomes `path` only when the block succeeds.

    It is on the disk before it has that name, so that a power cut leaves the old or the new file.
    What killed processes left there of the same kind is removed.
    """
    refuse_existing_file(path, force)
    path.parent.mkdir(parents=True, exist_ok=True)
    for stale in _left_behind(path.parent, path.stem, "partial", path.suffix):
        stale.unlink(missing_ok=True)
    # The suffix stays last: writers such as ONNX's choose their format by it.
    partial = path.with_name(f".{path.stem}.partial-{os.getpid()}{path.suffix}")
    try:
        yield partial
        sync(partial)
        # Nothing that appeared there meanwhile is replaced without --force.
        refuse_existing_file(path, force)
        partial.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise _naming(error, partial, path) from None
    finally:
        partial.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Let a file, or all that is in a folder, outlive a power cut."""
    if path.is_dir():
        for inside in path.iterdir():
            sync(inside)
        sync_folder(path)
        return
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Let a new or renamed file's name outlive a power cut, where the file system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def refuse_folder(path: Path, force: bool, marker: str) -> None:
    """`refuse_existing` for an output that is a folder.

    With `force` an older folder is replaced whole, so it must be empty or hold `marker`, the name
    of something that only an output of the same kind has.
    """
    refuse_existing(path, force)
    if path.name in ("", ".."):
        raise InputError(f"{path}: expected the name of a folder for --out; name one inside it")
    if path.is_dir() and any(path.iterdir()) and not (path / marker).exists():
        raise InputError(
            f"{path}: --force would replace this folder, but without {marker} in it it is no "
            "earlier output of this command; choose another --out"
        )
    if path.exists() and not path.is_dir():
        raise InputError(f"{path}: expected a folder name for --out, found a file; name a folder")


@contextmanager
def atomic_directory(path: Path, force: bool, marker: str) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; it becomes `path` only when the block succeeds.

    `force` and `marker` are those of `refuse_folder`.
    """
    _mend(path)
    refuse_folder(path, force, marker)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    retired = path.with_name(f".{path.name}.retired-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        sync(partial)
        if _is_taken(path):
            path.replace(retired)
        partial.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise _naming(error, partial, path) from None
    finally:
        if _is_taken(retired) and not _is_taken(path):
            retired.replace(path)
        shutil.rmtree(partial, ignore_errors=True)
        _remove(retired)


def _mend(path: Path) -> None:
    """Undo what a killed `atomic_directory` left; a folder that it had set aside comes back."""
    for retired in _left_behind(path.parent, path.name, "retired"):
        if _is_taken(path):
            _remove(retired)
        else:
            retired.replace(path)
    for partial in _left_behind(path.parent, path.name, "partial"):
        shutil.rmtree(partial, ignore_errors=True)


def _is_taken(path: Path) -> bool:
    """Is there anything of that name, be it a link that leads nowhere?"""
    return path.is_symlink() or path.exists()


def _remove(folder: Path) -> None:
    """Remove a folder with all in it; of a link to one the link alone."""
    if folder.is_symlink():
        folder.unlink(missing_ok=True)
    else:
        shutil.rmtree(folder, ignore_errors=True)


def _left_behind(folder: Path, stem: str, word: str, suffix: str = "") -> list[Path]:
    """Hidden files or folders for an output, by processes that are gone."""
    # One that was made for such a one has a number for each.
    numbers = rf"(?P<numbers>(\.{word}-\d+)+)"
    form = re.compile(rf"\.+{re.escape(stem)}{numbers}{re.escape(suffix)}")
    found = []
    for entry in folder.iterdir() if folder.is_dir() else ():
        match = form.fullmatch(entry.name)
        if match and not any(map(_runs, re.findall(r"\d+", match["numbers"]))):
            found.append(entry)
    return found


def _runs(number: str) -> bool:
    """Is there a process of that number?"""
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # Of another user; of no process that there can be.
        return True
    return True


def _naming(error: OSError, partial: Path, path: Path) -> OSError:
    """A failed write names no file or a temporary one; name the one that the user asked for."""
    named = error.filename
    ours = named is None or Path(str(named)).is_relative_to(partial)
    if error.errno is None or not ours:
        return error
    return OSError(error.errno, error.strerror, str(path))


def write_json(path: Path, value: Any, force: bool) -> None:
    """Write a dataclass or plain JSON value atomically, with a trailing newline."""
    with atomic_file(path, force) as partial, partial.open("w", encoding="utf-8") as file:
        # Piece by piece: the masks of a million images are not in memory once more as text.
        file.writelines(_json_pieces(value))
        file.write("\n")


def to_json(value: Any) -> str:
    """JSON text of a dataclass or of plain values; numbers that JSON lacks are refused."""
    return "".join(_json_pieces(value))


def _json_pieces(value: Any) -> Iterator[str]:
    plain = value
    if is_dataclass(value) and not isinstance(value, type):
        plain = sealed(type(value), asdict(value))
    return json.JSONEncoder(indent=2, allow_nan=False).iterencode(plain)


def read_json(path: Path, kind: type[T], what: str) -> T:
    """Read a versioned JSON file into the dataclass `kind`.

    Raises:
        InputError: missing, truncated, of a newer schema, or with missing or ill-typed fields.
    """
    return from_json(parsed_json(path, what), kind, str(path), what)


def parsed_json(path: Path, what: str) -> Any:
    """What a JSON file holds.

    Raises:
        InputError: missing, truncated, or no JSON.
    """
    require_file(path, what)
    try:
        return json_of(path.read_text(encoding=TEXT))
    except ValueError as error:
        raise InputError(f"{path}: expected {what} as JSON, but {error}; make it again") from None


def parsed_toml(path: Path, what: str, example: str) -> dict[str, Any]:
    """What a TOML file that people wrote holds; `example` is a line of such a file.

    Raises:
        InputError: missing, or no TOML.
    """
    require_file(path, what)
    try:
        return toml_of(path.read_text(encoding=TEXT))
    except ValueError as error:
        raise InputError(
            f"{path}: expected TOML, but {first_line(error)}; write lines such as {example}"
        ) from None


def from_json(data: Any, kind: type[T], origin: str, what: str) -> T:
    """Turn parsed JSON into the dataclass `kind`, checking every field.

    Older versions of a format are upgraded, and newer ones refused by name, wherever they stand: a
    report holds a model card, and either has a version of its own (see `formats`).

    Raises:
        InputError: missing or ill-typed fields, a newer version, or other content than was written.
    """
    if not isinstance(data, dict) or KEY not in data:
        raise InputError(f"{origin}: expected {what}, found JSON without a {KEY}")
    result: T = _decode(unsealed(data, kind, origin), kind, origin)
    return result


def typed(data: Any, kind: type[T], where: str) -> T:
    """`from_json` for JSON that has no version, as an answer of a board.

    Raises:
        InputError: fields that are missing, unknown or of another type.
    """
    result: T = _decode(data, kind, where)
    return result


def _decode(value: Any, kind: Any, where: str) -> Any:
    """Check `value` against the type `kind` and build it, naming the field that fails."""
    origin = get_origin(kind)
    if kind is Any:
        return value
    if origin in (Union, types.UnionType):
        if value is None and type(None) in get_args(kind):
            return None
        return _decode(value, next(a for a in get_args(kind) if a is not type(None)), where)
    if is_dataclass(kind) and isinstance(kind, type):
        return _decode_dataclass(value, kind, where)
    if origin is tuple:
        arguments = get_args(kind)
        if isinstance(value, list):
            if arguments[-1] is Ellipsis:
                return tuple(_decode(v, arguments[0], where) for v in value)
            if len(value) == len(arguments):
                return tuple(_decode(v, a, where) for v, a in zip(value, arguments, strict=True))
    elif origin is dict:
        if isinstance(value, dict):
            return {key: _decode(v, get_args(kind)[1], where) for key, v in value.items()}
    elif kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(_in_range(value, where))
    elif isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return _in_range(value, where) if kind is int else value
    name, found = getattr(kind, "__name__", str(kind)), type(value).__name__
    if origin is tuple:
        arguments = get_args(kind)
        name = "a list" if arguments[-1] is Ellipsis else f"a list of {len(arguments)}"
        found = f"a list of {len(value)}" if isinstance(value, list) else found
    raise InputError(f"{where}: expected {name}, found {found}; make the file again")


def _in_range(value: float, where: str) -> float:
    if LEAST <= value <= MOST if isinstance(value, int) else isfinite(value):
        return value
    raise InputError(
        f"{where}: expected a finite number of at most 64 bits, found another; make the file again"
    )


def _decode_dataclass(value: Any, kind: type[Any], where: str) -> Any:
    if not isinstance(value, dict):
        raise InputError(
            f"{where}: expected fields of {kind.__name__}, found {type(value).__name__}"
        )
    if isinstance(format_ := getattr(kind, "FORMAT", None), Format):
        value = format_.upgraded(value, where)
    hints = get_type_hints(kind)
    known = {f.name: f for f in fields(kind)}
    if unknown := sorted(value.keys() - known.keys()):
        raise InputError(f"{where}: unknown field {unknown[0]!r}; was it edited by hand?")
    required = {
        name for name, f in known.items() if f.default is MISSING and f.default_factory is MISSING
    }
    if missing := sorted(required - value.keys()):
        raise InputError(f"{where}: field {missing[0]!r} is missing; make the file again")
    decoded = {k: _decode(v, hints[k], f"{where}: {k}") for k, v in value.items()}
    try:
        return kind(**decoded)
    except InputError as error:
        raise InputError(f"{where}: {error}; make the file again") from None
