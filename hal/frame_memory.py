"""Where a driver puts a colour frame: into memory that it was lent, or into new."""

import numpy as np

from bifocus.hal.devices import Lend
from bifocus.records import UInt8Image


class FrameMemory:
    """One camera's memory; see `bifocus.hal.devices.BorrowingCamera`."""

    def __init__(self) -> None:
        self._lend: Lend | None = None

    def borrow_from(self, lend: Lend | None) -> None:
        """Take arrays from `lend` from now on; None: make them."""
        self._lend = lend

    def take(self, shape: tuple[int, int]) -> UInt8Image:
        """Return an array (rows, columns, 3) to be filled.

        What is lent for frames of another size is left alone: that the camera gives
        such frames is for its driver to tell.
        """
        lent = self._lend() if self._lend is not None else None
        if lent is not None and lent.shape == (*shape, 3):
            return lent
        return np.empty((*shape, 3), np.uint8)


NEW_MEMORY = FrameMemory()
"""Lends nothing: each array is new."""
