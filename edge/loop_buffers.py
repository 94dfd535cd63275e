"""The loop's big arrays, made once: frames, corrected shots, and spectra of pairs."""

import numpy as np

from bifocus.edge.buffer_pool import BufferPool
from bifocus.pair_spectra import spectra_shape

# Frames of the tile that is shot, of the one before, and of three between the disk and
# fusion; the queues hold no more unless both are slow.
_N_FRAMES = 10
# Corrected shots of the pair that is measured, of the one before, and of the one that
# is fused.
_N_SHOTS = 6
# A pair is measured while another is fused. A third, whose turn has not come yet, waits
# for this memory: 67 MB at 1.25 megapixels.
_N_SPECTRA = 2


class LoopBuffers:
    """What a scan lends to its camera and its stages.

    A tile's frames come back when it is saved and fused, whichever is later. Memory of
    a pool that is not used is never touched, and so never taken.

    Parameters
    ----------
    field_px
        The camera's (width, height).
    """

    def __init__(self, field_px: tuple[int, int]) -> None:
        size_px = field_px[1], field_px[0]
        self.frames = BufferPool("frames", (*size_px, 3), np.uint8, _N_FRAMES)
        self.shots = BufferPool("shots", (*size_px, 3), np.uint8, _N_SHOTS)
        shape = spectra_shape(size_px)
        self.spectra = BufferPool("spectra", shape, np.complex64, _N_SPECTRA)

    def close(self) -> None:
        """Send away those who wait for memory; what is lent stays valid."""
        for pool in (self.frames, self.shots, self.spectra):
            pool.close()
