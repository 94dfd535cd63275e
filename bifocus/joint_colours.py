"""Three colours of one tissue, fused together: what one shows, the others confirm.

Stained tissue absorbs all colours in much the same places, while the noise of each
colour is its own. With b = h- Y-/N- + h+ Y+/N+ of each colour (all that two shots can
tell of it, with precision d = h-^2/N- + h+^2/N+) and S the 3x3 covariance of the
object's colours in a ring of frequencies, the estimate of least mean squared error is

    X = h0 S (1 + D S)^-1 b,   D = diag(d)

(N. Wiener 1949, for several observations of several signals). For a diagonal S it is
the filter of each colour by itself. The covariances between colours come from the pair:
noise does not correlate, so that Re(b_c conj b_e) / (d_c d_e) needs no correction.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bifocus.pair_spectra import BlockLayout, Complex64, cross_power

Float32 = npt.NDArray[np.float32]

# Correlations of the colours are measured, so they scatter: none is believed more.
LARGEST_CORRELATION = 0.98
COLOUR_PAIRS = ((0, 1), (0, 2), (1, 2))
_TINY = np.float32(1e-20)


def joint_mixing(
    combined: Sequence[Complex64],
    layout: BlockLayout,
    precision: Float32,
    signal: Float32,
    focus: Float32,
) -> Float32:
    """Return M with X = M b in each ring, shape (3, 3, bins): to a colour, from one.

    Parameters
    ----------
    combined
        The spectrum b of each colour, (block, block // 2 + 1).
    layout
        Of the blocks.
    precision, signal, focus
        d, the object's power and h(0) of each colour and ring, (3, bins).
    """
    power = cross_power(combined, layout)
    covariance = [
        smooth(power[number] / np.maximum(precision[one] * precision[two], _TINY))
        for number, (one, two) in enumerate(COLOUR_PAIRS)
    ]
    correlation = limit_correlation(np.stack(covariance), signal)
    return solve_mixing(correlation, precision, signal, focus)


def limit_correlation(covariance: Float32, signal: Float32) -> Float32:
    """Return correlations of `COLOUR_PAIRS`, shape (3, bins), that an object can have.

    Measured ones may add up to an S with negative eigenvalues; the last is clipped to
    what the first two leave.
    """
    found = [
        covariance[number] / np.sqrt(signal[one] * signal[two])
        for number, (one, two) in enumerate(COLOUR_PAIRS)
    ]
    limit = np.float32(LARGEST_CORRELATION)
    first, second = np.clip(found[:2], -limit, limit)
    middle = first * second
    room = limit * np.sqrt((1 - first * first) * (1 - second * second))
    return np.stack([first, second, np.clip(found[2], middle - room, middle + room)])


def solve_mixing(
    correlation: Float32, precision: Float32, signal: Float32, focus: Float32
) -> Float32:
    """Return M = h0 S (1 + D S)^-1 in each ring, shape (3, 3, bins).

    As h0 (1 - (1 + B)^-1) / sqrt(d d'), B = sqrt(D) S sqrt(D): symmetric, so that its
    inverse is a few products. Parameters are those of `joint_mixing`.
    """
    strength = np.sqrt(precision * signal)
    b01, b02, b12 = (
        correlation[number] * strength[one] * strength[two]
        for number, (one, two) in enumerate(COLOUR_PAIRS)
    )
    a0, a1, a2 = 1 + strength**2
    inverse = np.empty((3, 3, a0.size), dtype=np.float32)
    inverse[0, 0] = a1 * a2 - b12 * b12
    inverse[1, 1] = a0 * a2 - b02 * b02
    inverse[2, 2] = a0 * a1 - b01 * b01
    inverse[0, 1] = inverse[1, 0] = b02 * b12 - b01 * a2
    inverse[0, 2] = inverse[2, 0] = b01 * b12 - b02 * a1
    inverse[1, 2] = inverse[2, 1] = b01 * b02 - b12 * a0
    inverse /= a0 * inverse[0, 0] + b01 * inverse[0, 1] + b02 * inverse[0, 2]
    told = np.eye(3, dtype=np.float32)[:, :, None] - inverse
    root = np.sqrt(np.maximum(precision, np.float32(1e-12)))
    mixing: Float32 = focus[:, None] * told / (root[:, None] * root[None])
    return mixing


def smooth(values: Float32) -> Float32:
    """Three-ring running mean: single rings of few coefficients scatter too much."""
    padded = np.concatenate([values[..., :1], values, values[..., -1:]], axis=-1)
    mean = (padded[..., :-2] + padded[..., 1:-1] + padded[..., 2:]) / 3
    return np.asarray(mean, dtype=np.float32)
