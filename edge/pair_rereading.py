"""A tile's capture, made again from its shots on the disk and its journal line.

The pair is measured under the light that the journal names, so that what fusion gets is
bit for bit what it got in the scan.
"""

import dataclasses
from collections.abc import Callable
from typing import cast, get_args

from bifocus.edge.fusers import WholePair
from bifocus.edge.journal import TileEntry
from bifocus.edge.pair_meter import PairMeter
from bifocus.edge.shots import Capture, TileStatus
from bifocus.edge.tile_notes import read_light, read_trace
from bifocus.errors import SlideFileError
from bifocus.illumination import FlatFieldCorrection
from bifocus.physics_fusion import MeasuredPair
from bifocus.records import Frame, StagePosition, TileVisit, UInt8Image
from bifocus.transfer import Light

LoadShot = Callable[[str], UInt8Image]


class PairRereading:
    """Reads captures of one scan back; one thread at a time.

    The meter is its own: the light that the journal names is set anew for each pair.
    """

    def __init__(
        self, load_shot: LoadShot, meter: PairMeter, correction: FlatFieldCorrection
    ) -> None:
        """Store what is needed; `load_shot` reads a shot by its name in the journal."""
        self._load_shot = load_shot
        self._meter = meter
        self._correction = correction

    def capture(self, entry: TileEntry) -> Capture:
        """Return the capture of a journal line.

        Raises
        ------
        SlideFileError
            If a shot is missing or damaged.
        """
        status = _checked(entry)
        place = StagePosition(x_um=entry.x_um, y_um=entry.y_um, z_um=entry.focus_um)
        paths = [entry.raw_a] if entry.raw_b is None else [entry.raw_a, entry.raw_b]
        frames = tuple(self._frame(path, place) for path in paths)
        measured = None
        if len(frames) == 2 and status != "blank":
            minus, plus = (self._correction.apply(frame.pixels) for frame in frames)
            measured = self._measure(minus, plus, read_light(entry.light))
        return Capture(
            visit=TileVisit(row=entry.row, column=entry.column, target=place),
            frames=frames,
            focus_um=entry.focus_um,
            status=status,
            n_frames=entry.shots,
            seconds=entry.capture_s,
            at_s=entry.at_s,
            offset=entry.offset,
            measured=measured,
            trace=read_trace(entry.trace),
        )

    def _measure(
        self, minus: UInt8Image, plus: UInt8Image, light: Light | None
    ) -> MeasuredPair | WholePair:
        self._meter.optics = dataclasses.replace(self._meter.optics, light=light)
        return self._meter.read(minus, plus)

    def _frame(self, path: str, place: StagePosition) -> Frame:
        # Only the pixels count for what follows; times and pose were the camera's.
        return Frame(
            pixels=self._load_shot(path),
            exposure_start_s=0.0,
            exposure_end_s=0.0,
            pose=place,
            sequence_number=0,
        )


def _checked(entry: TileEntry) -> TileStatus:
    for known in get_args(TileStatus):
        if entry.status == known:
            return cast("TileStatus", known)
    msg = (
        f"tile {entry.row}, {entry.column} is '{entry.status}', which is none of "
        f"{get_args(TileStatus)}: the journal is damaged"
    )
    raise SlideFileError(msg)
