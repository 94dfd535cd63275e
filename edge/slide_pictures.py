"""The small pictures that scanners put beside a slide: macro and label."""

import numpy as np

from bifocus.edge.pyramid import LevelSize
from bifocus.edge.slide_fields import Picture
from bifocus.edge.tile_codec import JpegCodec
from bifocus.records import UInt8Image

BACKGROUND_GREY = 236  # light, as glass is, yet not the pure white of an overexposure
MACRO = "macro"
LABEL = "label"
PICTURE_CODEC = JpegCodec(quality=90, chroma_subsampling="420")


def start_pictures(
    macro_px: LevelSize, label: UInt8Image | None
) -> tuple[Picture, ...]:
    """Return the macro, still grey, and the label, if there is one.

    Parameters
    ----------
    macro_px
        Width and height of the slide's last level, which the macro will show.
    label
        HxWx3 uint8 RGB.
    """
    width_px, height_px = macro_px
    grey = np.full((height_px, width_px, 3), BACKGROUND_GREY, np.uint8)
    images = {MACRO: grey} | ({} if label is None else {LABEL: label})
    return tuple(
        Picture(
            name=name,
            width_px=image.shape[1],
            height_px=image.shape[0],
            codec=PICTURE_CODEC,
            jpeg=PICTURE_CODEC.encode(image),
        )
        for name, image in images.items()
    )
