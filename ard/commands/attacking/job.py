"""What every kind of set is made with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ard.attacks.victims import Victim
    from ard.commands.attacking.flags import AttackFlags
    from ard.commands.flags import Foreign
    from ard.processes.world import World


@dataclass(frozen=True, kw_only=True)
class Job:
    """A command, once its model is open.

    Attributes:
        device: that torch computes on.
        foreign: what was said of an ONNX file that says nothing of itself.
        world: the processes that share the work.
    """

    flags: AttackFlags
    victim: Victim
    device: str
    foreign: Foreign
    world: World
