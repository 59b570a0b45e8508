"""From a torch classifier to the artefact that ships: `export` -> `quantize`, each under `parity`.

This package turns an `nn.Module` that it is given into ONNX; it does not know how it was trained.
"""

import edge_bench  # noqa: F401, which keeps onnxruntime quiet, so before it
