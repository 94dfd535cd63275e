"""Fusion by one graph that holds physics and network: two shots in, one tile out.

The tables of the optics go in beside the shots, once for each optics. Whoever runs the
graph stands behind one small Protocol: ONNX Runtime, OpenVINO, TensorRT or a server.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from bifocus.edge.fusers import FrameLocker, WholePair
from bifocus.edge.network_inputs import NUMBERS, NetworkForm, mend
from bifocus.engine_manifest import EngineManifest, check_trained_range
from bifocus.errors import EngineError, EngineLostError
from bifocus.focal_offset import PairOptics
from bifocus.optics_inputs import Float32, table_shapes, transfer_inputs
from bifocus.pair_spectra import layout_for
from bifocus.physics_fusion import MeasuredPair
from bifocus.records import FocalOffset, FusedTile, UInt8Image
from bifocus.tone import ToneCurve

Numbers = Mapping[str, npt.NDArray[np.float32]]


class WholeEngine(Protocol):
    """Runs one whole fusion on pairs of one size; one thread at a time."""

    @property
    def form(self) -> NetworkForm:
        """What the graph takes and gives."""
        ...

    @property
    def name(self) -> str:
        """Library, version and device, for the report."""
        ...

    def set_tables(self, tables: Mapping[str, Float32]) -> None:
        """Take over the tables of the optics; they hold until the next ones come."""
        ...

    def fuse_pair(self, shots: Mapping[str, UInt8Image]) -> tuple[UInt8Image, Numbers]:
        """Return the fused picture, the caller's own, and the numbers beside it.

        Raises
        ------
        EngineLostError
            If the engine fails, now and presumably from now on.
        """
        ...

    def close(self) -> None:
        """Give back memory and device; may be called twice."""
        ...


class WholeFuser:
    """A `bifocus.edge.fusers.Fuser` made of a whole fusion; it owns the engine.

    It is a `PairReader` as well: a pair need not be measured before. Of one that was it
    takes the shots and the optics with their light; the offset is the graph's own.
    """

    def __init__(self, engine: WholeEngine) -> None:
        manifest, size_px = engine.form.manifest, engine.form.size_px
        if manifest is None or size_px is None:
            msg = f"{engine.form.network}: a whole fusion needs a manifest and a size"
            raise EngineError(msg)
        self._engine = engine
        self._manifest: EngineManifest = manifest
        self._size_px = size_px
        self._optics: PairOptics | None = None
        self.model = f"{engine.form.network}, physics inside"
        self.engine = engine.name
        self.faults: tuple[str, ...] = ()

    def check_optics(self, optics: PairOptics) -> None:
        """Refuse optics that the network or the graph's tables were not made for.

        Raises
        ------
        EngineError
            If NA, pixel or half-spacing lie outside, or a table has another shape.
        """
        check_trained_range(
            self._manifest,
            na=optics.na,
            pixel_um=optics.pixel_um,
            half_spacing_um=optics.half_spacing_um,
        )
        shapes = table_shapes(optics, self._size_px)
        for spec in self._engine.form.tables:
            if shapes.get(spec.name) != spec.shape:
                msg = (
                    f"{self._manifest.main_file}: its table '{spec.name}' is "
                    f"{spec.shape}, these optics need {shapes.get(spec.name)}"
                )
                raise EngineError(msg + mend(self._engine.form))

    def fuse(self, measured: MeasuredPair) -> FusedTile:
        """Return the tile on the pixel grid of the sharper shot; errors as `read`."""
        pair = self.read(
            measured.minus, measured.plus, measured.optics, measured.tone_curve
        )
        seconds = measured.seconds + pair.tile.seconds
        return dataclasses.replace(pair.tile, seconds=seconds)

    def read(
        self,
        minus: UInt8Image,
        plus: UInt8Image,
        optics: PairOptics,
        tone_curve: ToneCurve,
    ) -> WholePair:
        """Return the pair, read and fused; see `bifocus.edge.fusers.PairReader`.

        Raises
        ------
        EngineError
            If the pair is of another size, tone or optics than the graph takes.
        EngineLostError
            If the engine fails.
        """
        start_s = time.perf_counter()
        self._check_pair((minus.shape[0], minus.shape[1]), tone_curve)
        self.check_optics(optics)
        self._bring_tables(optics)
        pixels, numbers = self._engine.fuse_pair({"minus": minus, "plus": plus})
        found = {name: float(numbers[name]) for name in NUMBERS}
        if not all(np.isfinite(value) for value in found.values()):
            msg = f"{self.model}: {self.engine} gave NaN; take --model physics"
            raise EngineLostError(msg)
        tile = FusedTile(
            pixels=pixels,
            offset=FocalOffset(
                offset_um=found["offset_um"],
                sd_um=found["sd_um"],
                confidence=found["confidence"],
            ),
            quality=found["quality"],
            seconds=time.perf_counter() - start_s,
            sharper_is_plus=found["sharper_is_plus"] > 0,
        )
        return WholePair(
            minus=minus,
            plus=plus,
            optics=optics,
            tile=tile,
            clearest=found["clearest"],
        )

    def lock_frames(self, frames: Sequence[UInt8Image]) -> None:
        """Let the engine know them; see `bifocus.edge.fusers.FrameLocker`."""
        if isinstance(self._engine, FrameLocker):
            self._engine.lock_frames(frames)

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()

    def _check_pair(self, size_px: tuple[int, int], tone_curve: ToneCurve) -> None:
        if tone_curve != "linear":
            msg = (
                f"{self._manifest.main_file}: made for linear values, these pairs are "
                f"{tone_curve}; take --model physics, or export the network "
                f"without --whole: bifocus export {self._manifest.source} -o DIR"
            )
            raise EngineError(msg)
        if size_px != self._size_px:
            sides = {"height_px": size_px[0], "width_px": size_px[1]}
            anew = self._manifest.model_copy(update=sides).export_command
            msg = (
                f"{self._manifest.main_file}: made for shots of {self._size_px[1]}x"
                f"{self._size_px[0]} px, got {size_px[1]}x{size_px[0]}; mend: {anew}"
            )
            raise EngineError(msg)

    def _bring_tables(self, optics: PairOptics) -> None:
        if optics == self._optics:
            return
        self._optics = None
        block_px = layout_for(self._size_px).block_px
        self._engine.set_tables(transfer_inputs(optics, block_px))
        self._optics = optics
