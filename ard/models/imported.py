"""Architectures of the user's own: a function in a module, given as `PACKAGE.MODULE:FUNCTION`.

A weights file names its architecture, so that reading one could run whatever module it names. A
module is therefore found without running it, and of a file's card it is imported only where its
source has the digest that the card holds; what a user writes on the command line is theirs to run.
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

from torch import nn

from edge_bench.core.errors import InputError, first_line

_IMPORTED = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*):([^\W\d]\w*)")

Constructor = Callable[[int], object]
"""A function of the user's: the number of classes to a network."""

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


def is_imported(architecture: str) -> bool:
    """Whether a text is `PACKAGE.MODULE:FUNCTION`."""
    return _IMPORTED.fullmatch(architecture) is not None


def source_of(architecture: str) -> Source:
    """Where the function of `PACKAGE.MODULE:FUNCTION` is written; nothing is run.

    The working folder comes first, then what is installed.

    Raises:
        InputError: no such module, or one that is not written in Python.
    """
    module, _ = _parts(architecture)
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names:
        raise InputError(
            f"architecture {architecture}: {top} is a module of Python itself; give a module of "
            "yours that has a function from the number of classes to a network"
        )
    for folder in dict.fromkeys([Path.cwd(), *(Path(entry) for entry in sys.path if entry)]):
        chain = _chain(module, folder)
        if chain:
            return Source(module=module, root=folder, files=_closure(chain, folder, top))
    raise InputError(
        f"architecture {architecture}: there is no module {module} in the working folder "
        f"({Path.cwd()}), and none is installed; run ardx in the folder where {top} lies, or "
        "install it"
    )


def source_sha256(architecture: str) -> str | None:
    """The digest of the source of an architecture that is imported; None for all others."""
    return source_of(architecture).sha256 if is_imported(architecture) else None


def imported_network(architecture: str, classes: int) -> nn.Module:
    """What the user's function makes of the number of classes.

    Raises:
        InputError: it cannot be imported or called, or makes no `nn.Module`.
    """
    module, name = _parts(architecture)
    function = _function(architecture, module, name)
    try:
        network = function(classes)
    # A function of the user's fails in any way; what it says is handed on.
    except Exception as error:
        raise InputError(
            f"architecture {architecture}: {name}({classes}) failed with "
            f"{type(error).__name__} ({first_line(error)}); it is called with the number of "
            "classes alone"
        ) from None
    if not isinstance(network, nn.Module):
        raise InputError(
            f"architecture {architecture}: {name}({classes}) gave a {type(network).__name__}, "
            "expected a torch.nn.Module from images to logits"
        )
    return network


def check_source(origin: str, architecture: str, sha256: object) -> None:
    """Refuse to import, for a file that names it, a module that is not the one it was made with.

    Args:
        origin: the file.
        sha256: what its card says of the source.

    Raises:
        InputError: the module is not there, or its source is another.
    """
    renew = f"adopt the weights anew: ardx adopt {origin} --arch {architecture} --dataset ..."
    try:
        source = source_of(architecture)
    except InputError as error:
        raise InputError(f"{origin}: {error}") from None
    if not isinstance(sha256, str):
        raise InputError(
            f"{origin}: names {architecture}, but not the source that it was made with, so that "
            f"nothing is imported; if you trust it, {renew}"
        )
    if sha256 != source.sha256:
        raise InputError(
            f"{origin}: was made with another source of {architecture} than {source.files[-1]} is "
            f"now (sha256 {sha256[:12]}..., found {source.sha256[:12]}...), and is not imported; "
            f"bring that source back, or {renew}"
        )


def _parts(architecture: str) -> tuple[str, str]:
    found = _IMPORTED.fullmatch(architecture)
    assert found, architecture
    return found[1], found[2]


def _function(architecture: str, module: str, name: str) -> Constructor:
    source = source_of(architecture)
    _forget_others(source)
    if str(source.root) not in sys.path:
        # As `python -m` has it; what the module imports later is found as well.
        sys.path.insert(0, str(source.root))
    try:
        found = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        raise InputError(
            f"architecture {architecture}: importing {module} from {source.root} failed with "
            f"{type(error).__name__} ({first_line(error)})"
        ) from None
    _digests[module] = source.sha256
    function = getattr(found, name, None)
    if not callable(function):
        known = [key for key, value in vars(found).items() if _is_own(value, module)]
        raise InputError(
            f"architecture {architecture}: {source.files[-1]} has no function {name}; expected one "
            f"of {', '.join(known) or 'its functions, and it has none'}"
        )
    constructor: Constructor = function
    return constructor


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
