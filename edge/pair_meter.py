"""Measures the pairs of one instrument, with its own optics where they are known.

Where the engine that fuses holds the physics too, it reads the pairs itself: the offset
comes with the fused picture, and NumPy's transforms are spared.
"""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

from bifocus.calibrated_optics import CalibratedOptics, OffsetReadout
from bifocus.config import Optics
from bifocus.edge.fusers import PairReader, WholePair
from bifocus.focal_offset import Float32, PairOptics
from bifocus.light_choice import choose_light, light_evidence
from bifocus.pair_spectra import Complex64, PairSpectra
from bifocus.physics_fusion import MeasuredPair, measure_pair
from bifocus.records import FocalOffset, UInt8Image

if TYPE_CHECKING:
    from bifocus.tone import ToneCurve

# So many tiles whose offsets have this confidence settle how the slide is lit.
_TILES_FOR_LIGHT = 4
_SURE = 0.9


def pair_optics(
    optics: Optics, half_spacing_um: float, calibrated: CalibratedOptics | None = None
) -> PairOptics:
    """Return the optics of an instrument's pairs.

    Parameters
    ----------
    optics
        The instrument file's.
    half_spacing_um
        dD as the stage counts.
    calibrated
        What a z-stack of this instrument has shown; None leaves the file's NA, and the
        light to be read from the pairs.
    """
    named = PairOptics(
        na=optics.na,
        pixel_um=optics.pixel_um,
        half_spacing_um=half_spacing_um,
        wavelengths_um=optics.wavelengths_um,
        refractive_index=optics.refractive_index,
    )
    if calibrated is None:
        return named
    return dataclasses.replace(
        named,
        na=calibrated.na,
        light=calibrated.light,
        chromatic_um=calibrated.chromatic_um,
        z_scale=calibrated.z_scale,
        is_measured=True,
    )


class PairMeter:
    """Measures pairs with one instrument's optics; one thread at a time.

    How the tissue is lit is the instrument's own. Where calibration has not measured
    it, it is read from the first pairs that show enough tissue, together, and kept.
    """

    def __init__(
        self,
        optics: Optics,
        half_spacing_um: float,
        calibrated: CalibratedOptics | None = None,
        reader: PairReader | None = None,
        lend: Callable[[], Complex64] | None = None,
    ) -> None:
        """Store the optics.

        `reader` is the fuser, if it can read pairs itself; `lend` gives the memory for
        a pair's spectra, by default a new array.
        """
        self._reader = reader
        self._lend = lend
        self.tone_curve: ToneCurve = optics.tone_curve
        self.optics = pair_optics(optics, half_spacing_um, calibrated)
        self._readout = calibrated.readout if calibrated else None
        self._evidence: list[Float32] = []

    def read(self, minus: UInt8Image, plus: UInt8Image) -> MeasuredPair | WholePair:
        """Return the pair with its focal offset, by the fuser where that can read it.

        Until the light is known NumPy measures, since a graph is told the light.
        """
        if self._reader is not None and self.optics.light is not None:
            read = self._reader.read(minus, plus, self.optics, self.tone_curve)
            if read is not None:
                return self._corrected(read)
        return self.measure(minus, plus)

    def measure(self, minus: UInt8Image, plus: UInt8Image) -> MeasuredPair:
        """Return the pair's spectra and focal offsets, corrected by calibration.

        The correction is of the tile's offset, which is told to the stage: blocks are
        fused by what they themselves say.
        """
        measured = measure_pair(
            minus,
            plus,
            self.optics,
            tone_curve=self.tone_curve,
            spectra_in=self._lend() if self._lend else None,
        )
        if self.optics.light is None and measured.offsets.tile.confidence >= _SURE:
            self._learn_light(measured.spectra)
        if self._readout is None:
            return measured
        tile = correct_offset(measured.offsets.tile, self._readout)
        offsets = dataclasses.replace(measured.offsets, tile=tile)
        return dataclasses.replace(measured, offsets=offsets)

    def _corrected(self, read: WholePair) -> WholePair:
        if self._readout is None:
            return read
        offset = correct_offset(read.tile.offset, self._readout)
        tile = dataclasses.replace(read.tile, offset=offset)
        return dataclasses.replace(read, tile=tile)

    def _learn_light(self, spectra: PairSpectra) -> None:
        self._evidence.append(light_evidence(spectra))
        if len(self._evidence) == _TILES_FOR_LIGHT:
            block_px = spectra.layout.block_px
            light = choose_light(self._evidence, self.optics, block_px)
            self.optics = dataclasses.replace(self.optics, light=light)
            self._evidence.clear()


def correct_offset(read: FocalOffset, readout: OffsetReadout) -> FocalOffset:
    """Return the offset that an instrument's read-out stands for.

    Beyond the calibrated range the offset may lie anywhere further out: what it is
    beyond the range is added to its standard uncertainty.

    Examples
    --------
    >>> readout = OffsetReadout(gain=1.1, bias_um=0.1, range_um=2.0, sd_factor=1.5)
    >>> read = FocalOffset(offset_um=1.2, sd_um=0.11, confidence=0.9)
    >>> corrected = correct_offset(read, readout)
    >>> round(corrected.offset_um, 3), round(corrected.sd_um, 3)
    (1.0, 0.15)
    """
    offset_um = (read.offset_um - readout.bias_um) / readout.gain
    sd_um = read.sd_um * readout.sd_factor / readout.gain
    beyond_um = max(abs(offset_um) - readout.range_um, 0.0)
    return FocalOffset(
        offset_um=offset_um,
        sd_um=float((sd_um**2 + beyond_um**2) ** 0.5),
        confidence=read.confidence,
    )
