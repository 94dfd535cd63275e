"""How a tile is brought into focus: the Protocol, and the two-shot way.

A strategy decides: where a tile is shot, what the shot means, whether it is shot again.
When that happens, and what goes on meanwhile, is the loop's affair (`capture_loop`).
`two-shot` shoots at F-dD and F+dD and leaves the rest to fusion; the other ways are in
`classical_strategies`.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from bifocus.blank_field import is_blank_field
from bifocus.edge.capture import Microscope
from bifocus.edge.focus_process import Prediction
from bifocus.edge.focus_search import find_peak_um, stops_to
from bifocus.edge.focus_tracking import FocusTracker
from bifocus.edge.journal import TileEntry
from bifocus.edge.pair_meter import PairMeter
from bifocus.edge.shots import Reading, Shot, Verdict
from bifocus.illumination import FlatFieldCorrection
from bifocus.records import Frame, StagePosition, TileVisit, UInt8Image

STRATEGIES = ("two-shot", "stack", "focus-map")

# A tile teaches focus only if its clearest block weighs this much (20 nats of
# likelihood). Measured on the virtual instrument: noise alone reaches 0.5, on
# uncorrected falloff 0.76; tissue within 2 um of F gives 0.94 and more.
_LEAST_WEIGHT = 0.77
# A tile further from F than so many units of lambda / NA^2 is shot again.
_RESHOOT_UNITS = 2.0
_RESHOTS = 2
# Until so many tiles have told their focus, each is waited for before the next.
_KNOWN_TILES = 3
# A first tile whose focus is less sure is walked to from where the focus is known: the
# pair itself tells up to 3.8 um at NA 0.75, and a shot again as much once more.
_WALK_SD_UM = 5.0
# After so many lost tiles, and twice as many and so on, the focus is searched by a
# stack with planes so many units apart, this far about the expected focus.
_LOST_TILES = 2
_SEARCH_UNITS = 2.0
_SEARCH_UM = (20.0, 40.0)
_LEAST_PLANES = 5

_TAUGHT = {
    "learned": "taught the surface",
    "suspect": "set aside: far off its neighbours",
    "step": "a step of level was learned",
}


class Strategy(Protocol):
    """How a scan finds the focus of each tile.

    `shoot`, `awaits`, `judge` and `recall` are called from the thread that owns the
    stage, `measure` from another one, for one shot at a time.
    """

    @property
    def name(self) -> str:
        """One of `STRATEGIES`."""
        ...

    @property
    def reach_um(self) -> float:
        """How far above and below the expected focus a visit goes."""
        ...

    def survey(self, visits: Sequence[TileVisit]) -> None:
        """Do what must be done before the first tile."""
        ...

    def awaits(self, visit: TileVisit) -> bool:
        """Return whether the last shot must be judged before this visit is aimed."""
        ...

    def shoot(self, visit: TileVisit, again: Verdict | None, attempt: int) -> Shot:
        """Shoot a tile: where it is expected, or `again` where a verdict says."""
        ...

    def measure(self, shot: Shot) -> Reading:
        """Read what the pictures tell; the costly part, and without side effects."""
        ...

    def judge(self, shot: Shot, reading: Reading) -> Verdict:
        """Decide on a shot, and learn from it."""
        ...

    def recall(self, entries: Sequence[TileEntry]) -> None:
        """Learn from the journal what was known when the scan broke off."""
        ...

    def revisit(self, visit: TileVisit) -> tuple[Frame, ...]:
        """Shoot a known tile again, from the focus that it had: `visit.target`."""
        ...


class TwoShot:
    """Two shots a tile; F follows the slide by the offsets of the tiles so far.

    `half_spacing_um` is what the stage is told; what it achieves is the meter's affair.
    `lend` gives the arrays for corrected shots, by default new ones.
    """

    name = "two-shot"

    def __init__(
        self,
        microscope: Microscope,
        tracker: FocusTracker,
        meter: PairMeter,
        correction: FlatFieldCorrection,
        half_spacing_um: float,
        lend: Callable[[], UInt8Image] | None = None,
    ) -> None:
        self._half_spacing_um = half_spacing_um
        self._microscope = microscope
        self._tracker = tracker
        self._meter = meter
        self._correction = correction
        self._lend = lend
        self._lost = 0

    @property
    def reach_um(self) -> float:
        """The half-spacing dD, as commanded."""
        return self._half_spacing_um

    def survey(self, visits: Sequence[TileVisit]) -> None:
        """Walk from the calibrated place to the first tile, where that is far."""
        goal = visits[0].target
        if self._tracker.predict(goal.x_um, goal.y_um).sd_um <= _WALK_SD_UM:
            return
        for x_um, y_um in stops_to(self._tracker, (goal.x_um, goal.y_um)):
            place = StagePosition(x_um=x_um, y_um=y_um, z_um=goal.z_um)
            self._visit(TileVisit(row=-1, column=-1, target=place), None)

    def revisit(self, visit: TileVisit) -> tuple[Frame, ...]:
        """Shoot the pair where it was, and where it points, until it is in range."""
        focus_um = visit.target.z_um
        return self._visit(
            visit, Verdict(status="again", focus_um=focus_um, reason="shot before")
        )

    def _visit(self, visit: TileVisit, verdict: Verdict | None) -> tuple[Frame, ...]:
        attempt, microscope = 0, self._microscope
        while True:
            shot = self.shoot(visit, verdict, attempt)
            start_s = microscope.clock.monotonic_s()
            reading = self.measure(shot)
            microscope.waits.measure_s += microscope.clock.monotonic_s() - start_s
            verdict = self.judge(shot, reading)
            if verdict.status != "again":
                return shot.frames
            attempt += 1

    def awaits(self, visit: TileVisit) -> bool:
        """Wait while the surface is hardly known, or was lost."""
        del visit
        is_new = self._tracker.n_measured < _KNOWN_TILES
        return is_new or self._lost > 0 or self._tracker.is_in_doubt

    def shoot(self, visit: TileVisit, again: Verdict | None, attempt: int) -> Shot:
        """Shoot the pair."""
        microscope = self._microscope
        start_s, start_shots = microscope.clock.monotonic_s(), microscope.shots
        x_um, y_um = visit.target.x_um, visit.target.y_um
        expected = self._tracker.predict(x_um, y_um, microscope.scan_s())
        focus_um = expected.height_um if again is None else again.focus_um
        if again is None and self._is_to_be_searched():
            focus_um = self._search_um(x_um, y_um, expected)
        pair = microscope.shoot_pair(x_um, y_um, focus_um, self.reach_um)
        return Shot(
            visit=visit,
            frames=(pair.minus, pair.plus),
            focus_um=focus_um,
            attempt=attempt,
            n_frames=microscope.shots - start_shots,
            seconds=microscope.clock.monotonic_s() - start_s,
            at_s=microscope.scan_s(),
            expected_sd_um=expected.sd_um,
        )

    def measure(self, shot: Shot) -> Reading:
        """Correct the illumination and read the pair's offsets."""
        minus, plus = (frame.pixels for frame in shot.frames)
        if is_blank_field(minus) and is_blank_field(plus):
            # Nobody asks where glass is in focus, and a whole fusion is dear.
            return Reading(measured=None, is_blank=True)
        measured = self._meter.read(
            self._correction.apply(minus, self._lend),
            self._correction.apply(plus, self._lend),
        )
        return Reading(measured=measured, is_blank=False)

    def judge(self, shot: Shot, reading: Reading) -> Verdict:
        """Take the shot, or have it again where its offset points, at most twice."""
        offset = reading.offset
        if reading.is_blank or offset is None:
            return Verdict(status="blank", focus_um=shot.focus_um, reason="clear glass")
        best_um = shot.focus_um + offset.offset_um
        reach_um = _RESHOOT_UNITS * self._meter.optics.focus_unit_um
        is_clear = reading.clearest >= _LEAST_WEIGHT
        if is_clear and abs(offset.offset_um) <= reach_um:
            target = shot.visit.target
            taught = self._tracker.add(
                target.x_um,
                target.y_um,
                best_um,
                offset.sd_um,
                shot.at_s,
                is_new_level=self._lost >= _LOST_TILES,
            )
            self._lost = 0
            reason = f"in range; {_TAUGHT[taught]}"
            return Verdict(status="captured", focus_um=shot.focus_um, reason=reason)
        reason = f"{offset.offset_um:+.2f} um away, or further"
        if not is_clear:
            reason = "the pair does not tell its focus"
        if shot.attempt >= _RESHOTS:
            reason += f"; shot {shot.attempt + 1} times"
        elif self._is_in_travel(best_um):
            return Verdict(status="again", focus_um=best_um, reason=reason)
        else:
            reason += "; that is outside the travel"
        self._lost += 1
        return Verdict(status="flagged", focus_um=shot.focus_um, reason=reason)

    def recall(self, entries: Sequence[TileEntry]) -> None:
        """Teach the tracker what the captured tiles taught it."""
        recall_surface(self._tracker, entries)

    def _is_to_be_searched(self) -> bool:
        """Search after 2, 4, 8 lost tiles: not every one of a field of debris."""
        lost = self._lost
        return lost >= _LOST_TILES and lost & (lost - 1) == 0

    def _search_um(self, x_um: float, y_um: float, expected: Prediction) -> float:
        """Return the focus that a stack finds, or the expected one."""
        reach_um = float(np.clip(3 * expected.sd_um, *_SEARCH_UM))
        step_um = _SEARCH_UNITS * self._meter.optics.focus_unit_um
        bottom_um, top_um = self._microscope.stage.limits.z_um
        low_um = max(expected.height_um - reach_um, bottom_um + self.reach_um)
        high_um = min(expected.height_um + reach_um, top_um - self.reach_um)
        planes_um = np.arange(low_um, high_um, step_um, dtype=np.float64)
        if planes_um.size < _LEAST_PLANES:
            return expected.height_um
        peak_um = find_peak_um(self._microscope, x_um, y_um, planes_um)
        return expected.height_um if peak_um is None else peak_um

    def _is_in_travel(self, focus_um: float) -> bool:
        low_um, high_um = self._microscope.stage.limits.z_um
        reach_um = self.reach_um
        return low_um <= focus_um - reach_um and focus_um + reach_um <= high_um


def recall_surface(tracker: FocusTracker, entries: Sequence[TileEntry]) -> None:
    """Teach a tracker again what the tiles of a journal taught it, in their order."""
    for entry in entries:
        if entry.status == "captured" and entry.offset is not None:
            best_um = entry.focus_um + entry.offset.offset_um
            sd_um, at_s = entry.offset.sd_um, entry.at_s
            tracker.add(entry.x_um, entry.y_um, best_um, sd_um, at_s)
