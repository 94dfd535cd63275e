"""Fault plans are read strictly, and what they say is what happens."""

from pathlib import Path

import numpy as np
import pytest

from bifocus.clock import VirtualClock
from bifocus.errors import ConfigError, DeviceError
from bifocus.hal.fault_plan import (
    FAULT_KINDS,
    FaultPlan,
    LostSteps,
    load_fault_plan,
    random_fault_plan,
)
from bifocus.hal.faulty_firmware import FaultyFirmware
from bifocus.hal.faulty_frames import FaultyFrames
from bifocus.hal.firmware_kinds import FirmwareKind, make_firmware
from bifocus.hal.fresh_frames import BrokenFrame, RawFrame
from bifocus.hal.shared_firmware import SharedFirmware
from bifocus.hal.virtual_link import VirtualLink
from tests.soak.still_life import StillLife


class Wire:
    """Writes to a board that suffers a plan, and reads what comes within a time."""

    def __init__(self, kind: FirmwareKind, *faults: dict[str, object]) -> None:
        plan = FaultPlan.model_validate({"faults": faults})
        self.clock = VirtualClock()
        board = make_firmware(kind, now_s=0.0, seed=2)
        self.firmware = FaultyFirmware(board, FaultPlan(), seed=2)
        self.truth = SharedFirmware(self.firmware, clock=self.clock)
        self.link = VirtualLink(self.truth)
        self.hear(2.0)
        self.firmware.arm(plan)

    def hear(self, within_s: float) -> bytes:
        heard, end_s = b"", self.clock.monotonic_s() + within_s
        while self.clock.monotonic_s() < end_s:
            heard += self.link.read(deadline_s=end_s)
        return heard

    def ask(self, data: bytes, within_s: float = 1.0) -> bytes:
        self.link.write(data)
        return self.hear(within_s)


def test_a_plan_is_read(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(
        "version: 1\nfaults:\n"
        "  - {fault: drop_reply, at: 12}\n"
        "  - {fault: lost_steps, at: 8, axis: x, steps: 3}\n"
        "  - {fault: black_frame, at: 2}\n"
    )
    plan = load_fault_plan(path)
    assert [fault.fault for fault in plan.board_faults()] == [
        "drop_reply",
        "lost_steps",
    ]
    assert plan.board_faults()[1] == LostSteps(at=8, axis="x", steps=3)
    assert [fault.fault for fault in plan.camera_faults()] == ["black_frame"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("faults: [{fault: gremlin, at: 1}]", "gremlin"),
        ("faults: [{fault: drop_reply, at: -1}]", "greater than or equal to 0"),
        ("faults: [{fault: drop_reply}]", "at"),
        ("faults: {", "cannot read"),
        ("version: 2", "version"),
        ("- 1", "mapping"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        load_fault_plan(path)


def test_random_plans_know_every_fault_and_repeat_themselves() -> None:
    plans = [random_fault_plan(np.random.default_rng([n, 1])) for n in range(400)]
    assert {f.fault for plan in plans for f in plan.faults} == set(FAULT_KINDS)
    assert plans == [
        random_fault_plan(np.random.default_rng([n, 1])) for n in range(400)
    ]


def test_replies_are_lost_doubled_cut_and_late() -> None:
    wire = Wire(
        "asi",
        {"fault": "drop_reply", "at": 1},
        {"fault": "duplicate_reply", "at": 2},
        {"fault": "truncate_reply", "at": 3},
        {"fault": "late_reply", "at": 4, "delay_s": 3.0},
    )
    assert wire.ask(b"W X\r") == b":A 0\r\n"
    assert wire.ask(b"W X\r") == b""
    assert wire.ask(b"W X\r") == b":A 0\r\n:A 0\r\n"
    cut = wire.ask(b"W X\r")
    assert b":A 0\r\n".startswith(cut)
    assert len(cut) < 6
    assert wire.ask(b"W X\r", 2.9) == b""
    assert wire.hear(0.2) == b":A 0\r\n"
    assert sum(wire.firmware.happened.values()) == 4


def test_a_corrupt_reply_differs_in_one_byte() -> None:
    for kind in ("asi", "asi-tiger"):
        wire = Wire(kind, {"fault": "corrupt_reply", "at": 0})
        heard = wire.ask(b"V\r")
        whole = wire.ask(b"V\r")
        assert len(heard) == len(whole)
        assert sum(a != b for a, b in zip(heard, whole, strict=True)) == 1


def test_a_cut_command_is_executed_as_what_is_left() -> None:
    wire = Wire("sangaboard", {"fault": "truncate_command", "at": 0})
    wire.ask(b"mrz 1000\n", 5.0)
    n_steps = round(wire.truth.motor_at(wire.clock.monotonic_s()).z_um / 0.05)
    assert n_steps in (0, 1, 10, 100, 1000)  # 1000: only the line's end was cut off


def test_lost_steps_part_the_motor_from_the_count() -> None:
    wire = Wire("sangaboard", {"fault": "lost_steps", "at": 1, "axis": "z", "steps": 7})
    wire.ask(b"mrz 100\n")
    wire.ask(b"mrz 100\n")
    assert wire.ask(b"p?\n") == b"0 0 200\r\n"
    motor = wire.truth.motor_at(wire.clock.monotonic_s())
    assert motor.z_um == pytest.approx(193 * 0.05)


def test_a_reset_stops_the_move_at_its_part() -> None:
    wire = Wire("grbl", {"fault": "reset", "at": 0, "progress": 0.25})
    wire.ask(b"$X\n")
    heard = wire.ask(b"$J=G91 X-10 F600\n", 3.0)
    assert heard.startswith(b"ok\r\n\r\nGrbl 1.1h")
    # A quarter of 1.1 s, less half the ramp of 0.1 s, at 10 mm/s.
    motor = wire.truth.motor_at(wire.clock.monotonic_s())
    assert motor.x_um == pytest.approx(-2250, abs=20)


def test_a_stuck_board_is_busy_after_its_move() -> None:
    wire = Wire("asi", {"fault": "stuck_busy", "at": 0, "duration_s": 5.0})
    wire.ask(b"M X=100\r")
    assert wire.ask(b"/\r") == b"B\r\n"
    wire.hear(4.0)
    assert wire.ask(b"/\r") == b"N\r\n"


def test_frames_are_damaged_as_planned() -> None:
    clock = VirtualClock()
    plan = FaultPlan.model_validate(
        {
            "faults": [
                {"fault": "stale_frame", "at": 1},
                {"fault": "black_frame", "at": 2},
                {"fault": "torn_frame", "at": 3},
                {"fault": "missing_frame", "at": 4},
                {"fault": "camera_death", "at": 6},
            ]
        }
    )
    frames = FaultyFrames(StillLife(clock), plan)
    first, stale, black, torn, missing, good = (frames.fetch(1.0) for _ in range(6))
    assert isinstance(first, RawFrame)
    assert stale is first
    assert isinstance(black, RawFrame)
    assert not black.pixels.any()
    assert isinstance(torn, BrokenFrame)
    assert missing is None
    assert isinstance(good, RawFrame)
    assert good.pixels.any()
    for _ in range(2):
        with pytest.raises(DeviceError):
            frames.fetch(1.0)
