"""State dicts in checkpoints of others: found wherever they lie, under the names of a network.

Training code saves weights bare, below a key (or two), beside an epoch and an optimiser, once as
they are and once averaged, and with what DataParallel, `torch.compile` and averaging put before
every name. All of it is dicts of tensors: each is a candidate, and the one that fits is taken.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path

import torch
from torch import Tensor

from edge_bench.core.errors import InputError

DEEPEST = 4
"""Dicts in dicts that are looked into; weights lie two deep at most in what is published."""

PLAIN = ("state_dict", "model_state_dict", "net", "model")
"""Where weights as they were trained usually lie, the likelier first."""
AVERAGED = re.compile(r"(^|_)(ema|swa|averaged?)(_|$)")
"""Of a key or a prefix: a moving average of the weights lies there."""
PREFIXES = (
    *("module.", "_orig_mod.", "model.", "network.", "net.", "backbone.", "ema_model."),
    *("0.", "1."),
)
"""What wrappers put before names: DataParallel, torch.compile, Lightning, a Sequential."""
COUNTERS = {"n_averaged", "num_updates", "initted", "step", "decay"}

_LAYER = r"(?:(?:data_?)?(?:normali[sz](?:e|er|ation)|norm|preprocess(?:ing|or)?)\.)?(?:new_)?"
_MEAN = re.compile(_LAYER + r"(mean|means|mu)$")
_STD = re.compile(_LAYER + r"(std|stds|sd|sds|sigma)$")

Tell = Callable[[str], None]


def say_nothing(sentence: str) -> None:
    """Of a `Tell`: the sentence is of no interest."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a person says about a published file that the file does not say itself.

    Attributes:
        key: where in the file the weights lie.
        mean, std: of the normalisation in front of the network, one value per channel.
        options: what the options begin with by which the person says it.
    """

    key: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    options: str = "--teacher-"

    def __post_init__(self) -> None:
        if len(self.mean or ()) != len(self.std or ()):
            raise InputError(f"{self.both}: expected both, of as many values, or neither")
        if not all(isfinite(value) for value in self.mean or ()):
            raise InputError(f"{self.options}mean {self.mean}: expected finite values")
        if not all(0 < value < inf for value in self.std or ()):
            raise InputError(f"{self.options}std {self.std}: expected values above 0")

    @property
    def both(self) -> str:
        """The options of the normalisation, for sentences."""
        return f"{self.options}mean and {self.options}std"

    def normalisation(self, channels: int) -> tuple[Tensor, Tensor] | None:
        """Mean and standard deviation as tensors; None where none were given."""
        if self.mean is None or self.std is None:
            return None
        if len(self.mean) != channels:
            raise InputError(
                f"{self.both}: expected {channels} values, one per channel of the images, came "
                f"{len(self.mean)}"
            )
        return torch.tensor(self.mean), torch.tensor(self.std)


AS_IT_IS = Reading()
"""Of a file that says everything itself."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A dict of tensors in a checkpoint; `key` is where it lies, empty for the file itself."""

    key: str
    tensors: dict[str, Tensor]

    @property
    def words(self) -> str:
        """Its place in a sentence."""
        return f"'{self.key}'" if self.key else "the top level"

    @property
    def rank(self) -> tuple[bool, int]:
        """What is taken first among those that fit: plain weights, in their usual places."""
        parts = self.key.split(".")
        usual = [PLAIN.index(part) for part in parts if part in PLAIN]
        averaged = any(AVERAGED.search(part) for part in parts)
        return averaged, -1 if not self.key else min(usual, default=len(PLAIN))


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A candidate under a network's names, its normalisation apart."""

    tensors: dict[str, Tensor]
    mean: Tensor | None
    std: Tensor | None

    def fits(self, own: Collection[str]) -> bool:
        """Whether these are a network's weights by name."""
        counted = {name for name in own if not name.endswith("num_batches_tracked")}
        return counted <= self.tensors.keys() <= set(own)

    def distance(self, own: Collection[str]) -> int:
        """How many names are missing or unknown."""
        return len(self.tensors.keys() ^ set(own))


def choose(
    data: object,
    own: Collection[str],
    rename: Callable[[str], str | None],
    path: Path,
    reading: Reading = AS_IT_IS,
    tell: Tell = say_nothing,
) -> Weights:
    """The weights in a loaded checkpoint that a network of the names `own` can take.

    Where none fit, those that are nearest; their names are the caller's to compare.

    Args:
        data: what `torch.load` gave: dicts of tensors, dicts and other values.
        own: names of the network's weights.
        rename: a name without prefixes to the network's; None for one that is not used.
        path: for messages.
        reading: says where the weights lie, where the user does.
        tell: told which are taken, where several fit.

    Raises:
        InputError: no tensors, none at `key`, or two that would have one name.
    """
    candidates = sorted(_candidates(data), key=lambda one: one.rank)
    if not candidates:
        raise InputError(f"{path}: expected a state dict of tensors, {_found(data)}")
    key = reading.key
    if key is not None:
        asked = [one for one in candidates if key == one.key]
        asked = asked or [one for one in candidates if key in one.key.split(".")]
        if not asked:
            keys = ", ".join(one.words for one in candidates)
            raise InputError(
                f"{path}: {reading.options}key {key}: no weights lie there, but at {keys}"
            )
        candidates = asked
    read = [(one, _named(one, own, rename, path)) for one in candidates]
    fitting = [(one, weights) for one, weights in read if weights.fits(own)]
    if len(fitting) > 1:
        others = ", ".join(one.words for one, _ in fitting[1:])
        tell(
            f"{path}: holds weights at {fitting[0][0].words}, which are taken, and at {others}; "
            f"{reading.options}key chooses"
        )
    chosen = fitting[0] if fitting else min(read, key=lambda pair: pair[1].distance(own))
    _require_ordinary(chosen[1].tensors, path)
    return chosen[1]


def names_a_normalisation(name: str) -> bool:
    """Whether a weight is by its name the mean of a normalisation."""
    return _MEAN.match(re.sub(r"^\d+\.", "", name)) is not None


def with_new_head(
    tensors: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    head: Collection[str],
    path: Path,
    tell: Tell,
) -> dict[str, Tensor]:
    """Weights with the head of the network itself where that of the file is another.

    A head of other names is left out where no other part of the network begins as they do; any
    other weight that does not fit is the caller's to compare.

    Args:
        head: names of the network's weights whose shapes follow the number of classes.
        tell: told what is made anew.
    """
    if all(name in tensors and tensors[name].shape == own[name].shape for name in head):
        return dict(tensors)
    body = {name.partition(".")[0] for name in own if name not in head}
    absent = not any(name in tensors for name in head)
    left_out = {
        name
        for name in tensors
        if name in head or (absent and name not in own and name.partition(".")[0] not in body)
    }
    rows = {tensors[name].shape[0] for name in left_out if tensors[name].ndim}
    classes = f"of {rows.pop()} outputs, " if len(rows) == 1 else ""
    theirs = ", ".join(sorted(left_out))
    whose = f"its head ({theirs}) is another" if left_out else "it has no head"
    tell(f"{path}: {whose}, {classes}and {', '.join(sorted(head))} are made anew, at random")
    kept = {name: tensor for name, tensor in tensors.items() if name not in left_out}
    return kept | {name: own[name] for name in head}


def contents(data: object) -> str:
    """What a loaded checkpoint holds at its top, for a sentence."""
    if not isinstance(data, Mapping):
        return f"a {type(data).__name__}"
    names = [str(name) for name in data]
    shown = ", ".join(names[:6]) or "nothing"
    return shown + (f", ... ({len(names)} names)" if len(names) > 6 else "")


def require_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse weights that no network computes with.

    Raises:
        InputError: NaN or infinity.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise InputError(
                f"{path}: {name} holds NaN or infinity, so that the network computes nothing; "
                "its training diverged or the file is damaged: give an earlier one"
            )


def _found(data: object) -> str:
    if isinstance(data, Mapping) and any(isinstance(value, Tensor) for value in data.values()):
        return (
            "found tensors whose names are no text (keys "
            f"{contents(data)}); save the network's state_dict()"
        )
    return f"found other values in it ({contents(data)}); save the network's state_dict()"


def _candidates(data: object, key: tuple[str, ...] = ()) -> Iterator[Candidate]:
    """Every dict that holds tensors by name; a flat one in parts, where averages lie in it too."""
    if not isinstance(data, Mapping) or len(key) > DEEPEST:
        return
    tensors = {n: t for n, t in data.items() if isinstance(n, str) and isinstance(t, Tensor)}
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        parts.setdefault(_averaged_prefix(name), {})[name.removeprefix("module.")] = tensor
    for prefix, part in parts.items():
        named = {name.removeprefix(f"{prefix}."): tensor for name, tensor in part.items()}
        yield Candidate(key=".".join((*key, prefix) if prefix else key), tensors=named)
    for name, value in data.items():
        if isinstance(name, str):
            yield from _candidates(value, (*key, name))


def _averaged_prefix(name: str) -> str:
    first, dot, _ = name.removeprefix("module.").partition(".")
    return first if dot and AVERAGED.search(first) else ""


def _named(
    candidate: Candidate, own: Collection[str], rename: Callable[[str], str | None], path: Path
) -> Weights:
    tensors: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    inside: dict[str, Tensor] = {}
    for name, tensor in candidate.tensors.items():
        ours = _without_wrappers(name, own, rename)
        if ours is None or _counts(ours, tensor, own):
            continue
        kind = "mean" if _MEAN.match(ours) else "std" if _STD.match(ours) else None
        target = f"{kind}, a normalisation" if kind and ours not in own else ours
        if target in origin and not torch.equal(candidate.tensors[origin[target]], tensor):
            raise InputError(
                f"{path}: {origin[target]} and {name} would both be {target}; save the "
                "state_dict() of the one network by itself"
            )
        origin[target] = name
        if kind and ours not in own:
            inside[kind] = tensor
        else:
            tensors[ours] = tensor
    return Weights(tensors=tensors, mean=inside.get("mean"), std=inside.get("std"))


def _without_wrappers(
    name: str, own: Collection[str], rename: Callable[[str], str | None]
) -> str | None:
    """The network's name of a weight; prefixes go until it is one, or none is left."""
    while True:
        ours = rename(name)
        if ours is None or ours in own or _MEAN.match(ours) or _STD.match(ours):
            return ours
        prefix = next((p for p in PREFIXES if name.startswith(p)), None)
        if prefix is None:
            return ours
        name = name.removeprefix(prefix)


def _counts(name: str, tensor: Tensor, own: Collection[str]) -> bool:
    """Whether a tensor that the network does not know is no weight, but a number beside them."""
    return name not in own and (tensor.ndim == 0 or name in COUNTERS)


def _require_ordinary(tensors: Mapping[str, Tensor], path: Path) -> None:
    for name, tensor in tensors.items():
        if tensor.is_meta:
            raise InputError(
                f"{path}: {name} is a meta tensor, a shape without values; save the network after "
                "it was materialised"
            )
        if tensor.layout != torch.strided or tensor.is_quantized:
            kind = "quantised" if tensor.is_quantized else "sparse"
            raise InputError(
                f"{path}: {name} is a {kind} tensor, expected a dense one of floats; save "
                f"{'.dequantize()' if tensor.is_quantized else '.to_dense()'} of it"
            )
