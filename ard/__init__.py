"""Adversarial ranking distillation: learn a small model that stays accurate under attack.

Order of work: `load_dataset` -> `learn` (a teacher, then a student with `load_teacher`) ->
`evaluate_all` -> `export` -> `craft_set`. What is exported here is for programs to rely on; the
rest may change. The rooms, and what may import what: docs/explanation/architecture.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_bench.core.exports import lazily
from edge_bench.core.version import __version__

if TYPE_CHECKING:
    from ard.attacks.registry import parse_attack as parse_attack
    from ard.attacks.victims import weights_victim as weights_victim
    from ard.crafting.craft import craft_set as craft_set
    from ard.data.datasets import load_dataset as load_dataset
    from ard.data.sources import SplitSource as SplitSource
    from ard.evaluation.accuracy import evaluate_all as evaluate_all
    from ard.exporting.export import export as export
    from ard.learning.config import TrainConfig as TrainConfig
    from ard.learning.learn import learn as learn
    from ard.learning.teacher import load_teacher as load_teacher
    from ard.methods.parts.base import LossOptions as LossOptions
    from ard.models.weight_files import load_model as load_model
    from ard.ranking.levels import RankingOptions as RankingOptions

_HOMES = {
    "parse_attack": "ard.attacks.registry",
    "weights_victim": "ard.attacks.victims",
    "craft_set": "ard.crafting.craft",
    "load_dataset": "ard.data.datasets",
    "SplitSource": "ard.data.sources",
    "evaluate_all": "ard.evaluation.accuracy",
    "export": "ard.exporting.export",
    "TrainConfig": "ard.learning.config",
    "learn": "ard.learning.learn",
    "load_teacher": "ard.learning.teacher",
    "LossOptions": "ard.methods.parts.base",
    "load_model": "ard.models.weight_files",
    "RankingOptions": "ard.ranking.levels",
}
__all__ = ["__version__", *_HOMES]
__getattr__ = lazily(__name__, _HOMES)
