"""Three ways to bring a tile into focus, and what each costs in shots.

`two-shot` shoots at F-dD and F+dD and leaves the rest to fusion; `stack` is the
classical way, a z-stack on every tile and one shot at its peak; `focus-map` surveys the
focus of every tile first and then shoots each once (the paper's Table IV).
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bifocus.blank_field import is_blank_field
from bifocus.config import Scan
from bifocus.edge.capture import Microscope
from bifocus.edge.focus_tracking import FocusTracker
from bifocus.edge.pair_meter import PairMeter
from bifocus.focus_curve import LEAST_PROMINENCE, LEAST_TEXTURE, fit_focus
from bifocus.illumination import FlatFieldCorrection
from bifocus.physics_fusion import MeasuredPair
from bifocus.records import FocalOffset, Frame, TileVisit
from bifocus.sharpness import measure_sharpness

logger = logging.getLogger(__name__)

STRATEGIES = ("two-shot", "stack", "focus-map")

# A tile teaches focus only if its clearest block weighs this much (20 nats of
# likelihood). Measured on the virtual instrument: noise alone reaches 0.5, on
# uncorrected falloff 0.76; tissue within 2 um of F gives 0.94 and more.
_LEAST_WEIGHT = 0.77
# A tile further from F than so many units of lambda / NA^2 is shot again.
_RESHOOT_UNITS = 2.0
_RESHOTS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """What one visit brought home.

    `status` is `captured`, `blank` (clear glass) or `flagged` (there is something, but
    its focus was not found). A two-shot capture is `measured` for fusion; others are in
    focus already.
    """

    visit: TileVisit
    frames: tuple[Frame, ...]
    focus_um: float
    status: str
    shots: int
    seconds: float
    offset: FocalOffset | None = None
    measured: MeasuredPair | None = None


class Strategy(Protocol):
    """How a scan finds the focus of each tile."""

    @property
    def name(self) -> str:
        """One of `STRATEGIES`."""
        ...

    def survey(self, visits: Sequence[TileVisit]) -> None:
        """Do what must be done before the first tile."""
        ...

    def shoot(self, visit: TileVisit) -> Capture:
        """Capture one tile."""
        ...


class TwoShot:
    """Two shots a tile; F follows the slide by the offsets of the tiles so far."""

    name = "two-shot"

    def __init__(
        self,
        microscope: Microscope,
        tracker: FocusTracker,
        meter: PairMeter,
        correction: FlatFieldCorrection,
    ) -> None:
        self._microscope = microscope
        self._tracker = tracker
        self._meter = meter
        self._correction = correction

    def survey(self, visits: Sequence[TileVisit]) -> None:
        """Need nothing beforehand."""

    def shoot(self, visit: TileVisit) -> Capture:
        """Shoot the pair; again, at most twice, where it lies out of range."""
        clock, start_shots = self._microscope.clock, self._microscope.shots
        start_s = clock.monotonic_s()
        x_um, y_um = visit.target.x_um, visit.target.y_um
        half_um = self._meter.optics.half_spacing_um
        reach_um = _RESHOOT_UNITS * self._meter.optics.focus_unit_um
        focus_um = self._tracker.predict_um(x_um, y_um)
        status = "flagged"
        for _ in range(_RESHOTS + 1):
            pair = self._microscope.shoot_pair(x_um, y_um, focus_um, half_um)
            measured = self._meter.measure(
                self._correction.apply(pair.minus.pixels),
                self._correction.apply(pair.plus.pixels),
            )
            offset = measured.offsets.tile
            if is_blank_field(pair.minus.pixels) and is_blank_field(pair.plus.pixels):
                status = "blank"
                break
            is_clear = float(measured.offsets.weight.max()) >= _LEAST_WEIGHT
            if is_clear and abs(offset.offset_um) <= reach_um:
                status = "captured"
                break
            logger.info(
                "%s: focus seems %.2f um away from %.2f um, or further",
                visit.name,
                offset.offset_um,
                focus_um,
            )
            focus_um += offset.offset_um
            if not self._is_in_travel(focus_um, half_um):
                break
        if status == "captured":
            best_um = pair.focus_um + offset.offset_um
            self._tracker.add(x_um, y_um, best_um, offset.sd_um)
        return Capture(
            visit=visit,
            frames=(pair.minus, pair.plus),
            focus_um=pair.focus_um,
            status=status,
            shots=self._microscope.shots - start_shots,
            seconds=clock.monotonic_s() - start_s,
            offset=offset,
            measured=measured,
        )

    def _is_in_travel(self, focus_um: float, half_um: float) -> bool:
        low_um, high_um = self._microscope.stage.limits.z_um
        return low_um <= focus_um - half_um and focus_um + half_um <= high_um


class Stack:
    """A z-stack around the expected focus on every tile, then one shot at its peak."""

    name = "stack"

    def __init__(
        self, microscope: Microscope, tracker: FocusTracker, settings: Scan
    ) -> None:
        self._microscope = microscope
        self._tracker = tracker
        self._settings = settings

    def survey(self, visits: Sequence[TileVisit]) -> None:
        """Need nothing beforehand."""

    def shoot(self, visit: TileVisit) -> Capture:
        """Take the stack, then the final shot."""
        microscope = self._microscope
        start_s, start_shots = microscope.clock.monotonic_s(), microscope.shots
        focus_um, is_found = self.find_focus(visit)
        frame = microscope.shoot(visit.target.x_um, visit.target.y_um, focus_um)
        return Capture(
            visit=visit,
            frames=(frame,),
            focus_um=focus_um,
            status=_status(frame, is_found),
            shots=microscope.shots - start_shots,
            seconds=microscope.clock.monotonic_s() - start_s,
        )

    def find_focus(self, visit: TileVisit) -> tuple[float, bool]:
        """Return the focus of a tile by its own stack, and whether it has one."""
        x_um, y_um = visit.target.x_um, visit.target.y_um
        expected_um = self._tracker.predict_um(x_um, y_um)
        count, step_um = self._settings.stack_planes, self._settings.stack_step_um
        steps = np.arange(count, dtype=np.float64) - (count - 1) / 2
        planes_um = expected_um + step_um * steps
        measured = np.array(
            [
                measure_sharpness(self._microscope.shoot(x_um, y_um, z_um).pixels)
                for z_um in planes_um.tolist()
            ]
        )
        curve, noise_floor = measured[:, 0], float(np.median(measured[:, 1]))
        fit = fit_focus(planes_um, curve)
        # Prominence alone would find a peak in noise, whose low end is zero.
        has_texture = float(curve.max()) >= LEAST_TEXTURE * max(noise_floor, 1e-9)
        is_peak = fit.prominence >= LEAST_PROMINENCE and fit.is_peak_inside
        if not (has_texture and is_peak):
            return expected_um, False
        self._tracker.add(x_um, y_um, fit.focus_um, step_um / 4)
        return fit.focus_um, True


class FocusMap:
    """Survey every tile with a stack first, then shoot each once at its own focus."""

    name = "focus-map"

    def __init__(self, microscope: Microscope, stack: Stack) -> None:
        self._microscope = microscope
        self._stack = stack
        self._map: dict[tuple[int, int], tuple[float, bool]] = {}
        self._survey_s = 0.0
        self._survey_shots = 0

    def survey(self, visits: Sequence[TileVisit]) -> None:
        """Find the focus of every tile."""
        start_s, start_shots = (
            self._microscope.clock.monotonic_s(),
            self._microscope.shots,
        )
        for visit in visits:
            self._map[visit.row, visit.column] = self._stack.find_focus(visit)
        self._survey_s = (self._microscope.clock.monotonic_s() - start_s) / len(visits)
        self._survey_shots = (self._microscope.shots - start_shots) // len(visits)

    def shoot(self, visit: TileVisit) -> Capture:
        """Shoot once; the tile's share of the survey is counted with it."""
        microscope = self._microscope
        start_s = microscope.clock.monotonic_s()
        focus_um, is_found = self._map[visit.row, visit.column]
        frame = microscope.shoot(visit.target.x_um, visit.target.y_um, focus_um)
        return Capture(
            visit=visit,
            frames=(frame,),
            focus_um=focus_um,
            status=_status(frame, is_found),
            shots=1 + self._survey_shots,
            seconds=microscope.clock.monotonic_s() - start_s + self._survey_s,
        )


def _status(frame: Frame, is_found: bool) -> str:
    """Return the status of a tile whose focus was searched by a stack."""
    if is_found:
        return "captured"
    return "blank" if is_blank_field(frame.pixels) else "flagged"
