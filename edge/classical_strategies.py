"""The classical ways into focus, for comparison: a stack on every tile, a focus map.

`stack` takes a z-stack on every tile and one shot at its peak; `focus-map` surveys the
focus of every tile first and then shoots each once (the paper's Table IV).
"""

from collections.abc import Sequence

import numpy as np

from bifocus.blank_field import is_blank_field
from bifocus.config import Scan
from bifocus.edge.capture import Microscope
from bifocus.edge.focus_search import find_peak_um
from bifocus.edge.focus_tracking import FocusTracker
from bifocus.edge.journal import TileEntry
from bifocus.edge.shots import Reading, Shot, Verdict
from bifocus.records import Frame, TileVisit


class _SearchedFocus:
    """What the ways that search the focus have in common: the shot tells it all."""

    def __init__(self, microscope: Microscope) -> None:
        self._microscope = microscope

    def awaits(self, visit: TileVisit) -> bool:
        """Need no verdict: the next tile is searched anyway."""
        del visit
        return False

    def measure(self, shot: Shot) -> Reading:
        """See whether there is anything but glass."""
        is_blank = not shot.has_focus and is_blank_field(shot.frames[0].pixels)
        return Reading(measured=None, is_blank=is_blank)

    def judge(self, shot: Shot, reading: Reading) -> Verdict:
        """Take the shot as it is."""
        if shot.has_focus:
            return Verdict(status="captured", focus_um=shot.focus_um, reason="a peak")
        if reading.is_blank:
            return Verdict(status="blank", focus_um=shot.focus_um, reason="clear glass")
        reason = "the stack has no peak"
        return Verdict(status="flagged", focus_um=shot.focus_um, reason=reason)

    def revisit(self, visit: TileVisit) -> tuple[Frame, ...]:
        """Shoot it where it was in focus."""
        place = visit.target
        return (self._microscope.shoot(place.x_um, place.y_um, place.z_um),)


class Stack(_SearchedFocus):
    """A z-stack around the expected focus on every tile, then one shot at its peak."""

    name = "stack"

    def __init__(
        self, microscope: Microscope, tracker: FocusTracker, settings: Scan
    ) -> None:
        super().__init__(microscope)
        self._tracker = tracker
        self._settings = settings

    @property
    def reach_um(self) -> float:
        """Half the stack."""
        return self._settings.stack_step_um * (self._settings.stack_planes - 1) / 2

    def survey(self, visits: Sequence[TileVisit]) -> None:
        """Need nothing beforehand."""

    def shoot(self, visit: TileVisit, again: Verdict | None, attempt: int) -> Shot:
        """Take the stack, then the final shot."""
        del again
        microscope = self._microscope
        start_s, start_shots = microscope.clock.monotonic_s(), microscope.shots
        focus_um, has_focus = self.find_focus(visit)
        frame = microscope.shoot(visit.target.x_um, visit.target.y_um, focus_um)
        return Shot(
            visit=visit,
            frames=(frame,),
            focus_um=focus_um,
            attempt=attempt,
            n_frames=microscope.shots - start_shots,
            seconds=microscope.clock.monotonic_s() - start_s,
            at_s=microscope.scan_s(),
            has_focus=has_focus,
        )

    def find_focus(self, visit: TileVisit) -> tuple[float, bool]:
        """Return the focus of a tile by its own stack, and whether it has one."""
        x_um, y_um = visit.target.x_um, visit.target.y_um
        expected_um = self._tracker.predict_um(x_um, y_um)
        count, step_um = self._settings.stack_planes, self._settings.stack_step_um
        steps = np.arange(count, dtype=np.float64) - (count - 1) / 2
        planes_um = expected_um + step_um * steps
        peak_um = find_peak_um(self._microscope, x_um, y_um, planes_um)
        if peak_um is None:
            return expected_um, False
        self._tracker.add(x_um, y_um, peak_um, step_um / 4)
        return peak_um, True

    def recall(self, entries: Sequence[TileEntry]) -> None:
        """Teach the tracker the peaks that were found."""
        for entry in entries:
            if entry.status == "captured":
                sd_um = self._settings.stack_step_um / 4
                self._tracker.add(entry.x_um, entry.y_um, entry.focus_um, sd_um)


class FocusMap(_SearchedFocus):
    """Survey every tile with a stack first, then shoot each once at its own focus."""

    name = "focus-map"

    def __init__(self, microscope: Microscope, stack: Stack) -> None:
        super().__init__(microscope)
        self._stack = stack
        self._map: dict[tuple[int, int], tuple[float, bool]] = {}
        self._survey_s = 0.0
        self._survey_shots = 0

    @property
    def reach_um(self) -> float:
        """Half the stack."""
        return self._stack.reach_um

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

    def shoot(self, visit: TileVisit, again: Verdict | None, attempt: int) -> Shot:
        """Shoot once; the tile's share of the survey is counted with it."""
        del again
        microscope = self._microscope
        start_s = microscope.clock.monotonic_s()
        focus_um, has_focus = self._map[visit.row, visit.column]
        frame = microscope.shoot(visit.target.x_um, visit.target.y_um, focus_um)
        return Shot(
            visit=visit,
            frames=(frame,),
            focus_um=focus_um,
            attempt=attempt,
            n_frames=1 + self._survey_shots,
            seconds=microscope.clock.monotonic_s() - start_s + self._survey_s,
            at_s=microscope.scan_s(),
            has_focus=has_focus,
        )

    def recall(self, entries: Sequence[TileEntry]) -> None:
        """Begin with what the stacks of those tiles found."""
        self._stack.recall(entries)
