"""Functions of the user's own, given as `PACKAGE.MODULE:FUNCTION`, and where they are written.

A module is found without running it; what a user writes on the command line is theirs to run.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from edge_bench.core.errors import InputError, first_line

_IMPORTED = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*):([^\W\d]\w*)")

_digests: dict[str, str] = {}
"""Of what was imported here: its source then, by the module's name."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """The source of a module, found and not run.

    Attributes:
        module: dotted name.
        root: the folder on the path that it was found in.
        files: of the module, the packages around it, and what it imports from beside it.
    """

    module: str
    root: Path
    files: tuple[Path, ...]

    @property
    def sha256(self) -> str:
        """Of all files with their names below the root; line ends as git may change them."""
        digest = hashlib.sha256()
        for file in self.files:
            text = file.read_bytes().replace(b"\r\n", b"\n")
            name = file.relative_to(self.root).as_posix().encode()
            digest.update(hashlib.sha256(name).digest() + hashlib.sha256(text).digest())
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A function of the user's that was asked for.

    Attributes:
        what: asks for it, in sentences: `architecture`, `--pipeline`.
        name: `PACKAGE.MODULE:FUNCTION`.
        does: what the function is expected to do, in words.
    """

    what: str
    name: str
    does: str

    def __str__(self) -> str:
        return f"{self.what} {self.name}"

    @property
    def module(self) -> str:
        """Dotted name of the module."""
        return self.name.partition(":")[0]


def names_function(text: str) -> bool:
    """Whether a text is `PACKAGE.MODULE:FUNCTION`."""
    return _IMPORTED.fullmatch(text) is not None


def source_of(wanted: Wanted) -> Source:
    """Where the function of `PACKAGE.MODULE:FUNCTION` is written; nothing is run.

    The working folder comes first, then what is installed.

    Raises:
        InputError: no such module, or one that is not written in Python.
    """
    module = wanted.module
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names:
        raise InputError(
            f"{wanted}: {top} is a module of Python itself; give a module of yours that has a "
            f"function {wanted.does}"
        )
    for folder in dict.fromkeys([Path.cwd(), *(Path(entry) for entry in sys.path if entry)]):
        chain = _chain(module, folder)
        if chain:
            return Source(module=module, root=folder, files=_closure(chain, folder, top))
    raise InputError(
        f"{wanted}: there is no module {module} in the working folder "
        f"({Path.cwd()}), and none is installed; run ardx in the folder where {top} lies, or "
        "install it"
    )


def function_of(wanted: Wanted) -> Callable[..., Any]:
    """Import the module and give the function.

    Raises:
        InputError: it cannot be imported, or has no such function.
    """
    module, _, name = wanted.name.partition(":")
    source = source_of(wanted)
    _forget_others(source)
    root, before = str(source.root), list(sys.path)
    # As `python -m` has it, but only meanwhile: afterwards a file there hides nothing installed.
    sys.path.insert(0, root)
    try:
        found = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        raise InputError(
            f"{wanted}: importing {module} from {source.root} failed with "
            f"{type(error).__name__} ({first_line(error)})"
        ) from None
    finally:
        sys.path[:] = before if root in before else [*before, root]
    _digests[module] = source.sha256
    function = getattr(found, name, None)
    if not callable(function):
        known = [key for key, value in vars(found).items() if _is_own(value, module)]
        raise InputError(
            f"{wanted}: {source.files[-1]} has no function {name}; expected one "
            f"of {', '.join(known) or 'its functions, and it has none'}"
        )
    found_function: Callable[..., Any] = function
    return found_function


def _is_own(value: object, module: str) -> bool:
    return callable(value) and getattr(value, "__module__", None) == module


def _forget_others(source: Source) -> None:
    """Drop what was imported under these names from another file, or before the source changed."""
    there = sys.modules.get(source.module)
    if there is None:
        return
    file = getattr(there, "__file__", None)
    same = file is not None and Path(file).resolve() == source.files[-1].resolve()
    if same and _digests.get(source.module, source.sha256) == source.sha256:
        return
    importlib.invalidate_caches()
    for name in [name for name, one in sys.modules.items() if _lies_in(one, source, there)]:
        del sys.modules[name]


def _lies_in(module: object, source: Source, there: object) -> bool:
    """Whether a module is of the source's files, or of the package that takes their place."""
    name, top = getattr(module, "__name__", ""), source.module.partition(".")[0]
    file = getattr(module, "__file__", None)
    return (
        module is there
        or name.partition(".")[0] == top
        or (file is not None and Path(file) in source.files)
    )


def _chain(module: str, folder: Path) -> list[Path]:
    """Files of the packages around a module and its own, below `folder`; empty: not there.

    `importlib.util.find_spec` would run the packages around it.
    """
    files: list[Path] = []
    places = [str(folder)]
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        spec: ModuleSpec | None = PathFinder.find_spec(parts[depth - 1], places)
        if spec is None:
            return []
        if spec.has_location and spec.origin and spec.origin.endswith(".py"):
            files.append(Path(spec.origin))
        elif spec.origin is not None or depth == len(parts):
            return []
        places = list(spec.submodule_search_locations or [])
    return files


def _closure(chain: list[Path], root: Path, top: str) -> tuple[Path, ...]:
    """A module's chain, and before it what it imports from its own package or working folder."""
    own = root == Path.cwd()
    found: list[Path] = list(chain)
    waiting = list(chain)
    while waiting:
        file = waiting.pop()
        for name in _imports(file, root):
            if not own and name.partition(".")[0] != top:
                continue
            new = [each for each in _chain(name, root) if each not in found]
            found += new
            waiting += new
    return (*sorted(set(found) - {chain[-1]}), chain[-1])


def _imports(file: Path, root: Path) -> Iterator[str]:
    """Dotted names that a file's import statements may mean, wherever in it they stand."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return  # Importing it will say so.
    package = file.relative_to(root).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            around = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*around, *filter(None, [node.module])))
            yield from [base] if base else []
            yield from (".".join(filter(None, [base, alias.name])) for alias in node.names)
