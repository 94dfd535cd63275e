"""Visits: the order of the shots, fresh frames only, and an honest account of time."""

import pytest

from bifocus.edge.capture import Microscope
from bifocus.errors import OutOfTravelError
from tests.scanner import (
    CENTRE_UM,
    RecordingCamera,
    RecordingStage,
    open_scanner,
    scanner_config,
)


def test_a_pair_is_shot_upward_about_the_focus() -> None:
    with open_scanner(scanner_config()) as instrument:
        stage = RecordingStage(instrument.stage)
        microscope = Microscope(stage, instrument.camera, instrument.clock)
        pair = microscope.shoot_pair(*CENTRE_UM, 150.5, 0.75)
    assert [target.z_um for target in stage.targets] == [149.75, 151.25]
    assert {(t.x_um, t.y_um) for t in stage.targets} == {CENTRE_UM}
    assert pair.minus.pose.z_um == pytest.approx(149.75, abs=0.05)
    assert pair.plus.pose.z_um == pytest.approx(151.25, abs=0.05)
    assert pair.minus.exposure_start_s < pair.plus.exposure_start_s
    assert (pair.focus_um, pair.half_spacing_um) == (150.5, 0.75)
    assert microscope.shots == 2


def test_every_exposure_begins_after_the_stage_has_settled() -> None:
    config = scanner_config(
        stage={"settle_s": 0.25}, camera={"stale_frames": 4, "transfer_s": 0.2}
    )
    with open_scanner(config) as instrument:
        stage = RecordingStage(instrument.stage)
        camera = RecordingCamera(instrument.camera)
        microscope = Microscope(stage, camera, instrument.clock)
        for number in range(4):
            x_um = CENTRE_UM[0] + 10 * (-1) ** number
            microscope.shoot_pair(x_um, CENTRE_UM[1], 150.0, 0.75)
    assert len(camera.frames) == len(stage.receipts) == 8
    for frame, receipt in zip(camera.frames, stage.receipts, strict=True):
        assert receipt.settled_s == pytest.approx(receipt.end_s + 0.25)
        assert frame.exposure_start_s >= receipt.settled_s


def test_the_waits_add_up_to_the_time_that_passed() -> None:
    with open_scanner(scanner_config()) as instrument:
        microscope = Microscope(instrument.stage, instrument.camera, instrument.clock)
        start_s = instrument.clock.monotonic_s()
        for _ in range(3):
            microscope.shoot_pair(*CENTRE_UM, 150.0, 0.75)
        passed_s = instrument.clock.monotonic_s() - start_s
    waits = microscope.waits
    assert waits.stage_s > 0
    assert waits.camera_s > 0
    assert waits.fuse_s == 0
    assert waits.stage_s + waits.camera_s == pytest.approx(passed_s)


def test_a_shot_beyond_the_travel_is_neither_taken_nor_counted() -> None:
    with open_scanner(scanner_config(stage={"z_um": (0.0, 151.0)})) as instrument:
        camera = RecordingCamera(instrument.camera)
        microscope = Microscope(instrument.stage, camera, instrument.clock)
        with pytest.raises(OutOfTravelError):
            microscope.shoot_pair(*CENTRE_UM, 150.5, 0.75)
    assert len(camera.frames) == microscope.shots == 1


def test_the_first_frame_is_read_out_while_the_stage_goes_on() -> None:
    """Against a camera that cannot tell when an exposure ends: one transfer is saved.

    With a period as short as the exposure, frames and moves take the same time in both.
    """
    camera = {"exposure_s": 0.01, "frame_rate_hz": 100.0, "transfer_s": 0.4}
    config = scanner_config(camera=camera, stage={"settle_s": 0.1})
    took_s = []
    for is_wrapped in (True, False):
        with open_scanner(config) as instrument:
            stage = RecordingStage(instrument.stage)
            plain = instrument.camera
            used = RecordingCamera(plain) if is_wrapped else plain
            microscope = Microscope(stage, used, instrument.clock)
            microscope.shoot_pair(*CENTRE_UM, 150.0, 0.75)
            start_s = instrument.clock.monotonic_s()
            pair = microscope.shoot_pair(*CENTRE_UM, 150.0, 0.75)
            took_s.append(instrument.clock.monotonic_s() - start_s)
        low, high = stage.receipts[-2:]
        # Neither exposure has seen the stage move.
        assert low.settled_s <= pair.minus.exposure_start_s
        assert pair.minus.exposure_end_s <= high.start_s + 1e-9
        assert high.settled_s <= pair.plus.exposure_start_s
        assert pair.minus.pose.z_um == pytest.approx(149.25, abs=0.05)
    assert took_s[0] - took_s[1] == pytest.approx(0.4, abs=0.02)
