"""The stage's hidden physics: time, play, ringing, drift, quantisation, stopping."""

import pytest

from bifocus.clock import FakeClock
from bifocus.errors import DeviceError
from bifocus.hal.virtual_stage import VirtualStage
from bifocus.records import StagePosition
from bifocus.stage_config import Mechanics, VirtualStageConfig

BACKLASH = {"backlash_um": (8.0, 8.0, 4.0)}


def make_stage(clock: object, seed: int = 5, **changes: object) -> VirtualStage:
    document: dict[str, object] = {
        "kind": "virtual",
        "x_um": (0.0, 1000.0),
        "y_um": (0.0, 1000.0),
        "z_um": (0.0, 200.0),
        "speed_um_per_s": (100.0, 100.0, 50.0),
        "acceleration_um_per_s2": (400.0, 400.0, 200.0),
        "step_um": (0.1, 0.1, 0.05),
        **changes,
    }
    config = VirtualStageConfig.model_validate(document)
    return VirtualStage(config, clock=clock, seed=seed)  # type: ignore[arg-type]


def at(x_um: float = 500.0, y_um: float = 500.0, z_um: float = 100.0) -> StagePosition:
    return StagePosition(x_um=x_um, y_um=y_um, z_um=z_um)


def test_a_move_takes_the_time_of_its_slowest_axis() -> None:
    clock = FakeClock()
    stage = make_stage(clock, command_s=0.01, settle_s=0.25)
    receipt = stage.move_to(at(x_um=600.0, z_um=101.0))
    assert receipt.end_s - receipt.start_s == pytest.approx(0.01 + 1.0 + 0.25)
    assert receipt.settled_s - receipt.end_s == pytest.approx(0.25)
    assert clock.monotonic_s() == pytest.approx(receipt.settled_s)
    z_only = stage.move_to(at(x_um=600.0, z_um=102.0))
    # A triangle: 2 sqrt(1 um / 200 um/s^2).
    assert z_only.end_s - z_only.start_s == pytest.approx(0.01 + 2 * (1 / 200) ** 0.5)


def test_targets_become_whole_steps_by_rounding() -> None:
    stage = make_stage(FakeClock())
    receipt = stage.move_to(at(x_um=500.16, z_um=100.124))
    assert receipt.reported.x_um == pytest.approx(500.2)
    assert receipt.reported.z_um == pytest.approx(100.1)


def glass_at(stage: VirtualStage, clock: FakeClock) -> StagePosition:
    return stage.true_pose_at(clock.monotonic_s())


def test_backlash_shows_without_take_up() -> None:
    clock = FakeClock()
    stage = make_stage(clock, mechanics=BACKLASH)
    stage.move_to(at(z_um=50.0))
    stage.move_to(at(z_um=80.0))
    upward_um = glass_at(stage, clock).z_um
    stage.move_to(at(z_um=110.0))
    stage.move_to(at(z_um=80.0))
    downward_um = glass_at(stage, clock).z_um
    assert upward_um == pytest.approx(80.0)
    assert downward_um - upward_um == pytest.approx(4.0)
    assert stage.position().z_um == pytest.approx(80.0)


def test_backlash_vanishes_with_take_up() -> None:
    clock = FakeClock()
    stage = make_stage(clock, mechanics=BACKLASH, take_up_um=(10.0, 10.0, 5.0))
    for x_um, z_um in [(505.0, 101.0), (480.0, 99.0), (480.5, 99.5), (400.0, 20.0)]:
        stage.move_to(at(x_um=x_um, z_um=z_um))
        assert glass_at(stage, clock).x_um == pytest.approx(x_um)
        assert glass_at(stage, clock).z_um == pytest.approx(z_um)


def test_a_direct_move_leaves_the_gap_as_it_is() -> None:
    """Driver's take-up on: only the direct move downward shows the play of 4 um."""
    clock = FakeClock()
    stage = make_stage(clock, mechanics=BACKLASH, take_up_um=(10.0, 10.0, 5.0))
    stage.move_to(at(z_um=110.0))
    x_um = glass_at(stage, clock).x_um
    receipt = stage.move_direct(at(z_um=80.0))
    assert glass_at(stage, clock).z_um == pytest.approx(84.0)
    assert receipt.reported.z_um == pytest.approx(80.0)
    stage.move_direct(at(z_um=90.0))
    assert glass_at(stage, clock).z_um == pytest.approx(90.0)
    stage.move_direct(at(z_um=89.0))
    assert glass_at(stage, clock).z_um == pytest.approx(90.0)
    # The next move knows that z is not engaged, and that x and y still are.
    stage.move_to(at(z_um=89.5))
    assert glass_at(stage, clock).z_um == pytest.approx(89.5)
    assert glass_at(stage, clock).x_um == x_um


def test_the_low_limit_keeps_room_for_the_take_up() -> None:
    stage = make_stage(FakeClock(), take_up_um=(10.0, 0.0, 5.0))
    assert stage.limits.x_um == (10.0, 1000.0)
    assert stage.limits.y_um == (0.0, 1000.0)
    assert stage.limits.z_um == (5.0, 200.0)


def test_it_rings_after_a_stop_and_is_still_after_settling() -> None:
    clock = FakeClock()
    ring = {"ring_amplitude_um": 0.5, "ring_frequency_hz": 20.0, "ring_decay_s": 0.04}
    stage = make_stage(clock, settle_s=0.3, mechanics=ring)
    receipt = stage.move_to(at(x_um=600.0))
    times_s = [receipt.end_s + 0.001 * i for i in range(50)]
    swings_um = [stage.true_pose_at(t).x_um - 600.0 for t in times_s]
    assert max(swings_um) > 0.2
    assert min(swings_um) < -0.05
    left_um = abs(stage.true_pose_at(receipt.settled_s).x_um - 600.0)
    assert left_um < 0.5 * 2.718**-7
    assert stage.true_pose_at(receipt.end_s).y_um == pytest.approx(500.0)


def test_slow_stops_ring_less() -> None:
    clock = FakeClock()
    stage = make_stage(clock, mechanics={"ring_amplitude_um": 0.5})
    quarter_s = 0.25 / Mechanics().ring_frequency_hz
    short = stage.move_to(at(x_um=500.1))
    small_um = stage.true_pose_at(short.end_s + quarter_s).x_um - 500.1
    clock.sleep(10.0)
    long = stage.move_to(at(x_um=600.0))
    large_um = stage.true_pose_at(long.end_s + quarter_s).x_um - 600.0
    assert 0 < small_um < 0.1 * large_um


def test_z_drifts_with_time() -> None:
    clock = FakeClock()
    stage = make_stage(clock, mechanics={"z_drift_um_per_hour": 3.0})
    before_um = glass_at(stage, clock).z_um
    clock.sleep(1800.0)
    assert glass_at(stage, clock).z_um - before_um == pytest.approx(1.5)


def test_repeatability_draws_a_new_error_for_every_move() -> None:
    clock = FakeClock()
    stage = make_stage(clock, mechanics={"repeatability_um": (0.0, 0.0, 0.2)})
    errors_um = []
    for _ in range(100):
        stage.move_to(at(z_um=90.0))
        stage.move_to(at(z_um=100.0))
        errors_um.append(glass_at(stage, clock).z_um - 100.0)
    spread_um = (sum(e * e for e in errors_um) / len(errors_um)) ** 0.5
    assert spread_um == pytest.approx(0.2, rel=0.3)  # 4 sigma of a spread of 100 draws


def test_the_past_stays_known() -> None:
    clock = FakeClock()
    stage = make_stage(clock, command_s=0.0)
    first = stage.move_to(at(x_um=510.0))
    second = stage.move_to(at(x_um=700.0))
    assert stage.true_pose_at(first.settled_s).x_um == pytest.approx(510.0)
    middle_s = 0.5 * (second.start_s + second.end_s)
    assert stage.true_pose_at(middle_s).x_um == pytest.approx(605.0)
    assert stage.true_pose_at(first.start_s - 1.0).x_um == pytest.approx(500.0)


def test_the_same_seed_gives_the_same_faults() -> None:
    mechanics = {**BACKLASH, "repeatability_um": (0.3, 0.3, 0.1)}
    poses = []
    for seed in (1, 1, 2):
        clock = FakeClock()
        stage = make_stage(clock, seed=seed, mechanics=mechanics)
        stage.move_to(at(x_um=520.0, z_um=99.0))
        poses.append(glass_at(stage, clock))
    assert poses[0] == poses[1] != poses[2]


class StopsWhileSleeping:
    """Real-time-like clock: at `stop_at_s` somebody presses stop from elsewhere."""

    def __init__(self, stop_at_s: float) -> None:
        self.now_s = 0.0
        self.stop_at_s = stop_at_s
        self.stage: VirtualStage | None = None

    def monotonic_s(self) -> float:
        return self.now_s

    def sleep(self, duration_s: float) -> None:
        self.now_s += max(0.0, duration_s)
        if self.stage is not None and self.now_s >= self.stop_at_s:
            self.stage.stop()
            self.stage = None


def test_stop_interrupts_a_waiting_move() -> None:
    clock = StopsWhileSleeping(stop_at_s=1.0)
    stage = make_stage(clock, take_up_um=(5.0, 5.0, 5.0))
    clock.stage = stage
    with pytest.raises(DeviceError, match="stopped"):
        stage.move_to(at(x_um=900.0))
    assert clock.now_s < 1.1
    assert 500.0 < stage.position().x_um < 600.0
    assert stage.move_to(at(x_um=900.0)).reported.x_um == pytest.approx(900.0)


def test_a_stop_makes_engagement_unknown() -> None:
    clock = FakeClock()
    stage = make_stage(clock, mechanics=BACKLASH, take_up_um=(10.0, 10.0, 5.0))
    stage.move_to(at())
    receipt = stage.move_to(at(z_um=60.0), wait=False)
    clock.sleep(0.5 * (receipt.end_s - receipt.start_s))
    stage.stop()
    here = stage.position()
    stage.move_to(at(z_um=here.z_um + 1.0))
    assert glass_at(stage, clock).z_um == pytest.approx(here.z_um + 1.0)


def test_home_lifts_z_before_anything_moves_sideways() -> None:
    clock = FakeClock()
    stage = make_stage(clock)
    asked_s = clock.monotonic_s()
    receipt = stage.home()
    assert receipt.reported == at(x_um=0.0, y_um=0.0, z_um=200.0)
    lifting_s = asked_s + 0.5
    assert stage.true_pose_at(lifting_s).x_um == pytest.approx(500.0)
    assert stage.true_pose_at(lifting_s).z_um > 100.0


WRONG = {"scale": (1.04, 0.97, 1.02)}
TURNS = {"periodic_um": (2.0, 0.0, 0.5), "periodic_period_um": (80.0, 80.0, 20.0)}


def test_a_wrong_scale_counts_from_where_the_power_came_on() -> None:
    clock = FakeClock()
    stage = make_stage(clock, mechanics=WRONG)
    assert glass_at(stage, clock) == at()
    stage.move_to(at(x_um=700.0, y_um=300.0, z_um=110.0))
    glass = glass_at(stage, clock)
    assert glass.x_um == pytest.approx(500 + 1.04 * 200)
    assert glass.y_um == pytest.approx(500 - 0.97 * 200)
    assert glass.z_um == pytest.approx(100 + 1.02 * 10)
    assert stage.position().x_um == pytest.approx(700.0)


def test_a_wrong_scale_stretches_the_play_too() -> None:
    clock = FakeClock()
    stage = make_stage(clock, mechanics={**WRONG, **BACKLASH})
    seen = []
    for begin_um in (50.0, 150.0):
        stage.move_to(at(z_um=begin_um))
        stage.move_to(at(z_um=100.0))
        seen.append(glass_at(stage, clock).z_um)
    assert seen == pytest.approx([100.0, 100.0 + 1.02 * 4.0])


def test_the_periodic_error_repeats_with_every_turn() -> None:
    clock = FakeClock()
    stage = make_stage(clock, mechanics=TURNS)
    for x_um, error_um in [(500.0, 2.0), (520.0, 0.0), (540.0, -2.0), (580.0, 2.0)]:
        stage.move_to(at(x_um=x_um))
        # 500 um are six and a quarter turns.
        assert glass_at(stage, clock).x_um - x_um == pytest.approx(error_um)


def test_where_to_drive_for_a_true_place() -> None:
    clock = FakeClock()
    stage = make_stage(clock, mechanics={**WRONG, **TURNS, **BACKLASH})
    wanted = at(x_um=333.0, y_um=612.0, z_um=91.0)
    there = stage.commanded_for(wanted)
    assert there.x_um == pytest.approx(500 - 167 / 1.04, abs=2.1)
    back = stage.glass_for(there)
    assert (back.x_um, back.y_um, back.z_um) == pytest.approx((333.0, 612.0, 91.0))
    stage.move_to(at(x_um=100.0, y_um=100.0, z_um=20.0))
    stage.move_to(there)
    glass = glass_at(stage, clock)
    # Half a step of rounding.
    assert glass.x_um == pytest.approx(333.0, abs=0.06)
    assert glass.z_um == pytest.approx(91.0, abs=0.03)


def test_a_screw_that_would_turn_back_is_refused() -> None:
    with pytest.raises(ValueError, match="would go back"):
        Mechanics(periodic_um=(4.0, 0.0, 0.0), periodic_period_um=(20.0, 1.0, 1.0))
