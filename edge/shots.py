"""What travels from the camera to the fuser: a shot, what it tells, and the verdict."""

from dataclasses import dataclass
from typing import Literal

from bifocus.edge.fusers import WholePair
from bifocus.physics_fusion import MeasuredPair
from bifocus.records import FocalOffset, Frame, TileVisit

TileStatus = Literal["captured", "blank", "flagged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """What one visit brought home, not yet judged.

    Attributes
    ----------
    frames
        The pair at F-dD and F+dD in this order, or one frame in focus.
    focus_um
        F in the stage frame.
    attempt
        0 for the first visit of a tile, 1 and 2 when it is shot again.
    n_frames, seconds
        What the visit cost: all frames that were taken, and time on the scan's clock.
    at_s
        When it was shot, in seconds of the scan.
    expected_sd_um
        How sure F was, where it follows the slide.
    has_focus
        For ways that search the focus themselves: whether they found it.
    """

    visit: TileVisit
    frames: tuple[Frame, ...]
    focus_um: float
    attempt: int
    n_frames: int
    seconds: float
    at_s: float
    expected_sd_um: float | None = None
    has_focus: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a shot tells: the measured pair, and whether all of it is clear glass."""

    measured: MeasuredPair | WholePair | None
    is_blank: bool

    @property
    def offset(self) -> FocalOffset | None:
        """Where the best focus lies relative to F, for a pair."""
        measured = self.measured
        if isinstance(measured, WholePair):
            return measured.tile.offset
        return None if measured is None else measured.offsets.tile

    @property
    def clearest(self) -> float:
        """How much texture the clearest block of a pair holds, 0..1."""
        measured = self.measured
        if isinstance(measured, WholePair):
            return measured.clearest
        return 0.0 if measured is None else float(measured.offsets.weight.max())


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What becomes of a shot.

    `status` is that of the finished tile, or `again`: the tile is to be visited again
    at `focus_um`. `reason` is for the trace of decisions.
    """

    status: TileStatus | Literal["again"]
    focus_um: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One line in the trace of a tile's decisions.

    `expected_sd_um` says how sure F was beforehand, the next three what the pair told.
    """

    focus_um: float
    expected_sd_um: float | None
    offset_um: float | None
    sd_um: float | None
    confidence: float | None
    status: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """A finished tile: the shot that is kept, what it told, and how it came about.

    `status` is `captured`, `blank` (clear glass) or `flagged` (there is something, but
    its focus was not found). A two-shot capture is `measured` for fusion, or fused by
    what measured it; others are in focus already. `n_frames` and `seconds` count
    all attempts.
    """

    visit: TileVisit
    frames: tuple[Frame, ...]
    focus_um: float
    status: TileStatus
    n_frames: int
    seconds: float
    at_s: float
    offset: FocalOffset | None = None
    measured: MeasuredPair | WholePair | None = None
    trace: tuple[Attempt, ...] = ()
