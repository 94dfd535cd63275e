"""All that reports need of a finished scan; the pictures are in its folder."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bifocus.edge.focus_tracking import FocusTracker
from bifocus.edge.journal import TileLine
from bifocus.edge.placement import Placement
from bifocus.edge.plan import ScanPlan
from bifocus.edge.scan_folder import ScanFolder
from bifocus.edge.truth import TruthReport


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanResult:
    """A finished scan.

    Attributes
    ----------
    lines
        Of all tiles, in the order of their visits.
    elapsed_s
        On the scan's clock, with the time before a break.
    waits_s, timings_ms
        Of this session: where capture waited, and how long each stage took.
    shots
        All frames that were taken.
    sessions
        1, and one more for each time the scan was gone on with.
    """

    folder: ScanFolder
    plan: ScanPlan
    strategy: str
    lines: tuple[TileLine, ...]
    placement: Placement
    tracker: FocusTracker
    elapsed_s: float
    waits_s: dict[str, float]
    shots: int
    slide_px: tuple[int, int]
    model: str
    engine: str
    faults: tuple[str, ...]
    simulated: bool
    truth: TruthReport | None
    untrusted_pairs: int
    half_spacing_um: float
    timings_ms: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    sessions: int = 1
