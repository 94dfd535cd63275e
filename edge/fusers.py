"""Fusers: from a pair to the in-focus tile. One Protocol, chosen by name.

`physics` needs no weights and is always there; a network comes as an exported file. A
name that is not available is an error, never a quiet substitute.
"""

from pathlib import Path
from typing import Protocol

import numpy as np

from bifocus.edge.onnx_fuser import OnnxFuser
from bifocus.errors import EngineError
from bifocus.physics_fusion import MeasuredPair, fuse_measured
from bifocus.records import FusedTile

MODELS = ("physics",)


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

    def fuse(self, measured: MeasuredPair) -> FusedTile:
        """Return the tile on the pixel grid of the sharper shot."""
        ...


class PhysicsFuser:
    """The blind two-shot Wiener filter of `bifocus.physics_fusion`."""

    model = "physics"
    engine = f"numpy {np.__version__}"

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


def choose_fuser(model: str = "auto") -> Fuser:
    """Return the fuser of that name; `auto` is the best one shipped.

    Parameters
    ----------
    model
        `auto`, `physics`, or the path of an exported network (`.onnx`).

    Raises
    ------
    EngineError
        If there is no such model, naming those that there are.
    """
    if model in ("auto", "physics"):
        return PhysicsFuser()
    if model.endswith(".onnx"):
        return OnnxFuser(Path(model))
    msg = f"no model '{model}'; available: {', '.join(MODELS)}, or a file NAME.onnx"
    raise EngineError(msg)
