"""Drivers and cameras with one fault each, as real ones have had them.

Every class here changes one thing of a sound one; the conformance kit must find it.
"""

import dataclasses

from bifocus.clock import Clock
from bifocus.errors import DeviceError, DeviceTimeoutError
from bifocus.hal.byte_link import ByteLink
from bifocus.hal.devices import Camera, CameraCapabilities, StageLimits
from bifocus.records import Frame, MoveReceipt, StagePosition
from tests.hal.toy_stage import Steps, ToyStage


class ClipsLimits(ToyStage):
    """A target outside becomes the nearest one inside, silently."""

    def _checked(self, position: StagePosition) -> StagePosition:
        inside = {
            axis: min(max(getattr(position, axis), low_um), high_um)
            for axis in ("x_um", "y_um", "z_um")
            for low_um, high_um in [getattr(self._limits, axis)]
        }
        return StagePosition(**inside)


class ChecksLimitsLate(ToyStage):
    """Asks the board for its position before it looks at the limits."""

    def _checked(self, position: StagePosition) -> StagePosition:
        self._read_state()
        return super()._checked(position)


class IgnoresErrorReplies(ToyStage):
    """Any answer will do, and nobody looks where the move ended."""

    def _expect_ok(self, reply: str) -> None:
        return None

    def _check_arrived(self, here: Steps, target: Steps) -> None:
        return None


class MovesOnConnect(ToyStage):
    """Takes up its play when it is opened, and stays there."""

    def __init__(self, link: ByteLink, clock: Clock, limits: StageLimits) -> None:
        super().__init__(link, clock, limits)
        self._wait_idle()
        self._expect_ok(self._ask("R 30 0 0"))
        self._wait_idle()


class NeverTimesOut(ToyStage):
    """Waits for the answer to a move as long as it takes."""

    def _read_reply(self, line: str) -> str:
        while line.startswith("R") and not self._closed:
            reply = self._link.read(deadline_s=self._clock.monotonic_s() + 1.0)
            if reply:
                return reply.decode("ascii").strip()
        return super()._read_reply(line)


class LosesStepsOnRetry(ToyStage):
    """No answer? Then once more, blindly; and it believes its own count."""

    def _retry(self, by: Steps, here: Steps) -> None:
        self._wait_idle()
        self._expect_ok(self._ask("R {} {} {}".format(*by)))

    def _check_arrived(self, here: Steps, target: Steps) -> None:
        return None


class NeverStops(ToyStage):
    """`stop` returns at once and does nothing."""

    def stop(self) -> None:
        return None


class SettlesInThePast(ToyStage):
    """The receipt's times are those of another clock."""

    def move_to(self, position: StagePosition, wait: bool = True) -> MoveReceipt:
        receipt = super().move_to(position, wait)
        early_s = 5.0 if wait else 0.0
        return dataclasses.replace(receipt, settled_s=receipt.end_s - early_s)


class ClosesOnce(ToyStage):
    """A second `close` fails."""

    def close(self) -> None:
        if self._closed:
            raise RuntimeError("port is not open")
        super().close()


class LeavesThePortsErrors(ToyStage):
    """What the port raises reaches the caller as it is."""

    def _ask(self, line: str) -> str:
        try:
            return super()._ask(line)
        except DeviceTimeoutError:
            raise
        except DeviceError as error:
            raise OSError(5, "Input/output error") from error


class _CameraAround:
    """Passes everything on; the broken cameras change `grab`."""

    def __init__(self, camera: Camera) -> None:
        self.camera = camera

    @property
    def capabilities(self) -> CameraCapabilities:
        return self.camera.capabilities

    def configure(self, *, exposure_s: float) -> None:
        self.camera.configure(exposure_s=exposure_s)

    def grab(self, after: MoveReceipt | None = None) -> Frame:
        return self.camera.grab(after)

    def close(self) -> None:
        self.camera.close()


class ReturnsStaleFrames(_CameraAround):
    """Gives what waits in the queue, whatever was asked for."""

    def grab(self, after: MoveReceipt | None = None) -> Frame:
        if after is not None and after.settled_s > 1e6:
            return self.camera.grab(after)  # that wait does end
        return self.camera.grab()


class StampsStaleFrames(_CameraAround):
    """Gives the picture before last with the time stamps of the newest one."""

    _last: Frame | None = None

    def grab(self, after: MoveReceipt | None = None) -> Frame:
        new = self.camera.grab(after)
        old, self._last = self._last, new
        return new if old is None else dataclasses.replace(new, pixels=old.pixels)
