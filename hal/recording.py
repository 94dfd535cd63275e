"""Records what passes between us and the devices, so that a bug report can be replayed.

A folder with `journal.jsonl` and the frames as PNG. Each line reaches the system at
once; after a power cut only the last may be missing.
"""

import dataclasses
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import cv2
import numpy as np

from bifocus import __version__
from bifocus.clock import Clock
from bifocus.config import Instrument
from bifocus.errors import SlideFileError
from bifocus.hal.devices import BorrowingCamera, Camera, CameraCapabilities, Lend
from bifocus.hal.recording_lines import JOURNAL, VERSION, What, to_line
from bifocus.hal.secrets import without_secrets
from bifocus.records import Frame, MoveReceipt, UInt8Image

_QUICK_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1]


class Recorder:
    """Writes one recording; an `ExchangeObserver`. Safe to use from several threads.

    Raises
    ------
    SlideFileError
        If the folder holds a recording already, or the disk refuses.
    """

    def __init__(self, folder: Path, config: Instrument, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._lock = threading.Lock()
        self._n_frames = 0
        try:
            (folder / "frames").mkdir(parents=True, exist_ok=True)
            self._stream = (folder / JOURNAL).open("x", encoding="utf-8")
        except FileExistsError as error:
            msg = f"{folder}: holds a recording already; choose another folder"
            raise SlideFileError(msg) from error
        except OSError as error:
            raise self._refused(error) from error
        self._write(
            "start",
            clock.monotonic_s(),
            version=VERSION,
            bifocus=__version__,
            instrument=without_secrets(config.model_dump(mode="json")),
        )

    def __enter__(self) -> "Recorder":
        """Return the recorder, which already writes."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the journal; an error that ended the work is its last event."""
        if error is not None:
            text = f"ended by {type(error).__name__}: {error}"
            self.exchange("event", text.encode(), self._clock.monotonic_s())
        self.close()

    def close(self) -> None:
        """Write that this is the end, and close the journal; may be called twice."""
        if not self._stream.closed:
            self.exchange("event", b"end", self._clock.monotonic_s())
        self._stream.close()

    def exchange(
        self, direction: Literal["tx", "rx", "event"], data: bytes, at_s: float
    ) -> None:
        """Write one exchange; see `bifocus.hal.byte_link.ExchangeObserver`."""
        self._write(direction, at_s, data=data.decode("latin-1"))

    def camera(self, facts: CameraCapabilities) -> None:
        """Write which camera it is that the frames come from."""
        self._write("camera", self._clock.monotonic_s(), **dataclasses.asdict(facts))

    def frame(self, frame: Frame, *, was_after: bool) -> None:
        """Write one frame, its pixels first, so that its line is never alone."""
        name = f"frames/{self._n_frames:06d}.png"
        self._n_frames += 1
        done, png = cv2.imencode(".png", _swapped(frame.pixels), _QUICK_PNG)
        try:
            if not done:
                raise OSError("the picture cannot be encoded")
            (self._folder / name).write_bytes(png.tobytes())
        except OSError as error:
            raise self._refused(error) from error
        pose = frame.pose
        self._write(
            "frame",
            self._clock.monotonic_s(),
            file=name,
            start_s=frame.exposure_start_s,
            end_s=frame.exposure_end_s,
            pose_um=[pose.x_um, pose.y_um, pose.z_um],
            number=frame.sequence_number,
            after=was_after,
        )

    def _write(self, what: What, at_s: float, **fields: Any) -> None:
        try:
            with self._lock:
                if self._stream.closed:
                    return  # what a driver says while it closes
                self._stream.write(to_line(what, at_s, fields))
                self._stream.flush()
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> SlideFileError:
        return SlideFileError(
            f"{self._folder}: cannot write the recording: {error.strerror or error}; "
            "go on without --record, or name another folder"
        )


class RecordedCamera:
    """A camera whose frames are recorded on their way to whoever asked for them."""

    def __init__(self, camera: Camera, recorder: Recorder) -> None:
        self._camera = camera
        self._recorder = recorder
        recorder.camera(camera.capabilities)

    @property
    def capabilities(self) -> CameraCapabilities:
        """Those of the camera."""
        return self._camera.capabilities

    def configure(self, *, exposure_s: float) -> None:
        """Pass on."""
        self._camera.configure(exposure_s=exposure_s)

    def grab(self, after: MoveReceipt | None = None) -> Frame:
        """Grab, record, return; see `bifocus.hal.devices.Camera`."""
        frame = self._camera.grab(after)
        self._recorder.frame(frame, was_after=after is not None)
        return frame

    def borrow_from(self, lend: Lend | None) -> None:
        """Pass on, to a camera that borrows."""
        if isinstance(self._camera, BorrowingCamera):
            self._camera.borrow_from(lend)

    def close(self) -> None:
        """Close the camera."""
        self._camera.close()


def _swapped(pixels: UInt8Image) -> UInt8Image:
    """Return RGB as OpenCV's BGR, or BGR as RGB; grey as it is."""
    return pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[..., ::-1])
