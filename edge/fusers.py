"""Fusers: from a pair to the in-focus tile. One Protocol.

`physics`, here, needs no weights and is always there; a network comes as an exported
file (`bifocus.edge.network_fuser`). `bifocus.edge.engine_choice` chooses among them.
"""

from typing import TYPE_CHECKING, Protocol

import numpy as np

from bifocus.config import Optics
from bifocus.focal_offset import PairOptics
from bifocus.physics_fusion import MeasuredPair, fuse_measured, measure_pair
from bifocus.records import FusedTile, UInt8Image

if TYPE_CHECKING:
    from bifocus.tone import ToneCurve


class Fuser(Protocol):
    """Makes one in-focus picture from a measured pair; one thread at a time."""

    @property
    def model(self) -> str:
        """Name of the method or network."""
        ...

    @property
    def engine(self) -> str:
        """What computes it."""
        ...

    @property
    def faults(self) -> tuple[str, ...]:
        """What went wrong and was mended on the way, one sentence each."""
        ...

    def check_optics(self, optics: PairOptics) -> None:
        """Raise `EngineError` now if pairs of such optics would be refused."""
        ...

    def fuse(self, measured: MeasuredPair) -> FusedTile:
        """Return the tile on the pixel grid of the sharper shot."""
        ...

    def close(self) -> None:
        """Give back what it holds; may be called twice."""
        ...


class PhysicsFuser:
    """The blind two-shot Wiener filter of `bifocus.physics_fusion`."""

    model = "physics"
    engine = f"numpy {np.__version__}"
    faults: tuple[str, ...] = ()

    def check_optics(self, optics: PairOptics) -> None:
        """Accept any optics: the filter is made from them."""

    def close(self) -> None:
        """Hold nothing."""

    def fuse(self, measured: MeasuredPair) -> FusedTile:
        """Return the tile; see `bifocus.physics_fusion.fuse_two_shots`."""
        result = fuse_measured(measured)
        return FusedTile(
            pixels=result.pixels,
            offset=result.offset,
            quality=result.quality,
            seconds=result.seconds,
            sharper_is_plus=result.sharper_is_plus,
        )


class PairMeter:
    """Measures pairs with one instrument's optics."""

    def __init__(self, optics: Optics, half_spacing_um: float) -> None:
        self.tone_curve: ToneCurve = optics.tone_curve
        self.optics = PairOptics(
            na=optics.na,
            pixel_um=optics.pixel_um,
            half_spacing_um=half_spacing_um,
            wavelengths_um=optics.wavelengths_um,
            refractive_index=optics.refractive_index,
            pupil=optics.pupil,
        )

    def measure(self, minus: UInt8Image, plus: UInt8Image) -> MeasuredPair:
        """Return the pair's spectra and focal offsets."""
        return measure_pair(minus, plus, self.optics, tone_curve=self.tone_curve)
