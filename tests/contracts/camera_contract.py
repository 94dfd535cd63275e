"""What every camera must do, whatever is behind it; subclass and give the fixtures.

A subclass provides `camera`, and the `stage` and `clock` that go with it.
"""

import numpy as np
import pytest

from bifocus.clock import Clock
from bifocus.errors import ConfigError, DeviceError, DeviceTimeoutError
from bifocus.hal.devices import BorrowingCamera, Camera, Stage
from bifocus.records import MoveReceipt, StagePosition, UInt8Image


class CameraContract:
    def test_a_frame_has_the_promised_shape(self, camera: Camera) -> None:
        frame = camera.grab()
        facts = camera.capabilities
        assert frame.pixels.shape[:2] == (facts.height_px, facts.width_px)
        assert frame.pixels.dtype == np.uint8
        assert frame.exposure_end_s > frame.exposure_start_s

    def test_frames_are_new_every_time(self, camera: Camera) -> None:
        frames = [camera.grab() for _ in range(3)]
        numbers = [frame.sequence_number for frame in frames]
        assert numbers == sorted(set(numbers))
        starts = [frame.exposure_start_s for frame in frames]
        assert starts == sorted(set(starts))

    def test_a_frame_is_not_from_the_future(self, camera: Camera, clock: Clock) -> None:
        frame = camera.grab()
        assert frame.exposure_end_s <= clock.monotonic_s() + 1e-9

    def test_after_a_move_the_exposure_began_later(
        self, camera: Camera, stage: Stage
    ) -> None:
        camera.grab()
        here = stage.position()
        for step_um in (7.0, -3.0, 11.0, 0.5):
            target = StagePosition(
                x_um=here.x_um + step_um, y_um=here.y_um, z_um=here.z_um
            )
            receipt = stage.move_to(target)
            frame = camera.grab(after=receipt)
            assert frame.exposure_start_s >= receipt.settled_s

    def test_after_a_pause_the_queue_s_past_is_thrown_away(
        self, camera: Camera, stage: Stage, clock: Clock
    ) -> None:
        camera.grab()
        clock.sleep(0.3)  # nobody looks; queues fill
        receipt = stage.move_to(stage.position())
        assert camera.grab(after=receipt).exposure_start_s >= receipt.settled_s

    def test_a_frame_after_a_move_carries_its_pose(
        self, camera: Camera, stage: Stage
    ) -> None:
        here = stage.position()
        target = StagePosition(x_um=here.x_um + 9.0, y_um=here.y_um, z_um=here.z_um)
        receipt = stage.move_to(target)
        assert camera.grab(after=receipt).pose == receipt.reported

    def test_after_a_move_that_still_runs_the_grab_waits(
        self, camera: Camera, stage: Stage
    ) -> None:
        here = stage.position()
        target = StagePosition(x_um=here.x_um + 30.0, y_um=here.y_um, z_um=here.z_um)
        receipt = stage.move_to(target, wait=False)
        assert camera.grab(after=receipt).exposure_start_s >= receipt.settled_s

    def test_exposure_is_what_was_asked(self, camera: Camera) -> None:
        camera.configure(exposure_s=0.004)
        frame = camera.grab()
        length_s = frame.exposure_end_s - frame.exposure_start_s
        assert length_s == pytest.approx(0.004, abs=1e-4)

    @pytest.mark.parametrize("exposure_s", [0.0, -1.0, 1e9, float("nan")])
    def test_impossible_exposures_are_refused_and_change_nothing(
        self, camera: Camera, exposure_s: float
    ) -> None:
        camera.configure(exposure_s=0.004)
        with pytest.raises(ConfigError, match="exposure_s must be"):
            camera.configure(exposure_s=exposure_s)
        frame = camera.grab()
        length_s = frame.exposure_end_s - frame.exposure_start_s
        assert length_s == pytest.approx(0.004, abs=1e-4)

    def test_colour_frames_come_in_the_memory_that_is_lent(
        self, camera: Camera
    ) -> None:
        assert isinstance(camera, BorrowingCamera)
        own = camera.grab().pixels
        lent: list[UInt8Image] = []

        def lend() -> UInt8Image:
            lent.append(np.zeros_like(own))
            return lent[-1]

        camera.borrow_from(lend)
        pixels = [camera.grab().pixels for _ in range(3)][-1]
        assert pixels.any()
        if own.ndim == 3:
            assert any(pixels is array for array in lent)
        camera.borrow_from(lambda: np.zeros((8, 8, 3), np.uint8))
        other = [camera.grab().pixels for _ in range(3)][-1]
        assert other.shape == own.shape
        camera.borrow_from(None)
        pixels = [camera.grab().pixels for _ in range(3)][-1]
        assert not any(np.shares_memory(pixels, array) for array in lent)

    def test_capabilities_are_constant(self, camera: Camera) -> None:
        before = camera.capabilities
        camera.configure(exposure_s=0.004)
        camera.grab()
        assert camera.capabilities == before
        assert before.identity

    def test_a_wait_has_a_deadline(self, camera: Camera, clock: Clock) -> None:
        where = StagePosition(x_um=0.0, y_um=0.0, z_um=0.0)
        never_s = clock.monotonic_s() + 1e7
        receipt = MoveReceipt(
            commanded=where,
            reported=where,
            start_s=0.0,
            end_s=never_s,
            settled_s=never_s,
        )
        with pytest.raises(DeviceTimeoutError):
            camera.grab(after=receipt)

    def test_close_twice_then_refuse(self, camera: Camera) -> None:
        camera.close()
        camera.close()
        with pytest.raises(DeviceError):
            camera.grab()
        with pytest.raises(DeviceError):
            camera.configure(exposure_s=0.004)
