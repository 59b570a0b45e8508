"""What to export, and what it must live up to."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from deploy.allowed_drop.terms import AllowedDrop
from deploy.quantization.calibration import require_method
from deploy.quantization.targets import target_named
from edge_bench.core.errors import InputError
from edge_bench.core.spec import ModelCard

INPUTS = ("float32", "uint8")


@dataclass(frozen=True, kw_only=True)
class Int8Plan:
    """How to quantise.

    Attributes:
        target: key of `targets.TARGETS`.
        calibration: images (N, C, H, W) from the training set, uint8 levels or float32 in [0, 1];
            None where the weights were trained as INT8, and bring their ranges.
        kind: what they are, for the card: `clean`, `adversarial` or `mixed`.
        method: key of `calibration.METHODS`.

    Raises:
        InputError: no such target or method.
    """

    target: str
    calibration: Tensor | None = None
    kind: str = "clean"
    method: str = "minmax"

    def __post_init__(self) -> None:
        target_named(self.target)
        require_method(self.method)

    def applied_to(self, card: ModelCard) -> ModelCard:
        """The card of an artefact that was quantised like this."""
        recipe = card.recipe | {"int8_target": self.target}
        if self.calibration is not None:
            recipe |= {
                "calibration": self.kind,
                "calibration_method": self.method,
                "calibration_images": len(self.calibration),
            }
        options = target_named(self.target).session_options
        return replace(card, precision="int8", recipe=recipe, session_options=options)


@dataclass(frozen=True, kw_only=True)
class ExportPlan:
    """What to export and what it must live up to.

    Attributes:
        parent_sha256: of the weights.
        int8: None exports fp32, or fp16.
        fp16: export float16 with float32 (or uint8) input and float32 output.
        target: of fp32 and fp16, a key of `targets.TARGETS` whose parser, where it is here, must
            read the artefact; None asks none. INT8 has one of its own.
        budget: what a lower precision may cost; None measures nothing and keeps no layer in float.
        input: one of INPUTS: float32 images (B, C, H, W) in [0, 1], or uint8 ones (B, H, W, C).
        batch_size: the only batch size that the artefact takes; None leaves it free.
        check_images: images (N, C, H, W) in [0, 1] by kind, for the parity check.
        check_labels: their labels (N,).
        least_agreement: fraction of equal classes below which nothing is written.

    Raises:
        InputError: two precisions, no such input, no such batch size, a budget for fp32, or a
            target that is for INT8 alone.
    """

    parent_sha256: str
    int8: Int8Plan | None
    fp16: bool = False
    target: str | None = None
    budget: AllowedDrop | None = None
    input: str = "float32"
    batch_size: int | None = None
    check_images: dict[str, Tensor]
    check_labels: Tensor
    least_agreement: float

    def __post_init__(self) -> None:
        if self.int8 is not None and self.fp16:
            raise InputError("--int8 and --fp16: an artefact has one precision; give one of them")
        if self.target is not None and not target_named(self.target).compilers:
            raise InputError(
                f"--target {self.target}: chooses INT8 settings; add --int8, or leave it out"
            )
        if self.budget is not None and self.precision == "fp32":
            raise InputError(
                "--max-robust-drop: fp32 gives nothing up; add --int8 or --fp16, or leave it out"
            )
        if not self.least_agreement >= 0:  # Nor is anything that is no number.
            raise InputError(
                f"--min-agreement {self.least_agreement:g}: expected a fraction from 0 to 1"
            )
        if self.input not in INPUTS:
            raise InputError(f"--input {self.input}: expected {' or '.join(INPUTS)}")
        if self.batch_size is not None and self.batch_size < 1:
            raise InputError(f"--batch {self.batch_size}: expected 1 or more")

    @property
    def read_by(self) -> str | None:
        """The target whose parser must read the artefact."""
        return self.int8.target if self.int8 else self.target

    @property
    def precision(self) -> str:
        """The precision of the artefact, as its card says it."""
        return "fp16" if self.fp16 else "fp32" if self.int8 is None else "int8"
