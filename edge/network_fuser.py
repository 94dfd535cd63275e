"""Fusion by an exported network: physics first, then the network, window by window.

What runs the network is an engine behind one small Protocol: ONNX Runtime, OpenVINO,
TensorRT, or a server of models.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from bifocus.edge.network_inputs import NetworkForm, pair_pictures
from bifocus.edge.network_windows import MOST_WINDOW_PX, plan_windows
from bifocus.engine_manifest import check_trained_range
from bifocus.focal_offset import PairOptics
from bifocus.physics_fusion import MeasuredPair, fuse_measured
from bifocus.records import FusedTile, UInt8Image


class NetworkEngine(Protocol):
    """Runs one network on windows; one thread at a time."""

    @property
    def form(self) -> NetworkForm:
        """What the network takes and gives."""
        ...

    @property
    def name(self) -> str:
        """Library, version and device, for the report."""
        ...

    def stream(
        self, windows: Iterable[Mapping[str, UInt8Image]]
    ) -> Iterator[UInt8Image]:
        """Yield the fused window of each, in order, all of one size.

        A window is asked for as soon as there is room for it; what is yielded is valid
        until the next one is.

        Raises
        ------
        EngineLostError
            If the engine fails, now and presumably from now on.
        """
        ...

    def close(self) -> None:
        """Give back memory, device and connection; may be called twice."""
        ...


class NetworkFuser:
    """A `bifocus.edge.fusers.Fuser` made of a network's engine; it owns the engine."""

    def __init__(
        self, engine: NetworkEngine, *, most_window_px: int = MOST_WINDOW_PX
    ) -> None:
        self._engine = engine
        self._most_window_px = most_window_px
        self.model = engine.form.network
        self.engine = engine.name
        self.faults: tuple[str, ...] = ()

    def check_optics(self, optics: PairOptics) -> None:
        """Refuse a pair unlike those that the network was trained on.

        Raises
        ------
        EngineError
            If NA, pixel or half-spacing lie outside.
        """
        manifest = self._engine.form.manifest
        if manifest is not None:
            check_trained_range(
                manifest,
                na=optics.na,
                pixel_um=optics.pixel_um,
                half_spacing_um=optics.half_spacing_um,
            )

    def fuse(self, measured: MeasuredPair) -> FusedTile:
        """Return the tile on the pixel grid of the sharper shot.

        Raises
        ------
        EngineError
            If the pair is outside the trained ranges, or of a size that the engine
            does not take.
        EngineLostError
            If the engine fails.
        """
        start_s = time.perf_counter()
        self.check_optics(measured.optics)
        physics = fuse_measured(measured, colours="together")
        form = self._engine.form
        pictures = pair_pictures(measured, physics, form.inputs)
        offset, quality = physics.offset, physics.quality
        del physics  # its light goes before the network takes memory
        height_px, width_px = measured.minus.shape[:2]
        plan = plan_windows(
            form, (height_px, width_px), most_window_px=self._most_window_px
        )
        fused = self._engine.stream(plan.cut(pictures))
        return FusedTile(
            pixels=plan.join(fused, (height_px, width_px)),
            offset=offset,
            quality=quality,
            seconds=measured.seconds + time.perf_counter() - start_s,
            sharper_is_plus=measured.sharper_is_plus,
        )

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()
