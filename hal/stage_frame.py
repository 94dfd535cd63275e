"""Between the stage's frame and the board's: travel, whole steps, turned axes.

Pure. The stage's frame has x to the right, y down and z up, away from the slide.
"""

from itertools import pairwise

from bifocus.errors import OutOfTravelError
from bifocus.hal.devices import StageLimits
from bifocus.hal.take_up import Triple
from bifocus.records import StagePosition
from bifocus.stage_config import RealStageConfig


class StageFrame:
    """The geometry of one stage; see `RealStageConfig` for what it is made from."""

    def __init__(self, config: RealStageConfig) -> None:
        self._step_um = config.step_um
        self._signs = tuple(-1.0 if turned else 1.0 for turned in config.invert)
        ranges = (config.x_um, config.y_um, config.safe_z_um)
        x, y, z = (
            (low + take_up, high)
            for (low, high), take_up in zip(ranges, config.take_up_um, strict=True)
        )
        self.limits = StageLimits(x_um=x, y_um=y, z_um=z)

    def quantised(self, place_um: Triple) -> Triple:
        """Return the nearest place in whole steps."""
        x, y, z = (
            round(value / step) * step
            for value, step in zip(place_um, self._step_um, strict=True)
        )
        return x, y, z

    def turned(self, place_um: Triple) -> Triple:
        """Convert between the stage's frame and the board's, either way."""
        x, y, z = (
            value * sign for value, sign in zip(place_um, self._signs, strict=True)
        )
        return x, y, z

    def pieces(
        self, begin: Triple, end: Triple, count: int
    ) -> list[tuple[Triple, Triple]]:
        """Cut a straight way at whole steps into at most `count` equal pieces."""
        places = [begin]
        for number in range(1, count):
            x, y, z = (
                a + (b - a) * number / count for a, b in zip(begin, end, strict=True)
            )
            places.append(self.quantised((x, y, z)))
        places.append(end)
        return [(a, b) for a, b in pairwise(places) if a != b]

    def inside(self, place_um: Triple) -> Triple:
        """Return the place moved into the limits, axis by axis."""
        x, y, z = (
            min(max(value, low), high)
            for value, (low, high) in zip(place_um, self._ranges(), strict=True)
        )
        return x, y, z

    def check_limits(self, place_um: Triple) -> None:
        """Raise `OutOfTravelError` for a target outside the limits."""
        for name, value, (low, high) in zip(
            "xyz", place_um, self._ranges(), strict=True
        ):
            if not low <= value <= high:
                msg = (
                    f"stage target {name} = {value:g} um is outside the safe travel "
                    f"{low:g}..{high:g} um (low end includes the take-up, and for z "
                    "the objective guard); nothing has moved"
                )
                raise OutOfTravelError(msg)

    def _ranges(self) -> tuple[tuple[float, float], ...]:
        return self.limits.x_um, self.limits.y_um, self.limits.z_um


def as_triple(position: StagePosition) -> Triple:
    """Return x, y, z in micrometres."""
    return position.x_um, position.y_um, position.z_um


def as_position(place_um: Triple) -> StagePosition:
    """Return the record of a place."""
    x_um, y_um, z_um = place_um
    return StagePosition(x_um=x_um, y_um=y_um, z_um=z_um)
