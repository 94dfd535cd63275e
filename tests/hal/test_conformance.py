"""The conformance kit passes sound devices, and names the one fault of broken ones."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from bifocus.clock import VirtualClock
from bifocus.errors import ConfigError
from bifocus.hal.conformance import ConformanceReport
from bifocus.hal.conformance_bench import Bench
from bifocus.hal.conformance_devices import DevicesUnderTest, Envelope, OpenDevices
from bifocus.hal.conformance_run import (
    ALL_CHECKS,
    CAMERA_CHECKS,
    STAGE_CHECKS,
    WIRE_CHECKS,
    run_checks,
)
from bifocus.hal.devices import Camera, StageLimits
from bifocus.hal.faulty_link import FaultyLink
from tests.hal.broken_stages import (
    ChecksLimitsLate,
    ClipsLimits,
    ClosesOnce,
    IgnoresErrorReplies,
    LeavesThePortsErrors,
    LosesStepsOnRetry,
    MovesOnConnect,
    NeverStops,
    NeverTimesOut,
    ReturnsStaleFrames,
    SettlesInThePast,
    StampsStaleFrames,
)
from tests.hal.conftest import Opener
from tests.hal.toy_stage import REFUSAL, ToyBoard, ToyStage

LIMITS = StageLimits(x_um=(-150, 150), y_um=(-150, 150), z_um=(-30, 30))


def toy_on_the_bench(driver: type[ToyStage]) -> OpenDevices:
    """One board that stays; each opening makes a new driver for it."""
    clock = VirtualClock()
    board = ToyBoard(clock)
    wire = FaultyLink(board, error_reply=REFUSAL)

    @contextmanager
    def open_devices() -> Iterator[DevicesUnderTest]:
        stage = driver(wire, clock, LIMITS)
        try:
            yield DevicesUnderTest(
                stage=stage, clock=clock, wire=wire, witness=board.true_position
            )
        finally:
            stage.close()

    return open_devices


def virtual_on_the_bench(
    open_small: Opener, camera_around: Callable[[Camera], Camera]
) -> OpenDevices:
    """The small virtual instrument, its camera perhaps a broken one."""

    @contextmanager
    def open_devices() -> Iterator[DevicesUnderTest]:
        instrument = open_small()
        yield DevicesUnderTest(
            stage=instrument.stage,
            clock=instrument.clock,
            camera=camera_around(instrument.camera),
            pixel_um=instrument.config.optics.pixel_um,
        )

    return open_devices


def report_of(open_devices: OpenDevices) -> ConformanceReport:
    with Bench(open_devices, patience_s=0.5) as bench:
        return run_checks(bench)


def finding(report: ConformanceReport, name: str) -> str:
    (result,) = [result for result in report.results if result.name == name]
    return f"{result.finding.measured}; {result.finding.next_step}"


def test_a_sound_driver_passes_all_that_can_be_asked() -> None:
    report = report_of(toy_on_the_bench(ToyStage))
    assert report.failed == ()
    assert set(report.skipped) == {check.name for check in CAMERA_CHECKS}


def test_the_virtual_instrument_passes_all_that_can_be_asked(
    open_small: Opener,
) -> None:
    report = report_of(virtual_on_the_bench(open_small, lambda camera: camera))
    assert report.failed == ()
    assert set(report.skipped) == {check.name for check in WIRE_CHECKS}
    assert "0 % of the old picture" in finding(report, "frame-is-fresh")
    assert "by picture" in finding(report, "repeatability")


@pytest.mark.parametrize(
    ("driver", "check", "word"),
    [
        (ClipsLimits, "limits-raise", "accepted"),
        (ChecksLimitsLate, "limits-raise", "b'?\\n' was sent first"),
        (IgnoresErrorReplies, "error-reply-raises", "believed to be at the target"),
        (MovesOnConnect, "opening-moves-nothing", "moved by 3.000"),
        (NeverTimesOut, "silence-ends", "still waits"),
        (LosesStepsOnRetry, "lost-reply-moves-once", "further off than a step"),
        (NeverStops, "stop-in-motion", "100 %"),
        (SettlesInThePast, "receipt-is-true", "settled"),
        (ClosesOnce, "closing-twice", "port is not open"),
        (LeavesThePortsErrors, "unplugging", "OSError"),
    ],
)
def test_a_broken_driver_fails_its_own_check_only(
    driver: type[ToyStage], check: str, word: str
) -> None:
    report = report_of(toy_on_the_bench(driver))
    assert report.failed == (check,)
    assert word in finding(report, check)


@pytest.mark.parametrize(
    ("camera_around", "word"),
    [
        (ReturnsStaleFrames, "s after settling"),
        (StampsStaleFrames, "the old picture left"),
    ],
)
def test_a_broken_camera_fails_its_own_check_only(
    open_small: Opener, camera_around: Callable[[Camera], Camera], word: str
) -> None:
    report = report_of(virtual_on_the_bench(open_small, camera_around))
    assert report.failed == ("frame-is-fresh",)
    assert word in finding(report, "frame-is-fresh")


def test_no_move_leaves_the_envelope() -> None:
    targets = []

    class Watched(ToyStage):
        def move_to(self, position, wait=True):  # type: ignore[no-untyped-def]
            receipt = super().move_to(position, wait)
            targets.append(position)  # those outside the limits never get here
            return receipt

    envelope = Envelope(x_um=40.0, y_um=30.0, z_um=5.0)
    open_devices = toy_on_the_bench(Watched)
    with Bench(open_devices, envelope=envelope, patience_s=0.5) as bench:
        assert run_checks(bench, STAGE_CHECKS).failed == ()
    assert max(abs(place.x_um) for place in targets) == pytest.approx(40.0)
    assert max(abs(place.y_um) for place in targets) <= 30.0
    assert max(abs(place.z_um) for place in targets) <= 5.0


def test_the_envelope_shrinks_at_the_end_of_the_travel() -> None:
    with Bench(toy_on_the_bench(ToyStage), envelope=Envelope(x_um=1000.0)) as bench:
        assert bench.at(x=1.0).x_um == 150.0


def test_no_room_is_said_before_anything_moves() -> None:
    class InACorner(ToyStage):
        @property
        def limits(self) -> StageLimits:
            return StageLimits(x_um=(-150, 1.0), y_um=(-150, 150), z_um=(-30, 0.5))

    envelope = Envelope(z_um=0.4)
    with (
        pytest.raises(ConfigError, match="no room on z"),
        Bench(toy_on_the_bench(InACorner), envelope=envelope),
    ):
        pass


@pytest.mark.parametrize("value_um", [0.0, -1.0, float("nan"), float("inf")])
def test_an_envelope_is_a_distance(value_um: float) -> None:
    with pytest.raises(ConfigError, match="x_um must be over 0"):
        Envelope(x_um=value_um)


def test_a_device_that_does_not_open_again_ends_the_run() -> None:
    openings = []

    class OpensOnce(ToyStage):
        def __init__(self, *arguments: object) -> None:
            openings.append(self)
            if len(openings) > 1:
                raise ConfigError("the port is gone")
            super().__init__(*arguments)  # type: ignore[arg-type]

    report = report_of(toy_on_the_bench(OpensOnce))
    assert report.failed == ("opening-moves-nothing",)
    assert len(report.skipped) == len(ALL_CHECKS) - 1
