"""A calibration target made of numbers: crossed lines of known pitch on clear glass.

Chromium on glass: lines a fifth of the pitch wide, nearly opaque in all colours. Each
texel holds its exact share of the lines, so that the pitch is true to rounding.
"""

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

_LINE_SHARE = 0.2  # of the pitch; stage micrometers have 1 to 2 um of 10 um
_ABSORBANCE = 0.95  # of chromium: not quite black under a camera


def make_graticule(
    shape: tuple[int, int], *, pitch_um: float, pixel_um: float
) -> Float32:
    """Return linear transmission (rows, columns, 3), float32; 1 is clear glass.

    The middles of the lines lie half a pitch, one and a half, and so on, from the
    top-left corner of the texture.

    Examples
    --------
    >>> target = make_graticule((8, 8), pitch_um=2.0, pixel_um=0.25)
    >>> [round(float(level), 3) for level in target[0, :5, 1]]
    [1.0, 1.0, 1.0, 0.24, 0.24]
    """
    down, across = (
        _line_shares(count, pitch_um=pitch_um, pixel_um=pixel_um) for count in shape
    )
    lines = 1 - np.outer(1 - down, 1 - across)
    light = (1 - _ABSORBANCE * lines).astype(np.float32)
    return np.repeat(light[..., None], 3, axis=2)


def _line_shares(count: int, *, pitch_um: float, pixel_um: float) -> Float64:
    """Return how much of each texel along one axis lies under a line."""
    edges_um = np.arange(count + 1, dtype=np.float64) * pixel_um
    turns, within = np.divmod(edges_um / pitch_um, 1.0)
    begin = 0.5 - _LINE_SHARE / 2
    covered = turns * _LINE_SHARE + np.clip(within - begin, 0, _LINE_SHARE)
    shares: Float64 = np.diff(covered) * pitch_um / pixel_um
    return shares
