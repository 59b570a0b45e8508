"""How a picture of any size becomes the image that a model reads; it travels on the model's card.

Whoever feeds an artefact has to do the same, or measures another model.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from edge_bench.core.errors import InputError

STRETCH, CROP, PAD = "stretch", "crop", "pad"
POLICIES = (STRETCH, CROP, PAD)
GRAMMAR = "stretch, pad, crop, or crop:SHARE such as crop:0.875"


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """A picture, upright, to a square image.

    Attributes:
        side: of the image in pixels.
        policy: `stretch` brings width and height to the side, each for itself; `crop` takes the
            middle square of the picture; `pad` keeps all of it and fills the rest with black.
        crop_share: of `crop`: the square's side as a share of the picture's shorter one; 0.875 is
            to resize the shorter side to 256 and cut 224 out of the middle.
        interpolation: how pixels are resampled: `bilinear`, over the whole area that an output
            pixel covers, as Pillow does (and OpenCV does not).
    """

    side: int
    policy: str = STRETCH
    crop_share: float = 1.0
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        if self.side < 1:
            raise InputError(f"preprocessing: expected a side of 1 pixel or more, came {self.side}")
        if self.policy not in POLICIES:
            raise InputError(
                f"preprocessing: expected {' or '.join(POLICIES)}, came {self.policy!r}"
            )
        if not (isfinite(self.crop_share) and 0 < self.crop_share <= 1):
            raise InputError(
                "preprocessing: expected a crop share above 0 and at most 1, came "
                f"{self.crop_share:g}"
            )
        if self.policy != CROP and self.crop_share != 1:
            raise InputError(
                f"preprocessing: expected a crop share of crop alone, came one of {self.policy}"
            )
        if self.interpolation != "bilinear":
            raise InputError(
                f"preprocessing: expected bilinear interpolation, came {self.interpolation!r}; use "
                "the ardx that wrote it"
            )

    @property
    def resize(self) -> str:
        """The value of --resize that means this policy."""
        return self.policy if self.crop_share == 1 else f"{self.policy}:{self.crop_share:g}"

    @property
    def token(self) -> str:
        """What tells it from others in the digests of pictures."""
        # Of pictures that are stretched the side alone, as before there was a choice.
        return str(self.side) if self.policy == STRETCH else f"{self.side} {self.resize}"

    def __str__(self) -> str:
        """For people."""
        how = {
            STRETCH: "stretched",
            CROP: "cropped to the middle"
            if self.crop_share == 1
            else f"cropped to the middle {100 * self.crop_share:g} %",
            PAD: "padded with black",
        }
        return f"{self.side}x{self.side} pixels, {how[self.policy]}"


def preprocessing_of(side: int, resize: str | None) -> Preprocessing:
    """The values of --image-size and --resize; None stretches.

    Raises:
        InputError: no such policy.
    """
    policy, colon, share = (resize or STRETCH).partition(":")
    wrong = InputError(f"--resize {resize}: expected {GRAMMAR}")
    if policy not in POLICIES or (colon and policy != CROP):
        raise wrong
    try:
        crop_share = float(share) if colon else 1.0
    except ValueError:
        raise wrong from None
    if not 0 < crop_share <= 1:
        raise wrong
    return Preprocessing(side=side, policy=policy, crop_share=crop_share)
