"""The ways from a picture's file to an image, by name. To add one: a file here, and an entry.

A file has `steps`, of a `Wish`, and `versions`. It is imported when its pipeline is asked for, so
that help can name all of them where nothing is installed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from edge_bench.backends.packages import Package
from edge_bench.core.errors import CapabilityError, InputError, first_line
from edge_bench.core.pictures.preprocessing import Preprocessing
from edge_bench.core.pictures.walked import CARD
from edge_bench.files.code.own_function import Wanted, function_of, names_function, source_of

Step = Callable[[Any, Path], Any]
"""What the step before gave (None before the first) and the file, to what the next one takes."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """The image that is wanted of a picture.

    Attributes:
        preprocessing: None takes pictures as they are.
        channels: 1 or 3.
    """

    preprocessing: Preprocessing | None
    channels: int


@dataclass(frozen=True, kw_only=True)
class Way:
    """A pipeline, opened: from a file to (H, W, 3) or (H, W) uint8, or to a model's input.

    Attributes:
        steps: by their names, in their order; the first is given None.
        source_sha256: of a user's own function.
    """

    name: str
    steps: tuple[tuple[str, Step], ...]
    versions: dict[str, str] = field(default_factory=dict)
    source_sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """A way that is known by a name.

    Attributes:
        file: the file in this folder that has it.
        text: what it is, for people.
        package: what it needs besides what every command needs.
        mend: what brings that where it is not here.
    """

    file: str
    text: str
    package: Package
    mend: str

    def open(self, name: str, wish: Wish) -> Way:
        """The steps to the image that is wanted.

        Raises:
            CapabilityError: its library is not here.
        """
        if not self.package.is_here():
            raise CapabilityError(
                f"--pipeline {name}: {self.package.requirement} is not installed; {self.mend}"
            )
        module = import_module(f"edge_bench.pictures.{self.file}")
        return Way(name=name, steps=tuple(module.steps(wish)), versions=module.versions())


PIPELINES: dict[str, Pipeline] = {
    CARD: Pipeline(
        file="card",
        text="what the card says, by Pillow, as in training",
        package=Package(module="PIL", requirement="pillow>=10"),
        mend="pip install 'ardx[pictures]'",
    ),
    "opencv": Pipeline(
        file="opencv",
        text="the same size and crop by OpenCV's imdecode and resize (INTER_LINEAR)",
        package=Package(
            module="cv2",
            requirement="opencv-python-headless>=4.5",
            others=("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless"),
        ),
        mend="pip install opencv-python-headless, or your board's own package of OpenCV",
    ),
}


def open_way(name: str, wish: Wish) -> Way:
    """The pipeline of a name, or a user's own.

    Raises:
        InputError: neither a name nor a function that can be imported.
        CapabilityError: its library is not here.
    """
    if name in PIPELINES:
        return PIPELINES[name].open(name, wish)
    if not names_function(name):
        raise InputError(
            f"--pipeline {name}: expected {', '.join(PIPELINES)}, or MODULE:FUNCTION of yours"
        )
    wanted = Wanted(
        what="--pipeline",
        name=name,
        does="from a picture's path to the model's input, or to (height, width, 3) uint8",
    )
    function = function_of(wanted)

    def call(_: Any, path: Path) -> Any:
        try:
            return function(path)
        # A function of the user's fails in any way; what it says is handed on.
        except (Exception, SystemExit) as error:
            raise InputError(
                f"--pipeline {name}: failed on {path} with {type(error).__name__} "
                f"({first_line(error)}); it is called with the path alone"
            ) from None

    return Way(name=name, steps=(("pipeline", call),), source_sha256=source_of(wanted).sha256)
