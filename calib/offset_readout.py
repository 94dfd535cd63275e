"""Calibrates the focal offset that pairs show, against pairs cut out of a z-stack.

Two planes of a stack 2 dD apart are a pair whose offset is known: focus minus their
middle. Read against known offsets give gain, bias, the range in which reading holds,
and whether the stated standard uncertainty is true.

One field cannot tell how much fields differ, so the stated uncertainty is widened by
what is found here, never narrowed; and gain and bias are corrected only where they are
more than twice their uncertainty.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bifocus.calib.uncertainty import fit_linear
from bifocus.calibrated_optics import OffsetReadout
from bifocus.errors import CalibrationError
from bifocus.focal_offset import PairOptics
from bifocus.physics_fusion import measure_pair
from bifocus.records import UInt8Image
from bifocus.tone import ToneCurve

Float64 = npt.NDArray[np.float64]

_MOST_PAIRS = 14
LEAST_PAIRS = 5
"""Fewer tell neither a line nor its range."""
# A reading off the line by more than this, in n lambda / NA^2, and by more than three
# of its stated uncertainties, is beyond the range.
_OFF_UNITS = 0.1
_OFF_SD = 3.0
_SIGNIFICANT = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadoutFit:
    """What pairs cut out of a stack have shown.

    Attributes
    ----------
    true_um, read_um, sd_um
        Of all pairs, ascending in `true_um`; shape (pairs,).
    gain, gain_u, bias_um, bias_u_um
        Read = gain * true + bias, as fitted.
    sd_ratio
        Scatter about the line over the stated standard uncertainty.
    readout
        What is corrected.
    """

    true_um: Float64
    read_um: Float64
    sd_um: Float64
    gain: float
    gain_u: float
    bias_um: float
    bias_u_um: float
    sd_ratio: float
    readout: OffsetReadout


def fit_readout(
    planes: Sequence[UInt8Image],
    z_um: Float64,
    focus_um: float,
    focus_u_um: float,
    *,
    apart: int,
    optics: PairOptics,
    tone_curve: ToneCurve,
) -> ReadoutFit:
    """Return how offsets read from pairs of planes compare with the known ones.

    Parameters
    ----------
    planes, z_um
        An evenly spaced stack, uint8, sides of 64 px or more; ascending heights.
    focus_um, focus_u_um
        Its focus, and how well that stands for the whole field.
    apart
        Every so many planes make a pair: 2 dD.
    optics
        Of the pairs, with their light; dD is taken from the planes.
    tone_curve
        How the stored values relate to light.

    Raises
    ------
    CalibrationError
        If too few pairs can be cut, or the readings follow no line.
    """
    first = np.arange(len(planes) - apart)
    if first.size < LEAST_PAIRS:
        msg = (
            f"{len(planes)} planes hold only {max(first.size, 0)} pairs {apart} planes "
            f"apart, {LEAST_PAIRS} are needed to calibrate the offset; lower "
            "scan.half_spacing_um or widen the stage's z_um"
        )
        raise CalibrationError(msg)
    pick = np.unique(np.linspace(0, first.size - 1, _MOST_PAIRS).round().astype(int))
    rows = []
    for number in first[pick]:
        low, high = int(number), int(number) + apart
        true_um = focus_um - (z_um[low] + z_um[high]) / 2
        measured = measure_pair(
            planes[low], planes[high], optics, tone_curve=tone_curve
        )
        tile = measured.offsets.tile
        rows.append((true_um, tile.offset_um, tile.sd_um))
    true_um, read_um, sd_um = np.array(sorted(rows)).T
    return _fit_line(true_um, read_um, sd_um, focus_u_um, optics.focus_unit_um)


def _fit_line(
    true_um: Float64,
    read_um: Float64,
    sd_um: Float64,
    focus_u_um: float,
    unit_um: float,
) -> ReadoutFit:
    order = np.argsort(np.abs(true_um))
    for count in range(true_um.size, LEAST_PAIRS - 1, -1):
        inner = order[:count]
        design = np.stack([true_um[inner], np.ones(count)], axis=1)
        line = fit_linear(design, read_um[inner])
        off_um = np.abs(read_um[inner] - design @ line.coefficients)
        allowed_um = np.maximum(_OFF_UNITS * unit_um, _OFF_SD * sd_um[inner])
        if np.all(off_um <= allowed_um):
            break
    else:
        msg = (
            "focal offsets read from pairs of the stack follow no line: "
            f"{np.round(read_um[order[:LEAST_PAIRS]], 2).tolist()} um where "
            f"{np.round(true_um[order[:LEAST_PAIRS]], 2).tolist()} um are true; check "
            "scan.half_spacing_um against the depth of field"
        )
        raise CalibrationError(msg)
    gain, bias_um = map(float, line.coefficients)
    gain_u = float(line.u[0])
    bias_u_um = float(np.hypot(line.u[1], focus_u_um))
    ratio = float(np.sqrt(np.mean((off_um / sd_um[inner]) ** 2)))
    keep_gain = abs(gain - 1) > _SIGNIFICANT * gain_u and 0.5 <= gain <= 2
    keep_bias = abs(bias_um) > _SIGNIFICANT * bias_u_um
    return ReadoutFit(
        true_um=true_um,
        read_um=read_um,
        sd_um=sd_um,
        gain=gain,
        gain_u=gain_u,
        bias_um=bias_um,
        bias_u_um=bias_u_um,
        sd_ratio=ratio,
        readout=OffsetReadout(
            gain=gain if keep_gain else 1.0,
            bias_um=bias_um if keep_bias else 0.0,
            range_um=float(np.abs(true_um[inner]).max()),
            sd_factor=max(ratio, 1.0),
        ),
    )
