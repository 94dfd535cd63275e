"""What every stage must do, whatever is behind it; subclass and give the fixtures.

A subclass provides `stage` (open, far from its limits) and `clock`. Moves are short.
"""

import dataclasses

import pytest

from bifocus.clock import Clock
from bifocus.errors import DeviceError, OutOfTravelError
from bifocus.hal.devices import DirectStage, Stage
from bifocus.records import StagePosition

AXES = ("x_um", "y_um", "z_um")


def shifted(start: StagePosition, **by_um: float) -> StagePosition:
    moved = {axis: getattr(start, axis) + by_um.get(axis, 0.0) for axis in AXES}
    return StagePosition(**moved)


class StageContract:
    def test_opening_moves_nothing(self, stage: Stage, clock: Clock) -> None:
        before = stage.position()
        clock.sleep(1.0)
        assert stage.position() == before

    def test_a_move_ends_within_a_step_of_its_target(self, stage: Stage) -> None:
        target = shifted(stage.position(), x_um=12.34, y_um=-5.67, z_um=1.91)
        receipt = stage.move_to(target)
        assert receipt.commanded == target
        assert receipt.reported == stage.position()
        for axis in AXES:
            error_um = abs(getattr(receipt.reported, axis) - getattr(target, axis))
            assert error_um <= getattr(stage.capabilities.resolution_um, axis)

    def test_a_receipt_tells_times_in_order(self, stage: Stage, clock: Clock) -> None:
        asked_s = clock.monotonic_s()
        receipt = stage.move_to(shifted(stage.position(), x_um=20.0))
        assert asked_s <= receipt.start_s < receipt.end_s <= receipt.settled_s
        assert clock.monotonic_s() == pytest.approx(receipt.settled_s, abs=0.1)
        assert clock.monotonic_s() >= receipt.settled_s - 1e-9

    def test_without_wait_the_call_returns_before_the_end(
        self, stage: Stage, clock: Clock
    ) -> None:
        receipt = stage.move_to(shifted(stage.position(), x_um=50.0), wait=False)
        assert clock.monotonic_s() < receipt.end_s
        clock.sleep(receipt.settled_s - clock.monotonic_s())
        assert stage.position() == receipt.reported

    def test_moves_follow_one_another(self, stage: Stage) -> None:
        first = stage.move_to(shifted(stage.position(), x_um=50.0), wait=False)
        second = stage.move_to(shifted(stage.position(), y_um=5.0))
        assert second.start_s >= first.end_s

    @pytest.mark.parametrize("axis", AXES)
    @pytest.mark.parametrize("end", [0, 1])
    def test_a_target_outside_the_limits_moves_nothing(
        self, stage: Stage, clock: Clock, axis: str, end: int
    ) -> None:
        before, now_s = stage.position(), clock.monotonic_s()
        limit_um = getattr(stage.limits, axis)[end]
        outside_um = limit_um + (1.0 if end else -1.0)
        target = dataclasses.replace(before, **{axis: outside_um})
        with pytest.raises(OutOfTravelError) as caught:
            stage.move_to(target)
        text = str(caught.value)
        assert f"{axis[0]} = {outside_um:g}" in text
        assert f"{limit_um:g}" in text
        assert stage.position() == before
        assert clock.monotonic_s() == pytest.approx(now_s, abs=0.1)

    def test_a_direct_move_goes_straight_there(self, stage: Stage) -> None:
        assert isinstance(stage, DirectStage)
        start = stage.position()
        target = shifted(start, z_um=-2.0)
        receipt = stage.move_direct(target)
        assert receipt.commanded == target
        assert receipt.reported == stage.position()
        error_um = abs(receipt.reported.z_um - target.z_um)
        assert error_um <= stage.capabilities.resolution_um.z_um
        back = stage.move_to(start)
        assert back.reported == start

    def test_a_direct_move_keeps_the_limits(self, stage: Stage) -> None:
        assert isinstance(stage, DirectStage)
        before = stage.position()
        low_um = stage.limits.z_um[0]
        outside = dataclasses.replace(before, z_um=low_um - 1.0)
        with pytest.raises(OutOfTravelError, match="z = "):
            stage.move_direct(outside)
        assert stage.position() == before

    @pytest.mark.parametrize("end", [0, 1])
    def test_limits_are_included(self, stage: Stage, end: int) -> None:
        limits = stage.limits
        corner = {axis: getattr(limits, axis)[end] for axis in AXES}
        stage.move_to(StagePosition(**corner))

    def test_stop_does_no_harm_when_nothing_moves(self, stage: Stage) -> None:
        before = stage.position()
        stage.stop()
        stage.stop()
        assert stage.position() == before
        stage.move_to(shifted(before, x_um=3.0))

    def test_stop_ends_motion_on_the_way(self, stage: Stage, clock: Clock) -> None:
        if not stage.capabilities.can_stop:
            pytest.skip("this stage cannot stop")
        start = stage.position()
        receipt = stage.move_to(shifted(start, x_um=200.0), wait=False)
        clock.sleep(0.5 * (receipt.end_s - clock.monotonic_s()))
        stage.stop()
        where = stage.position()
        assert start.x_um < where.x_um < receipt.reported.x_um
        clock.sleep(receipt.settled_s - receipt.start_s)
        assert stage.position() == where
        again = stage.move_to(receipt.commanded)
        assert again.reported == receipt.reported

    def test_home_ends_inside_the_limits(self, stage: Stage) -> None:
        receipt = stage.home()
        for axis in AXES:
            low_um, high_um = getattr(stage.limits, axis)
            slack_um = getattr(stage.capabilities.resolution_um, axis)
            value_um = getattr(receipt.reported, axis)
            assert low_um - slack_um <= value_um <= high_um + slack_um

    def test_close_twice_then_refuse(self, stage: Stage) -> None:
        target = stage.position()
        stage.close()
        stage.close()
        with pytest.raises(DeviceError):
            stage.move_to(target)
