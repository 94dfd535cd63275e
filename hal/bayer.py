"""Pixels as GenICam cameras send them, to RGB by OpenCV.

OpenCV's older constants name the *second* row's pair (its BayerBG is everybody's RGGB);
the four below name the first row, as GenICam's Pixel Format Naming Convention does.
"""

import cv2
import numpy as np

from bifocus.hal.frame_memory import NEW_MEMORY, FrameMemory
from bifocus.records import UInt8Image

_DEMOSAIC = {
    "BayerRG8": cv2.COLOR_BayerRGGB2RGB,
    "BayerGR8": cv2.COLOR_BayerGRBG2RGB,
    "BayerGB8": cv2.COLOR_BayerGBRG2RGB,
    "BayerBG8": cv2.COLOR_BayerBGGR2RGB,
}


def to_rgb(
    data: bytes,
    *,
    pixel_format: str,
    shape: tuple[int, int],
    memory: FrameMemory = NEW_MEMORY,
) -> UInt8Image:
    """Return (rows, columns, 3) RGB, or (rows, columns) for Mono8.

    Parameters
    ----------
    data
        Exactly one frame, rows without padding.
    pixel_format
        GenICam's name: RGB8, Mono8, or one of the 8-bit Bayer patterns.
    shape
        Rows and columns.
    memory
        Gives the array for a colour picture; by default a new one.
    """
    if pixel_format == "RGB8":
        pixels = memory.take(shape)
        pixels[...] = np.frombuffer(data, np.uint8).reshape(pixels.shape)
        return pixels
    plane = np.frombuffer(data, np.uint8).reshape(shape)
    if pixel_format == "Mono8":
        return plane.copy()
    pixels = memory.take(shape)
    return np.asarray(cv2.cvtColor(plane, _DEMOSAIC[pixel_format], dst=pixels))


def bytes_per_pixel(pixel_format: str) -> int:
    """Return 3 for RGB8, else 1."""
    return 3 if pixel_format == "RGB8" else 1
