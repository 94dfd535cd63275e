"""Opening stages: what is refused, what is marked simulated, what the camera sees."""

import os
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bifocus.clock import FakeClock, RealClock
from bifocus.errors import ConfigError, LinkLostError
from bifocus.hal.open_instrument import OpenInstrument
from bifocus.hal.open_stage import is_pseudo_terminal, open_stage
from bifocus.records import StagePosition
from tests.hal.boards import BOARDS, stage_config

Opener = Callable[..., OpenInstrument]


@pytest.fixture
def terminal() -> Iterator[Path]:
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    yield Path(os.ttyname(theirs))
    os.close(ours)
    os.close(theirs)


def test_a_pseudo_terminal_must_be_declared(terminal: Path, tmp_path: Path) -> None:
    link = tmp_path / "ttyUSB0"
    link.symlink_to(terminal)
    config = stage_config("grbl", port=str(link), simulated=False)
    with pytest.raises(ConfigError, match="simulated: true"):
        open_stage(config, clock=RealClock(), seed=0)


def test_only_pseudo_terminals_are_taken_for_such(terminal: Path) -> None:
    assert is_pseudo_terminal(terminal)
    assert not is_pseudo_terminal(Path(os.devnull))
    assert not is_pseudo_terminal(Path("socket://localhost:1"))


def test_a_port_does_not_run_on_a_virtual_clock(clock: FakeClock) -> None:
    config = stage_config("marlin", port="/dev/ttyUSB0", simulated=False)
    with pytest.raises(ConfigError, match="clock: real"):
        open_stage(config, clock=clock, seed=0)


def test_a_missing_port_is_named() -> None:
    config = stage_config("asi", port="/dev/no-such-port", simulated=False)
    with pytest.raises(LinkLostError, match="/dev/no-such-port"):
        open_stage(config, clock=RealClock(), seed=0)


@pytest.mark.parametrize("kind", ["sangaboard", "grbl", "marlin", "asi"])
def test_played_firmware_says_so(kind: str, clock: FakeClock) -> None:
    config = stage_config(kind)
    opened = open_stage(config, clock=clock, seed=0)
    told = opened.stage.capabilities
    assert config.is_simulated
    assert told.simulated
    assert "virtual" in told.identity
    opened.stage.close()


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("kind", BOARDS)
def test_the_truth_follows_the_driver(
    kind: str, turned: bool, clock: FakeClock
) -> None:
    """The glass ends where it was sent, also where the board counts backwards."""
    firmware = {
        "variant": kind,
        "mechanics": {"backlash_um": (5.0, 5.0, 3.0), "ring_amplitude_um": 0.5},
    }
    config = stage_config(
        kind, invert=(turned, False, turned), virtual_firmware=firmware
    )
    opened = open_stage(config, clock=clock, seed=0)
    assert opened.poses is not None
    stage = opened.stage
    stage.move_to(StagePosition(x_um=50.0, y_um=50.0, z_um=50.0))
    begin = opened.poses.true_pose_at(clock.monotonic_s())
    receipt = stage.move_to(StagePosition(x_um=-30.0, y_um=90.0, z_um=20.0))
    end = opened.poses.true_pose_at(receipt.settled_s + 1.0)
    # Play shifts every place alike, since each is approached from below.
    for axis, by_um in (("x_um", -80.0), ("y_um", 40.0), ("z_um", -30.0)):
        moved_um = getattr(end, axis) - getattr(begin, axis)
        assert moved_um == pytest.approx(by_um, abs=0.7)
    assert opened.poses.reported_at(clock.monotonic_s()).x_um == pytest.approx(
        receipt.reported.x_um, abs=0.7
    )
    stage.close()


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("kind", BOARDS)
def test_commanded_and_true_places_of_a_wrong_scale(
    kind: str, turned: bool, clock: FakeClock
) -> None:
    """3 % too far in x, from where the power came on, which is 0."""
    firmware = {"variant": kind, "mechanics": {"scale": (1.03, 1.0, 0.98)}}
    config = stage_config(
        kind, invert=(turned, False, turned), virtual_firmware=firmware
    )
    opened = open_stage(config, clock=clock, seed=0)
    assert opened.poses is not None
    target = StagePosition(x_um=-30.0, y_um=90.0, z_um=20.0)
    receipt = opened.stage.move_to(target)
    glass = opened.poses.true_pose_at(receipt.settled_s + 1.0)
    predicted = opened.poses.glass_for(target)
    assert predicted.x_um == pytest.approx(-30.9)
    assert predicted.z_um == pytest.approx(19.6)
    for axis in ("x_um", "y_um", "z_um"):
        assert getattr(glass, axis) == pytest.approx(getattr(predicted, axis), abs=0.7)
    back = opened.poses.commanded_for(predicted)
    assert (back.x_um, back.y_um, back.z_um) == pytest.approx((-30.0, 90.0, 20.0))
    opened.stage.close()


@pytest.mark.parametrize("kind", ["sangaboard", "grbl", "marlin", "asi"])
def test_the_camera_sees_the_same_as_with_the_virtual_stage(
    kind: str, open_small: Opener
) -> None:
    """Same slide, same place, same frame number: equal but for the last step."""
    place = {"x_um": (-900.0, 1000.0), "y_um": (-900.0, 800.0), "z_um": (-200.0, 300.0)}
    steps: dict[str, Any] = {"step_um": (0.1, 0.1, 0.05), "take_up_um": (6.0, 6.0, 4.0)}
    board = {"kind": kind, "port": "virtual", "simulated": True, **place, **steps}
    target = StagePosition(x_um=500.0, y_um=400.0, z_um=151.0)
    frames = []
    for stage in ({**place, **steps}, board):
        opened = open_small(on=FakeClock(), stage=stage)
        assert opened.truth is not None
        opened.stage.move_to(target)
        pose = opened.truth.true_pose_at(opened.clock.monotonic_s() + 1.0)
        frames.append(opened.camera.grab(after=opened.stage.move_to(target)))
        assert pose.z_um == pytest.approx(151.0, abs=0.06)
    first, second = (frame.pixels.astype(float) for frame in frames)
    assert first.std() > 5
    noise = first - second
    assert np.abs(noise).mean() < 0.1 * first.std()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sangaboard-v1", "marlin"])
def test_a_pseudo_terminal_in_between(kind: str) -> None:
    clock = RealClock()
    config = stage_config(kind, virtual_firmware={"variant": kind, "link": "pty"})
    opened = open_stage(config, clock=clock, seed=0)
    try:
        receipt = opened.stage.move_to(StagePosition(x_um=20.0, y_um=5.0, z_um=3.0))
        assert opened.stage.position() == receipt.reported
        assert opened.poses is not None
        pose = opened.poses.true_pose_at(clock.monotonic_s())
        assert pose.x_um == pytest.approx(20.0, abs=0.7)
    finally:
        opened.stage.close()
