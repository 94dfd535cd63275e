"""Whether a stage still means the same places after a scan broke off.

A power cut leaves a stage without encoders where it is, and its counter at some other
place. So a scan that goes on shoots a tile again that it has, and compares the two
pictures. What they differ by is taken off all later moves, if it is no more than
stitching would have put right; a stage that is further off is not moved on.
"""

import logging
from collections.abc import Callable, Sequence

from bifocus.correlation import find_whole_shift, high_pass, refine_shift
from bifocus.edge.capture import Microscope
from bifocus.edge.journal import TileEntry
from bifocus.edge.registration import GREEN, SEARCH_PX, TRUSTED_NCC
from bifocus.edge.strategies import Strategy
from bifocus.errors import ReferenceLostError
from bifocus.records import Frame, StagePosition, TileVisit, UInt8Image

logger = logging.getLogger(__name__)

LoadShot = Callable[[str], UInt8Image]

# Seams search as far as this. It is more than stages err by, and too little for the
# plan's way to leave the region, or the objective to meet what it must not.
MOST_PX = SEARCH_PX / 2
# Less than this is the stage's own scatter, or play.
LEAST_PX = 2.0
# How far a picture is looked for, as a share of the field.
_SEARCH_SHARE = 0.4
# Of so many tiles, the last ones, the one that told its focus best has most texture.
_CANDIDATES = 10


def find_reference(entries: Sequence[TileEntry]) -> TileEntry | None:
    """Return the tile to be shot again: late, and with texture; None if there is none.

    Parameters
    ----------
    entries
        In the order in which the tiles were finished.
    """
    captured = [entry for entry in entries if entry.status == "captured"]
    recent = captured[-_CANDIDATES:][::-1]
    return max(recent, key=_confidence, default=None)


def _confidence(entry: TileEntry) -> float:
    return entry.offset.confidence if entry.offset is not None else 0.0


class PlaceCheck:
    """Shoots a known tile again; used once, before the first new tile.

    `pixel_um` is that of the camera; `load_shot` reads a shot by its name.
    """

    def __init__(
        self,
        microscope: Microscope,
        strategy: Strategy,
        load_shot: LoadShot,
        pixel_um: float,
    ) -> None:
        self._microscope = microscope
        self._strategy = strategy
        self._load_shot = load_shot
        self._pixel_um = pixel_um

    def run(self, known: TileEntry | None) -> str | None:
        """Correct the microscope by what the tile's pictures differ by.

        Returns
        -------
        str or None
            What was corrected, or that there was no tile to look at, in a sentence;
            None where all is well.

        Raises
        ------
        ReferenceLostError
            If the stage is elsewhere, or further off than its errors explain.
        """
        if known is None:
            return (
                "no tile with texture was captured before the break: whether the stage "
                "still means the same places was not looked at"
            )
        x_um, y_um = known.x_um, known.y_um
        low_um = known.focus_um - self._strategy.reach_um
        self._microscope.approach(x_um, y_um, low_um)
        place = StagePosition(x_um=x_um, y_um=y_um, z_um=known.focus_um)
        visit = TileVisit(row=known.row, column=known.column, target=place)
        frames = self._strategy.revisit(visit)
        dx_px, dy_px, score = self._compare(known, frames)
        at_um = (dx_px * self._pixel_um, dy_px * self._pixel_um)
        where = f"tile {known.row}, {known.column}, shot again"
        if score < TRUSTED_NCC:
            msg = (
                f"{where}, shows another picture (correlation {score:.2f}, at least "
                f"{TRUSTED_NCC} is needed)"
            )
            raise ReferenceLostError(msg + _MEND)
        if max(abs(dx_px), abs(dy_px)) > MOST_PX:
            most_um = MOST_PX * self._pixel_um
            msg = (
                f"{where}, lies {at_um[0]:+.1f} um in x and {at_um[1]:+.1f} um in y "
                f"from where it was, more than the {most_um:.1f} um of a stage's errors"
            )
            raise ReferenceLostError(msg + _MEND)
        logger.info("%s: %+.2f, %+.2f um from where it was", where, *at_um)
        if max(abs(dx_px), abs(dy_px)) < LEAST_PX:
            return None
        self._microscope.origin_um = (-at_um[0], -at_um[1])
        return (
            f"{where} after a break, lay {at_um[0]:+.2f} um in x and {at_um[1]:+.2f} "
            "um in y from where it was: corrected from there on"
        )

    def _compare(
        self, known: TileEntry, frames: Sequence[Frame]
    ) -> tuple[float, float, float]:
        """Return by how much the field has moved, in px, and how surely (an NCC)."""
        names = [name for name in (known.raw_a, known.raw_b) if name is not None]
        best = (0.0, 0.0, 0.0)
        for name, frame in zip(names, frames, strict=True):
            old, new = (
                high_pass(pixels[:, :, GREEN])
                for pixels in (self._load_shot(name), frame.pixels)
            )
            search_px = round(_SEARCH_SHARE * min(old.shape))
            score, whole = find_whole_shift(old, new, (0, 0), search_px)
            if score <= 0:
                continue
            dx_px, dy_px, score = refine_shift(old, new, whole)
            if score > best[2]:
                best = (whole[0] + dx_px, whole[1] + dy_px, score)
        return best


_MEND = (
    ". The stage no longer means the same places: home it, or drive it back to where "
    "its counter was right, then go on with bifocus resume; everything captured is kept"
)
