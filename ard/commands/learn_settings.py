"""The settings of `teach` and `distill`: what was asked for, and what follows from the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ard.commands import flags as o
from ard.commands.learn_flags import LearningFlags
from ard.methods.registry import ANCHORS, SURER, constants_read, method_named
from edge_bench.core.errors import InputError
from edge_bench.terminal.console import say

if TYPE_CHECKING:
    from ard.data.splits import Dataset
    from ard.learning.recipes import Layer
    from ard.learning.teacher import Teacher

USUAL_ANCHOR = "igdm"
WITH_USUAL_ANCHOR: Layer = {"loss.teacher_temperature": SURER}
"""What ARD has on its usual anchor: so it won on unused images (docs/results/methods_search.md)."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The settings of a command, in layers.

    Attributes:
        defaults: of the command.
        given: by the card of weights, a recipe, --set and flags.
        chooses: whether what was given beside settings has a say between the two.
    """

    defaults: Layer
    given: Layer
    chooses: bool

    def settings(self, chosen: Layer | None = None) -> Layer:
        """All of them in one."""
        from ard.learning.recipes import merge

        found = merge(self.defaults, chosen or {}, self.given)
        is_usual = (
            found["method"] == "ard" and found.get("loss.anchor", USUAL_ANCHOR) == USUAL_ANCHOR
        )
        return WITH_USUAL_ANCHOR | found if is_usual else found


def asked_of(flags: LearningFlags, defaults: Layer, start: Layer, distils: bool) -> Asked:
    """All settings that were given, the most explicit last; `start` is of the weights' card."""
    from ard.learning.recipes import (
        convert,
        find_recipe,
        merge,
        parse_sets,
        read_recipe,
        refuse_both,
    )

    given = {
        key: convert(key, value, option)
        for key, option, value in o.settings_of(flags)
        if value is not None
    }
    refuse_both(given, option="--")
    recipe = read_recipe(find_recipe(flags.config)) if flags.config else {}
    sets = parse_sets(flags.sets or [])
    method = merge(defaults, start, recipe, sets, given).get("method")
    if start.get("method") != method:
        # What the weights' own method has by default would pass for asked for.
        start = {key: value for key, value in start.items() if not _is_of_objective(key)}
    asked = Asked(
        defaults=defaults,
        given=merge(start, recipe, sets, given),
        chooses=not flags.config,
    )
    settings = asked.settings()
    for key, option, _ in o.settings_of(flags):
        if key in ("dataset", "architecture") and key not in settings:
            raise InputError(
                f"{option}: neither given nor in a recipe; give {option}, or a recipe with "
                f"{key} in it by --config"
            )
    method_named(settings["method"], distils)
    said = {key: f"--set {key}" for key in sets}
    said |= {key: option for key, option, _ in o.settings_of(flags) if key in given}
    _refuse_what_has_no_effect(said, settings)
    return asked


def _is_of_objective(key: str) -> bool:
    """Does a setting say what is learnt, rather than of what, how long and by which updates?"""
    return key in ("method", "inner") or key.startswith("loss.")


def _refuse_what_has_no_effect(said: dict[str, str], settings: Layer) -> None:
    """Refuse what a person asked for and nothing would read; a recipe may serve several methods.

    Args:
        said: option by setting, of those that were given by --set and flags.
        settings: all that are in force.
    """
    option = said.get("unlabelled_min_confidence")
    if option is not None and settings.get("unlabelled") is None:
        raise InputError(
            f"{option}: chooses among the pictures of --unlabelled, and none were given; add "
            "--unlabelled, or leave it out"
        )
    method, anchor = settings["method"], settings.get("loss.anchor", USUAL_ANCHOR)
    if anchor not in ANCHORS:
        return  # Which the config tells.
    reads = constants_read(method, anchor, settings.get("inner"))
    whose = f"{method} on the anchor {anchor}" if method == "ard" else method
    for key, option in said.items():
        part, _, name = key.partition(".")
        if part == "loss" and name.partition(".")[0] not in reads:
            known = ", ".join(f"loss.{each}" for each in sorted(reads)) or "none of loss"
            raise InputError(
                f"{option}: {whose} does not read it, so it would change nothing (it reads "
                f"{known}); leave it out, or choose another --method"
            )
    _refuse_what_no_level_reads(said, settings)


def _refuse_what_no_level_reads(said: dict[str, str], settings: Layer) -> None:
    """The same of the settings of a ranking; its default may be said of any."""
    from ard.learning.recipes import build_config
    from ard.ranking.levels import RankingOptions
    from ard.ranking.reads import settings_read

    config, usual = build_config(settings), RankingOptions()
    ranking, in_attack = config.loss.ranking, config.objective == "ranking"
    reads = settings_read(ranking, in_loss=config.method == "ard", in_attack=in_attack)
    for key, option in said.items():
        part, _, name = key.rpartition(".")
        if part != "loss.ranking" or name in reads:
            continue
        if getattr(ranking, name) != getattr(usual, name):
            raise InputError(
                f"{option}: beside the other settings of the ranking nothing reads it, so it would "
                f"change nothing (read are {', '.join(sorted(reads))}); leave it out, or change "
                "those"
            )


def chosen_for(
    flags: LearningFlags, asked: Asked, data: Dataset, teacher: Teacher | None, device: str
) -> Layer:
    """What follows from pictures, weights and machine; nothing where a recipe was chosen."""
    from ard.data.splits import training_images
    from ard.learning.chosen import Given, chosen
    from ard.learning.unlabelled import further_images

    if not asked.chooses:
        return {}
    fraction = asked.given.get("train_fraction", 1.0)
    given = Given(
        images=training_images(data, fraction),
        image_shape=data.image_shape,
        trained=flags.pretrained is not None or getattr(flags, "init", None) is not None,
        on_gpu=device.startswith("cuda"),
        teacher=teacher.card if teacher else None,
        unlabelled=further_images(asked.given.get("unlabelled"), data, fraction),
    )
    found = chosen(given, asked.given)
    if asked.settings()["method"] != "ard":
        found = {name: value for name, value in found.items() if not name.startswith("loss.")}
    return found


def tell_chosen(found: Layer, data: Dataset) -> None:
    """Say what was chosen, if anything was."""
    from ard.learning.recipes import BUDGETS

    if not found:
        return
    values = [
        f"{name} {_in_levels(value) if name in BUDGETS else value}" for name, value in found.items()
    ]
    _, height, width = data.image_shape
    say(
        f"chosen for {len(data.train):,} images of {width}x{height}: {', '.join(values)}; flags, "
        "--set and --config win"
    )


def _in_levels(value: float) -> str:
    """A budget or step in 8-bit levels, whole or not."""
    return f"{255 * value:g}/255"
