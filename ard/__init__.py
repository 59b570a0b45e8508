"""Adversarial ranking distillation: learn a small model that stays accurate under attack.

Order of work: `data` and `models` -> `train` (with `losses`, `ranking`, `attacks`) -> `evaluate`
-> `craft` (sets to replay on a device). `cli` chains them with the packages `deploy` (ONNX,
INT8) and `edge_bench` (measurement on the device).
"""

from edge_bench import __version__

__all__ = ["__version__"]
