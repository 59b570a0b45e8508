"""From a torch classifier to the artefact that ships: `export_artifact`, by an `ExportPlan`.

This package turns an `nn.Module` that it is given into ONNX; it does not know how it was trained.
In the order in which an export runs through them: `onnx_export` (torch to ONNX, and whether both
agree), `lowering` (passes over the float graph), `quantization` (INT8 and float16), `allowed_drop`
(which layers stay in float), and `qat`, which reads an INT8 graph back into torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

# Its package keeps onnxruntime quiet, so it is imported before that.
from edge_bench.core.exports import lazily

if TYPE_CHECKING:
    from deploy.artifact import Exported as Exported
    from deploy.artifact import export_artifact as export_artifact
    from deploy.plan import ExportPlan as ExportPlan
    from deploy.plan import Int8Plan as Int8Plan

_HOMES = {
    "Exported": "deploy.artifact",
    "export_artifact": "deploy.artifact",
    "ExportPlan": "deploy.plan",
    "Int8Plan": "deploy.plan",
}
__all__ = [*_HOMES]
__getattr__ = lazily(__name__, _HOMES)
