"""Fusers: from a pair to the in-focus tile. One Protocol.

`physics` and `physics-joint`, here, need no weights and are always there; a network
comes as an exported file (`bifocus.edge.network_fuser`). `bifocus.edge.engine_choice`
chooses among them. A graph with physics inside reads the pair as well, so that nothing
else has to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from bifocus.block_fusion import Colours
from bifocus.focal_offset import PairOptics
from bifocus.physics_fusion import MeasuredPair, fuse_measured
from bifocus.records import FusedTile, UInt8Image
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


@dataclass(frozen=True, slots=True, kw_only=True)
class WholePair:
    """A pair that one graph has read and fused in one go: nothing is left to do.

    Attributes
    ----------
    minus, plus
        The shots, as the graph got them.
    optics
        By which it read them.
    tile
        What it made of them, with the tile's focal offset.
    clearest
        The greatest weight of a block, 0..1: whether the pair tells its focus.
    """

    minus: UInt8Image
    plus: UInt8Image
    optics: PairOptics
    tile: FusedTile
    clearest: float


@runtime_checkable
class PairReader(Protocol):
    """A fuser that can read the focal offset itself, with the fused picture."""

    def read(
        self,
        minus: UInt8Image,
        plus: UInt8Image,
        optics: PairOptics,
        tone_curve: ToneCurve,
    ) -> WholePair | None:
        """Return the pair, read and fused; None if NumPy is to measure it first.

        `optics` name their light: a graph takes it, and does not search it.
        """
        ...


@runtime_checkable
class FrameLocker(Protocol):
    """A fuser, or an engine, that fetches pictures faster from memory that it knows."""

    def lock_frames(self, frames: Sequence[UInt8Image]) -> None:
        """Prepare the arrays in which shots will come, in place of those of before.

        The memory stays the caller's: it is valid when the engine is lost or closed.
        """
        ...


class PhysicsFuser:
    """The blind two-shot Wiener filter of `bifocus.physics_fusion`."""

    model = "physics"
    engine = f"numpy {np.__version__}"
    faults: tuple[str, ...] = ()
    colours: Colours = "apart"

    def check_optics(self, optics: PairOptics) -> None:
        """Accept any optics: the filter is made from them."""

    def close(self) -> None:
        """Hold nothing."""

    def fuse(self, measured: MeasuredPair) -> FusedTile:
        """Return the tile; see `bifocus.physics_fusion.fuse_two_shots`."""
        result = fuse_measured(measured, colours=self.colours)
        return FusedTile(
            pixels=result.pixels,
            offset=result.offset,
            quality=result.quality,
            seconds=result.seconds,
            sharper_is_plus=result.sharper_is_plus,
        )


class JointPhysicsFuser(PhysicsFuser):
    """The same with the colours together (`bifocus.joint_colours`)."""

    model = "physics-joint"
    colours: Colours = "together"


# By the name that `--model` takes.
PHYSICS_FUSERS: Mapping[str, type[PhysicsFuser]] = {
    fuser.model: fuser for fuser in (PhysicsFuser, JointPhysicsFuser)
}
