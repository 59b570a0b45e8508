"""Where x86 processors without VNNI compute other integers than an INT8 artefact asks for.

AVX2 and AVX512 multiply unsigned by signed 8-bit values and add pairs of products in 16 bits
(VPMADDUBSW). Two products of 255 and 127 are 64,770, and 32,767 is the most that 16 bits hold, so
the sum saturates; with weights of 7 bits it does not. VNNI adds in 32 bits.
"""

from __future__ import annotations

from edge_bench.core.spec import BackendInfo, DeviceProfile, ModelCard

RUNTIMES = {"ort": "ONNX Runtime", "openvino": "OpenVINO"}
"""Backends that compute INT8 on the CPU. OpenVINO makes every signed activation unsigned."""

OTHER_WAYS: dict[str, tuple[str, ...]] = {
    "x86-vnni": ("session.disable_quant_qdq",),
    "arm": ("session.qdqisint8allowed", "session.disable_quant_qdq"),
    "tensorrt": ("session.qdqisint8allowed", "session.disable_quant_qdq"),
    "tensorrt-rtx": ("session.qdqisint8allowed", "session.disable_quant_qdq"),
}
"""By target of 8-bit weights, the session options by any of which ONNX Runtime multiplies signed
values by signed ones, or in float."""

REMEDY = (
    "export it with --target x86, whose weights have 7 bits, or run it on a processor with VNNI"
)


def saturates(card: ModelCard | None, backend: str) -> bool:
    """Would an x86 processor without VNNI saturate on this artefact in this runtime?"""
    target = _target(card)
    if card is None or target not in OTHER_WAYS or backend not in RUNTIMES:
        return False
    ways = OTHER_WAYS[target] if backend == "ort" else ()
    return not any(card.session_options.get(way) == "1" for way in ways)


def saturation(card: ModelCard | None, backend: str, vnni: bool | None) -> str | None:
    """The sentence for an artefact whose products saturate here; None where VNNI is not known.

    Args:
        card: of the artefact.
        backend: key of `backends.BACKENDS`.
        vnni: as `DeviceProfile` has it.
    """
    if vnni is not False or not saturates(card, backend):
        return None
    return (
        f"the artefact is INT8 for {_target(card)}, and this processor has no VNNI: 8-bit products "
        f"saturate in {RUNTIMES[backend]} here, so its logits and accuracies will not be those of "
        f"what was exported; {REMEDY}"
    )


def cause(card: ModelCard | None, backend: BackendInfo, device: DeviceProfile) -> str | None:
    """Why a runtime gave other logits than were validated, where that is VNNI."""
    if device.architecture.lower() not in ("x86_64", "amd64") or not saturates(card, backend.name):
        return None
    products = f"8-bit products of a file for {_target(card)} saturate in {RUNTIMES[backend.name]}"
    if device.vnni is None:
        return (
            f"if this processor has no VNNI, which cannot be read here, that is the cause: without "
            f"it {products}; {REMEDY}"
        )
    if device.vnni:
        return None
    return f"the cause: this processor has no VNNI, and without it {products}; {REMEDY}"


def _target(card: ModelCard | None) -> str | None:
    target = card.recipe.get("int8_target") if card and card.precision == "int8" else None
    return target if isinstance(target, str) else None
