"""The freshness contract on a virtual clock, with cameras that do things wrong."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bifocus.camera_config import RealCameraConfig
from bifocus.clock import FakeClock
from bifocus.errors import ConfigError, DeviceError, DeviceTimeoutError, ProtocolError
from bifocus.hal.devices import CameraCapabilities
from bifocus.hal.fresh_frames import BrokenFrame, FreshCamera, RawFrame
from bifocus.records import MoveReceipt, StagePosition

CONFIG = RealCameraConfig(
    width_px=64, height_px=64, exposure_s=0.01, frame_rate_hz=20, timeout_s=1.0
)
HERE = StagePosition(x_um=1.0, y_um=2.0, z_um=3.0)
THERE = StagePosition(x_um=4.0, y_um=5.0, z_um=6.0)
PIXELS = np.full((64, 64, 3), 200, np.uint8)

FACTS = CameraCapabilities(
    kind="test", identity="scripted", simulated=True, width_px=64, height_px=64
)

Got = RawFrame | BrokenFrame | None


def receipt(settled_s: float) -> MoveReceipt:
    return MoveReceipt(
        commanded=THERE, reported=THERE, start_s=0.0, end_s=0.0, settled_s=settled_s
    )


@dataclass
class ScriptedSource:
    """Delivers what `script` makes of each fetch; nothing takes the whole timeout."""

    clock: FakeClock
    script: Callable[["ScriptedSource"], Got]
    is_triggered: bool = False
    exposure_s: float = 0.0
    takes_s: Callable[[float], float] = abs  # the exposure it takes for one asked
    triggers_s: list[float] = field(default_factory=list)
    restarts: int = 0
    closed: int = 0
    capabilities: CameraCapabilities = FACTS

    def set_exposure(self, exposure_s: float) -> float:
        self.exposure_s = self.takes_s(exposure_s)
        return self.exposure_s

    def trigger(self) -> None:
        self.triggers_s.append(self.clock.monotonic_s())

    def restart(self) -> None:
        self.restarts += 1

    def fetch(self, timeout_s: float) -> Got:
        got = self.script(self)
        if got is None:
            self.clock.sleep(timeout_s)
        return got

    def close(self) -> None:
        self.closed += 1


def open_scripted(
    script: Callable[[ScriptedSource], Got], *, is_triggered: bool = False
) -> tuple[FreshCamera, ScriptedSource]:
    clock = FakeClock(start_s=100.0)
    source = ScriptedSource(clock=clock, script=script, is_triggered=is_triggered)
    camera = FreshCamera(source, CONFIG, clock=clock, position=lambda: HERE)
    return camera, source


def free_running(period_s: float, *, queue: int) -> Callable[[ScriptedSource], Got]:
    """Frames of a camera that never pauses, behind a queue that holds the past."""
    last = [0]

    def script(source: ScriptedSource) -> Got:
        now_s = source.clock.monotonic_s()
        newest = math.floor((now_s - source.exposure_s) / period_s)
        number = max(last[0] + 1, newest - queue)
        start_s = number * period_s
        source.clock.sleep(start_s + source.exposure_s - now_s)
        last[0] = number
        return RawFrame(pixels=PIXELS, not_before_s=start_s)

    return script


@settings(max_examples=60, deadline=None)
@given(
    queue=st.integers(0, 12),
    moves=st.lists(st.floats(0.0, 2.0), min_size=1, max_size=8),
    period_s=st.floats(0.012, 0.2),
)
def test_no_frame_begins_before_its_move_has_settled(
    queue: int, moves: list[float], period_s: float
) -> None:
    camera, source = open_scripted(free_running(period_s, queue=queue))
    for move_s in moves:
        source.clock.sleep(move_s)
        settled_s = source.clock.monotonic_s() + 0.3 * move_s
        frame = camera.grab(after=receipt(settled_s))
        assert frame.exposure_start_s >= settled_s
        # Nor is time wasted: the first exposure that begins after is the one.
        assert frame.exposure_start_s < settled_s + period_s * (1 + 1e-9)
        assert frame.exposure_end_s <= source.clock.monotonic_s() + 1e-9


def test_what_is_thrown_away_is_counted() -> None:
    camera, source = open_scripted(free_running(0.05, queue=5))
    source.clock.sleep(2.0)
    camera.grab(after=receipt(source.clock.monotonic_s()))
    assert camera.discarded_frames == 6


def test_a_frame_of_before_the_new_exposure_is_not_returned() -> None:
    camera, source = open_scripted(free_running(0.05, queue=5))
    source.clock.sleep(2.0)
    camera.configure(exposure_s=0.02)
    configured_s = source.clock.monotonic_s()
    assert camera.grab().exposure_start_s >= configured_s


def test_a_frame_that_tells_another_exposure_is_not_returned() -> None:
    told_s = iter([0.02, 0.02, 0.01])

    def script(source: ScriptedSource) -> Got:
        source.clock.sleep(0.05)
        start_s = source.clock.monotonic_s() - 0.01
        return RawFrame(pixels=PIXELS, not_before_s=start_s, exposure_s=next(told_s))

    camera, _ = open_scripted(script)
    camera.grab()
    assert camera.discarded_frames == 2


def test_the_same_frame_for_ever_is_a_timeout() -> None:
    """As after a USB drop, where a driver gives the last buffer again and again."""

    def script(source: ScriptedSource) -> Got:
        source.clock.sleep(0.05)
        return RawFrame(pixels=PIXELS, not_before_s=100.01)

    camera, _ = open_scripted(script)
    camera.grab()
    with pytest.raises(DeviceTimeoutError, match="no fresh frame within"):
        camera.grab()


def test_the_pose_is_the_receipt_s_or_asked_for() -> None:
    camera, source = open_scripted(free_running(0.05, queue=0))
    assert camera.grab().pose == HERE
    assert camera.grab(after=receipt(source.clock.monotonic_s())).pose == THERE


def triggered(delays_s: list[float]) -> Callable[[ScriptedSource], Got]:
    """Frame i comes that long after the first fetch for it; infinity: never."""
    left = iter(delays_s)

    def script(source: ScriptedSource) -> Got:
        delay_s = next(left)
        if math.isinf(delay_s):
            return None
        source.clock.sleep(delay_s)
        return RawFrame(pixels=PIXELS, not_before_s=-math.inf)

    return script


def test_a_trigger_waits_for_the_stage() -> None:
    camera, source = open_scripted(triggered([0.02]), is_triggered=True)
    settled_s = source.clock.monotonic_s() + 0.7
    frame = camera.grab(after=receipt(settled_s))
    assert source.triggers_s == [pytest.approx(settled_s)]
    assert frame.exposure_start_s >= settled_s


def test_a_frame_sooner_than_its_exposure_is_of_an_earlier_trigger() -> None:
    camera, _ = open_scripted(triggered([0.001, 0.02]), is_triggered=True)
    camera.grab()
    assert camera.discarded_frames == 1


def test_a_frame_that_never_came_does_not_pass_for_the_next() -> None:
    camera, source = open_scripted(
        triggered([math.inf, math.inf, math.inf, 0.02]), is_triggered=True
    )
    with pytest.raises(DeviceTimeoutError):
        camera.grab()
    assert camera.lost_frames == 3
    restarts = source.restarts
    camera.grab()
    assert source.restarts == restarts + 1  # what is under way was called off


def test_a_lost_frame_is_taken_again() -> None:
    camera, source = open_scripted(triggered([math.inf, 0.02]), is_triggered=True)
    camera.grab()
    assert len(source.triggers_s) == 2
    assert camera.lost_frames == 1


@pytest.mark.parametrize(
    "bad",
    [
        BrokenFrame(reason="packets are missing"),
        RawFrame(pixels=np.zeros_like(PIXELS), not_before_s=100.9),
    ],
)
@pytest.mark.parametrize("is_triggered", [True, False])
def test_a_broken_or_black_frame_is_taken_again(is_triggered: bool, bad: Got) -> None:
    order: Iterator[Got] = iter(
        [
            bad,
            RawFrame(pixels=PIXELS, not_before_s=101.0),
        ]
    )

    def script(source: ScriptedSource) -> Got:
        source.clock.sleep(0.05)
        return next(order)

    camera, source = open_scripted(script, is_triggered=is_triggered)
    assert camera.grab().exposure_start_s == 101.0
    assert camera.broken_frames == 1
    assert len(source.triggers_s) == (2 if is_triggered else 0)


def test_only_broken_frames_end_at_the_deadline() -> None:
    def script(source: ScriptedSource) -> Got:
        source.clock.sleep(0.05)
        return BrokenFrame(reason="packets are missing")

    camera, source = open_scripted(script)
    began_s = source.clock.monotonic_s()
    with pytest.raises(DeviceTimeoutError, match="too old or broken"):
        camera.grab()
    assert source.clock.monotonic_s() - began_s < 2.0


def test_silence_ends_at_the_deadline() -> None:
    camera, source = open_scripted(lambda _source: None)
    began_s = source.clock.monotonic_s()
    with pytest.raises(DeviceTimeoutError, match="0 came"):
        camera.grab()
    assert source.clock.monotonic_s() - began_s < 2.0


def test_a_receipt_of_another_clock_is_told() -> None:
    camera, source = open_scripted(free_running(0.05, queue=0))
    with pytest.raises(DeviceTimeoutError, match="another clock"):
        camera.grab(after=receipt(source.clock.monotonic_s() + 601))


def test_a_camera_that_takes_another_exposure_is_refused_and_put_back() -> None:
    camera, source = open_scripted(free_running(0.05, queue=0))
    source.takes_s = lambda asked_s: min(asked_s, 0.033)
    with pytest.raises(ConfigError, match=r"0\.1 s and took 0\.033 s"):
        camera.configure(exposure_s=0.1)
    assert source.exposure_s == 0.01
    frame = camera.grab()
    assert frame.exposure_end_s - frame.exposure_start_s == pytest.approx(0.01)


def test_a_camera_that_refuses_at_opening_is_closed() -> None:
    clock = FakeClock()
    source = ScriptedSource(clock=clock, script=lambda _source: None)
    source.takes_s = lambda asked_s: 2 * asked_s
    with pytest.raises(ConfigError):
        FreshCamera(source, CONFIG, clock=clock, position=lambda: HERE)
    assert source.closed == 1


def test_frames_of_another_size_are_refused() -> None:
    small = RawFrame(pixels=PIXELS[:32], not_before_s=200.0)
    camera, _ = open_scripted(lambda _source: small)
    with pytest.raises(ProtocolError, match="64x32 px, its section says 64x64 px"):
        camera.grab()


def test_closing_twice_releases_once() -> None:
    camera, source = open_scripted(lambda _source: None)
    camera.close()
    camera.close()
    assert source.closed == 1
    with pytest.raises(DeviceError, match="is closed"):
        camera.configure(exposure_s=0.01)
