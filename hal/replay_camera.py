"""A camera that gives the frames of a recording, in their order and at their times."""

import cv2
import numpy as np

from bifocus.clock import VirtualClock
from bifocus.errors import DeviceError, ImageFileError, ReplayError
from bifocus.hal.devices import CameraCapabilities
from bifocus.hal.recording_lines import Entry, Journal
from bifocus.records import Frame, MoveReceipt, StagePosition, UInt8Image


class ReplayCamera:
    """Replays the frames of a recording; a `Camera`."""

    def __init__(self, journal: Journal, clock: VirtualClock) -> None:
        self._journal = journal
        self._clock = clock
        self._facts = _read_facts(journal)
        self._frames = [e for e in journal.entries if e.what == "frame"]
        self._next = 0
        self._is_closed = False

    @property
    def capabilities(self) -> CameraCapabilities:
        """Those of the recorded camera, marked as simulated."""
        return self._facts

    def configure(self, *, exposure_s: float) -> None:
        """Do nothing: the frames have been exposed."""

    def grab(self, after: MoveReceipt | None = None) -> Frame:
        """Return the next recorded frame.

        Where the work takes longer than it did then, its times are moved with it.

        Raises
        ------
        ReplayError
            If the recording has no further frame.
        DeviceError
            If the camera is closed.
        ImageFileError
            If its picture is missing or damaged.
        """
        if self._is_closed:
            msg = f"the replay of {self._journal.folder} is closed"
            raise DeviceError(msg)
        if self._next == len(self._frames):
            msg = (
                f"{self._journal.folder}: the recording has no frame after number "
                f"{self._next}; it ends at {self._journal.end}"
            )
            raise ReplayError(msg)
        entry = self._frames[self._next]
        self._next += 1
        fields = entry.fields
        start_s, end_s = float(fields["start_s"]), float(fields["end_s"])
        late_s = max(0.0, after.settled_s - start_s) if after and fields["after"] else 0
        self._clock.sleep(entry.at_s + late_s - self._clock.monotonic_s())
        x_um, y_um, z_um = fields["pose_um"]
        return Frame(
            pixels=self._read_pixels(entry),
            exposure_start_s=start_s + late_s,
            exposure_end_s=end_s + late_s,
            pose=StagePosition(x_um=x_um, y_um=y_um, z_um=z_um),
            sequence_number=int(fields["number"]),
        )

    def close(self) -> None:
        """Give no more frames; may be called twice."""
        self._is_closed = True

    def _read_pixels(self, entry: Entry) -> UInt8Image:
        path = self._journal.folder / str(entry.fields["file"])
        try:
            coded = np.frombuffer(path.read_bytes(), np.uint8)
        except OSError as error:
            msg = f"{path}: line {entry.line} of the recording names it, but it is gone"
            raise ImageFileError(msg) from error
        pixels = cv2.imdecode(coded, cv2.IMREAD_UNCHANGED) if coded.size else None
        if pixels is None or pixels.dtype != np.uint8:
            msg = f"{path}: is damaged, or no 8-bit PNG"
            raise ImageFileError(msg)
        swapped = pixels if pixels.ndim == 2 else pixels[..., ::-1]
        return np.ascontiguousarray(swapped)


def _read_facts(journal: Journal) -> CameraCapabilities:
    """Return what the recorded camera said of itself; a poor stand-in for none."""
    for entry in journal.entries:
        if entry.what == "camera":
            return CameraCapabilities(**{**entry.fields, "simulated": True})
    return CameraCapabilities(
        kind="none", identity="no camera", simulated=True, width_px=0, height_px=0
    )
