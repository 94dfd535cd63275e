"""Cameras that play a scan again: one keeps its frames in a file, one delivers them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bifocus.errors import EngineError
from bifocus.hal.devices import PendingFrame
from bifocus.hal.virtual_camera import VirtualCamera
from bifocus.records import Frame, MoveReceipt, UInt8Image


class KeepingCamera:
    """Appends the pixels of every frame that it hands on to a file."""

    def __init__(self, camera: VirtualCamera, file: Path) -> None:
        self._camera = camera
        self._file = file
        self.capabilities = camera.capabilities

    def configure(self, *, exposure_s: float) -> None:
        """Hand on."""
        self._camera.configure(exposure_s=exposure_s)

    def grab(self, after: MoveReceipt | None = None) -> Frame:
        """Hand on, and keep."""
        return self.keep(self._camera.grab(after))

    def begin(self, after: MoveReceipt) -> "_Kept":
        """Hand on; what it gives is kept."""
        return _Kept(self, self._camera.begin(after))

    def close(self) -> None:
        """Hand on."""
        self._camera.close()

    def keep(self, frame: Frame) -> Frame:
        """Write the pixels behind those of the frames before."""
        with self._file.open("ab") as file:
            file.write(frame.pixels.tobytes())
        return frame


@dataclass(frozen=True, slots=True)
class _Kept:
    camera: KeepingCamera
    pending: PendingFrame

    @property
    def exposure_end_s(self) -> float:
        return self.pending.exposure_end_s

    def get(self) -> Frame:
        return self.camera.keep(self.pending.get())


class RehearsedCamera(VirtualCamera):
    """A virtual camera whose frames were rendered before, in the order they come."""

    def __init__(self, file: Path, **parts: Any) -> None:
        super().__init__(**parts)
        self._file = file
        self._number = 0

    def _picture(self, number: int, t_s: float, out: UInt8Image) -> UInt8Image:
        del number, t_s
        # Read, not mapped: pages of a map would count as the loop's memory.
        with self._file.open("rb", buffering=0) as file:
            file.seek(self._number * out.nbytes)
            n_read = file.readinto(out.reshape(-1).data)
        self._number += 1
        if n_read < out.nbytes:
            msg = "the scan asks for more frames than its rehearsal took"
            raise EngineError(msg)
        return out
