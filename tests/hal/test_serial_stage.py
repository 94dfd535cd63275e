"""The policy of serial stages, over virtual boards that suffer faults."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Literal

import pytest

from bifocus.clock import Clock, FakeClock, RealClock
from bifocus.errors import (
    ConfigError,
    DeviceError,
    DeviceTimeoutError,
    LinkLostError,
    OutOfTravelError,
    ReferenceLostError,
)
from bifocus.hal.fault_plan import FaultPlan
from bifocus.hal.faulty_firmware import FaultyFirmware
from bifocus.hal.firmware_kinds import FirmwareKind
from bifocus.hal.open_stage import open_serial_stage
from bifocus.hal.serial_stage import SerialStage
from bifocus.hal.shared_firmware import SharedFirmware
from bifocus.hal.virtual_link import VirtualLink
from bifocus.records import StagePosition
from tests.hal.boards import BOARDS, make_board, stage_config
from tests.hal.scripted_link import ScriptedLink

CENTRE = StagePosition(x_um=0.0, y_um=0.0, z_um=0.0)
MOTION = (b"mr", b"$J=", b"$H", b"G1", b"G28", b"G0", b"M ", b"R ", b"!", b"home")


class Bench:
    """A stage over a virtual board, with its wire and its truth in view."""

    def __init__(
        self,
        kind: FirmwareKind,
        clock: Clock,
        *faults: dict[str, Any],
        **changes: Any,
    ) -> None:
        self.clock = clock
        self.sent: list[bytes] = []
        config = stage_config(kind, **changes)
        plan = FaultPlan.model_validate({"faults": faults})
        self.board = FaultyFirmware(make_board(config, kind, clock), plan, seed=1)
        self.truth = SharedFirmware(self.board, clock=clock)
        self.link = VirtualLink(self.truth)
        self.stage = open_serial_stage(config, self.link, clock=clock, observer=self)

    def exchange(
        self, direction: Literal["tx", "rx", "event"], data: bytes, at_s: float
    ) -> None:
        if direction == "tx":
            self.sent.append(data)

    def motions(self) -> list[bytes]:
        """The commands sent so far that move something."""
        bodies = (
            line.partition(b" ")[2] if line[:1] == b"N" else line for line in self.sent
        )
        return [body for body in bodies if body.startswith(MOTION)]

    def go(self, x_um: float = 0.0, y_um: float = 0.0, z_um: float = 0.0) -> None:
        self.stage.move_to(StagePosition(x_um=x_um, y_um=y_um, z_um=z_um))

    def check_true(self) -> None:
        """The motors stand still where the stage says."""
        now_s = self.clock.monotonic_s()
        assert self.truth.rest_from_s() <= now_s
        truly, told = self.truth.motor_at(now_s), self.stage.position()
        for axis in ("x_um", "y_um", "z_um"):
            # Half a step, half a digit of the read-back, one servo finish error.
            assert getattr(truly, axis) == pytest.approx(getattr(told, axis), abs=1.0)


every_board = pytest.mark.parametrize("kind", BOARDS)


@every_board
def test_opening_sends_no_motion(kind: FirmwareKind, clock: FakeClock) -> None:
    bench = Bench(kind, clock)
    bench.stage.position()
    bench.stage.stop()
    bench.stage.close()
    assert bench.motions() == []
    assert bench.board.axes.n_moves == 0


@every_board
def test_a_refused_target_sends_nothing(kind: FirmwareKind, clock: FakeClock) -> None:
    bench = Bench(kind, clock)
    before = len(bench.sent)
    with pytest.raises(OutOfTravelError):
        bench.go(x_um=501.0)
    assert len(bench.sent) == before


@pytest.mark.parametrize("kind", ["sangaboard-v1", "grbl", "marlin", "asi"])
def test_take_up_only_where_the_gap_may_be_open(
    kind: FirmwareKind, clock: FakeClock
) -> None:
    bench = Bench(kind, clock)
    counts = []
    for z_um in (0.0, 2.5, 5.0, -5.0, -2.5):
        before = len(bench.motions())
        bench.go(z_um=z_um)
        counts.append(len(bench.motions()) - before)
    # First unknown, then upward twice, down, and up again.
    assert counts == [2, 1, 1, 2, 1]


@pytest.mark.parametrize("kind", ["sangaboard-v1", "grbl", "asi"])
def test_after_a_stop_the_gap_is_open_again(
    kind: FirmwareKind, clock: FakeClock
) -> None:
    bench = Bench(kind, clock)
    bench.go()
    bench.stage.move_to(StagePosition(x_um=100.0, y_um=0.0, z_um=0.0), wait=False)
    clock.sleep(0.05)
    bench.stage.stop()
    bench.check_true()
    before = len(bench.motions())
    bench.go(x_um=bench.stage.position().x_um + 2.5)
    assert len(bench.motions()) - before == 2


@pytest.mark.parametrize("kind", ["sangaboard", "marlin"])
def test_moves_that_cannot_be_stopped_are_short(
    kind: FirmwareKind, clock: FakeClock
) -> None:
    bench = Bench(kind, clock, stop_latency_s=0.25, speed_um_per_s=(90.0, 90.0, 50.0))
    bench.go(x_um=-200.0)
    before = len(bench.motions())
    bench.go(x_um=200.0)
    assert len(bench.motions()) - before >= 400.0 / 90.0 / 0.25
    bench.check_true()


def test_the_objective_guard_raises_the_floor(clock: FakeClock) -> None:
    """100 + 1170 um of glass - 1250 um of free working distance + 50 um = 70 um."""
    guard = {"bed_focus_um": 100.0, "working_distance_um": 1250.0}
    bench = Bench("grbl", clock, objective_guard=guard)
    low_um = bench.stage.limits.z_um[0]
    assert low_um == pytest.approx(70.0 + 15.0)  # and the take-up
    bench.go(z_um=low_um)
    with pytest.raises(OutOfTravelError, match="objective guard"):
        bench.go(z_um=low_um - 0.5)


def test_a_guard_that_leaves_no_travel_is_refused() -> None:
    guard = {"bed_focus_um": 1000.0, "working_distance_um": 500.0}
    with pytest.raises(ValueError, match="objective_guard"):
        stage_config("grbl", objective_guard=guard)


@every_board
def test_one_lost_answer_in_every_place(kind: FirmwareKind, clock: FakeClock) -> None:
    """Wherever the answer is lost, nothing is moved twice and nothing is wrong."""
    for at in range(40):
        try:
            bench = Bench(kind, clock, {"fault": "drop_reply", "at": at})
            for x_um in (0.0, 40.0, 80.0):
                bench.go(x_um=x_um)
        except DeviceError:
            continue  # a named end is as good
        bench.check_true()
        assert bench.stage.position().x_um == pytest.approx(80.0, abs=0.7)


@pytest.mark.parametrize("kind", ["grbl", "marlin", "asi"])
def test_a_damaged_command_is_done_once(kind: FirmwareKind, clock: FakeClock) -> None:
    for at in range(10, 40, 3):
        try:
            bench = Bench(kind, clock, {"fault": "drop_command", "at": at})
            for x_um in (0.0, 40.0, 80.0):
                bench.go(x_um=x_um)
        except DeviceError:
            continue
        bench.check_true()


@every_board
def test_a_reset_in_mid_move_is_the_end(kind: FirmwareKind, clock: FakeClock) -> None:
    bench = Bench(kind, clock, {"fault": "reset", "at": 4, "progress": 0.5})
    bench.go()
    with pytest.raises(ReferenceLostError):
        for x_um in (50.0, 100.0, 150.0, 200.0):
            bench.go(x_um=x_um)
    for again in (bench.go, bench.stage.position, bench.stage.home):
        with pytest.raises(ReferenceLostError):
            again()
    bench.stage.stop()


@pytest.mark.parametrize("kind", ["grbl"])
def test_a_limit_alarm_is_named(kind: FirmwareKind, clock: FakeClock) -> None:
    bench = Bench(kind, clock, {"fault": "limit_alarm", "at": 3, "progress": 0.5})
    bench.go()
    with pytest.raises(ReferenceLostError, match="ALARM:1"):
        for x_um in (50.0, 100.0, 150.0):
            bench.go(x_um=x_um)


@every_board
def test_a_board_busy_for_ever(kind: FirmwareKind, clock: FakeClock) -> None:
    bench = Bench(kind, clock, {"fault": "stuck_busy", "at": 3})
    bench.go()
    begin_s = clock.monotonic_s()
    with pytest.raises(DeviceTimeoutError):
        for x_um in (50.0, 100.0, 150.0):
            bench.go(x_um=x_um)
    assert clock.monotonic_s() - begin_s < 60.0
    if bench.stage.capabilities.can_stop:
        assert {b"stop\n", b"\x85", b"\\\r"} & set(bench.sent)


@every_board
def test_unplugged_in_mid_move(kind: FirmwareKind, clock: FakeClock) -> None:
    plug = {"fault": "unplug", "at": 4, "progress": 0.3, "back_after_s": 5.0}
    bench = Bench(kind, clock, plug)
    bench.go()
    with pytest.raises(LinkLostError):
        for x_um in (50.0, 100.0, 150.0, 200.0):
            bench.go(x_um=x_um)
    with pytest.raises(LinkLostError):
        bench.stage.position()
    clock.sleep(10.0)
    with pytest.raises(ReferenceLostError, match="while moving"):
        bench.stage.position()


@every_board
def test_unplugged_at_rest(kind: FirmwareKind, clock: FakeClock) -> None:
    """Back again, the place is the one it was left at, or the reference is lost."""
    bench = Bench(kind, clock)
    bench.go(x_um=37.5, y_um=12.5, z_um=5.0)
    bench.board.is_plugged = False
    bench.board.n_pulls += 1
    with pytest.raises(LinkLostError):
        bench.go(x_um=50.0)
    bench.board.is_plugged = True
    try:
        bench.go(x_um=60.0)
    except ReferenceLostError:
        assert bench.board.resets_on_open
        assert kind in ("grbl", "marlin")
        return
    bench.check_true()
    assert bench.stage.position().x_um == pytest.approx(60.0, abs=0.7)


def test_a_joystick_may_move_an_asi_stage(clock: FakeClock) -> None:
    bench = Bench("asi", clock)
    bench.go(x_um=20.0)
    other = VirtualLink(bench.truth)
    other.write(b"M X=300 Y=50 Z=20\r")
    clock.sleep(2.0)
    bench.go(x_um=40.0)
    bench.check_true()


def test_a_silent_reset_of_an_asi_stage_is_seen_by_its_zero(clock: FakeClock) -> None:
    bench = Bench("asi", clock)
    bench.go(x_um=20.0, y_um=10.0, z_um=5.0)
    bench.board.reset(clock.monotonic_s())
    clock.sleep(5.0)
    with pytest.raises(ReferenceLostError, match="reset"):
        bench.go(x_um=40.0)


@pytest.mark.parametrize("kind", ["grbl", "marlin"])
def test_steps_must_agree_with_the_board(kind: FirmwareKind, clock: FakeClock) -> None:
    config = stage_config(kind)
    board = make_board(config, kind, clock)
    wrong = stage_config(kind, step_um=(0.625, 0.625, 0.25))
    link = VirtualLink(SharedFirmware(board, clock=clock))
    with pytest.raises(ConfigError, match=r"0\.3125"):
        open_serial_stage(wrong, link, clock=clock)


@every_board
def test_nothing_behind_the_port(kind: FirmwareKind, clock: FakeClock) -> None:
    link = ScriptedLink(clock, {})
    with pytest.raises(DeviceTimeoutError, match=r"check `stage\.port`"):
        open_serial_stage(stage_config(kind), link, clock=clock)
    assert clock.monotonic_s() < 20.0


@pytest.fixture
def real() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["sangaboard", "sangaboard-v1", "grbl", "marlin", "asi"]
)
def test_another_thread_stops_a_move(kind: FirmwareKind, real: ExitStack) -> None:
    slow = (90.0, 90.0, 50.0)
    bench = Bench(kind, RealClock(), speed_um_per_s=slow, stop_latency_s=0.2)
    real.callback(bench.stage.close)
    ended: list[BaseException] = []

    def move(stage: SerialStage = bench.stage) -> None:
        try:
            stage.move_to(StagePosition(x_um=450.0, y_um=0.0, z_um=0.0))
        except DeviceError as error:
            ended.append(error)

    thread = threading.Thread(target=move)
    thread.start()
    while not bench.motions():
        bench.clock.sleep(0.01)
    bench.clock.sleep(0.3)
    begin_s = bench.clock.monotonic_s()
    bench.stage.stop()
    bench.check_true()
    assert bench.clock.monotonic_s() - begin_s < 3.0
    thread.join(5.0)
    assert len(ended) == 1
    assert "stopped" in str(ended[0])
    assert bench.stage.position().x_um < 300.0
