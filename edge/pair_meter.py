"""Measures the pairs of one instrument, and learns from the first how they are lit."""

import dataclasses
from typing import TYPE_CHECKING

from bifocus.config import Optics
from bifocus.focal_offset import Float32, PairOptics
from bifocus.light_choice import choose_light, light_evidence
from bifocus.pair_spectra import PairSpectra
from bifocus.physics_fusion import MeasuredPair, measure_pair
from bifocus.records import UInt8Image

if TYPE_CHECKING:
    from bifocus.tone import ToneCurve

# So many tiles whose offsets have this confidence settle how the slide is lit.
_TILES_FOR_LIGHT = 4
_SURE = 0.9


class PairMeter:
    """Measures pairs with one instrument's optics; one thread at a time.

    How the tissue is lit is the instrument's own: it is read from the first pairs that
    show enough tissue, together, and then kept.
    """

    def __init__(self, optics: Optics, half_spacing_um: float) -> None:
        self.tone_curve: ToneCurve = optics.tone_curve
        self.optics = PairOptics(
            na=optics.na,
            pixel_um=optics.pixel_um,
            half_spacing_um=half_spacing_um,
            wavelengths_um=optics.wavelengths_um,
            refractive_index=optics.refractive_index,
        )
        self._evidence: list[Float32] = []

    def measure(self, minus: UInt8Image, plus: UInt8Image) -> MeasuredPair:
        """Return the pair's spectra and focal offsets."""
        measured = measure_pair(minus, plus, self.optics, tone_curve=self.tone_curve)
        if self.optics.light is None and measured.offsets.tile.confidence >= _SURE:
            self._learn_light(measured.spectra)
        return measured

    def _learn_light(self, spectra: PairSpectra) -> None:
        self._evidence.append(light_evidence(spectra))
        if len(self._evidence) == _TILES_FOR_LIGHT:
            block_px = spectra.layout.block_px
            light = choose_light(self._evidence, self.optics, block_px)
            self.optics = dataclasses.replace(self.optics, light=light)
            self._evidence.clear()
