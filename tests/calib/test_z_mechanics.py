"""Play, repeatability and drift of z against what the virtual stage truly does."""

from typing import Any

import pytest

from bench.quick_instrument import QuickInstrument, make_instrument, make_specimen
from bifocus.calib.focus_step import measure_focus
from bifocus.calib.step_result import Bench, StepResult
from bifocus.calib.z_mechanics import measure_z_mechanics
from bifocus.errors import CalibrationError
from bifocus.hal.devices import StageCapabilities, StageLimits
from bifocus.records import MoveReceipt, StagePosition
from bifocus.transfer import Light


def instrument(
    backlash_um: float = 5.0,
    *,
    low_um: float = -400.0,
    coarse_range_um: float = 24.0,
    **mechanics: Any,
) -> QuickInstrument:
    specimen = make_specimen(
        side_px=96, pixel_um=0.25, heights_um=(-0.2, 0.0, 0.2), seed=3
    )
    return make_instrument(
        specimen=specimen,
        light=Light(),
        na=0.75,
        seed=3,
        mechanics={"backlash_um": (0.0, 0.0, backlash_um), **mechanics},
        stage={"take_up_um": (0.0, 0.0, 10.0), "z_um": (low_um, 400.0)},
        calibration={"z_start_um": -2.0, "coarse_range_um": coarse_range_um},
    )


def measure(quick: QuickInstrument) -> StepResult:
    focus = measure_focus(quick.bench, {})
    return measure_z_mechanics(quick.bench, {"focus": focus})


def test_a_hundred_steps_of_play_are_found_within_one_percent() -> None:
    """Where a fit of play and scale to image shifts, as published, returns 94.7."""
    step = measure(instrument(5.0, repeatability_um=(0.0, 0.0, 0.01)))
    found = step.values["backlash_z_um"]
    assert found.value / 0.05 == pytest.approx(100.0, abs=1.0)
    assert abs(found.value - 5.0) < 3 * found.standard_uncertainty
    assert step.warnings == ()
    assert 5.0 < step.facts["take_up_needed_um"] < 5.5


@pytest.mark.parametrize("backlash_um", [0.0, 0.3, 40.0])
def test_the_range_follows_the_play(backlash_um: float) -> None:
    """40 um is far more than the take-up of 10 um, of which the step warns."""
    step = measure(instrument(backlash_um, coarse_range_um=100.0))
    assert step.values["backlash_z_um"].value == pytest.approx(backlash_um, abs=0.05)
    assert any("take_up_um of z is 10" in text for text in step.warnings) == (
        backlash_um > 10
    )


def test_scatter_and_drift_are_told() -> None:
    quick = instrument(
        3.0, repeatability_um=(0.0, 0.0, 0.05), z_drift_um_per_hour=-40.0
    )
    step = measure(quick)
    spread = step.values["repeatability_z_um"]
    assert abs(spread.value - 0.05) < 3 * spread.standard_uncertainty
    assert spread.standard_uncertainty < 0.025
    drift = step.values["drift_z_um_per_hour"]
    assert drift.unit == "um/h"
    # The glass sinks, so that the motor has to go ever higher up.
    assert abs(drift.value - 40.0) < 3 * drift.standard_uncertainty
    assert drift.standard_uncertainty < 20.0


def test_too_short_a_travel_is_named() -> None:
    """The safe travel ends 8 um below the focus: 9 um of play cannot be closed there.

    The driver's take-up, for which that end keeps room, still lets the focus be found.
    """
    with pytest.raises(CalibrationError, match="does not pass the focus"):
        measure(instrument(9.0, low_um=-18.0))
    with pytest.raises(CalibrationError, match="no room to measure the play"):
        measure(instrument(6.0, low_um=-18.0))


class PlainStage:
    """A driver of somebody else: it has no direct moves."""

    def __init__(self, quick: QuickInstrument) -> None:
        self._stage = quick.stage

    @property
    def limits(self) -> StageLimits:
        return self._stage.limits

    @property
    def capabilities(self) -> StageCapabilities:
        return self._stage.capabilities

    def position(self) -> StagePosition:
        return self._stage.position()

    def move_to(self, position: StagePosition, wait: bool = True) -> MoveReceipt:
        return self._stage.move_to(position, wait)

    def stop(self) -> None:
        self._stage.stop()

    def home(self) -> MoveReceipt:
        return self._stage.home()

    def close(self) -> None:
        self._stage.close()


def test_a_driver_that_always_takes_up_is_named() -> None:
    quick = instrument()
    focus = measure_focus(quick.bench, {})
    bench = Bench(
        stage=PlainStage(quick),
        camera=quick.bench.camera,
        clock=quick.bench.clock,
        config=quick.bench.config,
        region_um=quick.bench.region_um,
    )
    with pytest.raises(CalibrationError, match="needs `move_direct`"):
        measure_z_mechanics(bench, {"focus": focus})
