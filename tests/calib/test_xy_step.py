"""Matrix, pixel and backlash of virtual instruments whose truth is known."""

from typing import Any

import numpy as np
import pytest

from bifocus.calib.step_result import StepResult
from bifocus.calib.xy_step import measure_xy
from bifocus.errors import BlankSlideError, CalibrationError
from bifocus.hal.devices import Stage
from bifocus.records import Measured, MoveReceipt, StagePosition
from tests.calib.small_bench import focus_from_truth, open_bench, small_config


def measured(**changes: Any) -> StepResult:
    with open_bench(small_config(**changes)) as (bench, instrument):
        return measure_xy(bench, focus_from_truth(instrument))


def off_by(measured: Measured, truth: float) -> float:
    """Deviation in standard uncertainties."""
    return abs(measured.value - truth) / measured.standard_uncertainty


@pytest.mark.slow
def test_backlash_of_100_steps_to_one_percent() -> None:
    """10 um in steps of 0.1 um; camera-stage-mapping 0.1.10 returns 94.7 steps."""
    result = measured(stage={"mechanics": {"backlash_um": (10.0, 3.0, 0.0)}})
    assert result.values["backlash_x_um"].value == pytest.approx(10.0, rel=0.01)
    assert result.values["backlash_y_um"].value == pytest.approx(3.0, rel=0.01)
    assert result.values["backlash_x_um"].standard_uncertainty < 0.05
    assert "reversal value" in result.facts["convention"]
    # Take-up is 6 um: x would be left open by a scan, and that is said.
    assert len(result.warnings) == 1
    assert "backlash of x" in result.warnings[0]


@pytest.mark.slow
def test_scales_and_rotation_with_a_given_pixel() -> None:
    mechanics = {
        "backlash_um": (5.0, 4.0, 3.0),
        "repeatability_um": (0.1, 0.1, 0.02),
        "scale": (1.04, 0.97, 1.0),
    }
    result = measured(stage={"mechanics": mechanics}, optics={"rotation_mrad": 12.0})
    values = result.values
    assert values["pixel_um"].value == 0.25
    # 1 % rectangular, by hand.
    assert values["pixel_um"].standard_uncertainty == pytest.approx(0.25 * 0.0057735)
    assert result.facts["length_source"] == "pixel"
    for axis, truth in (("x", 1.04), ("y", 0.97)):
        # The pixel is true, so that the shifts alone must explain what is off.
        shifts = result.facts["uncertainty_budget"][f"shifts_{axis}"]
        assert shifts < 0.002
        assert values[f"scale_{axis}"].value == pytest.approx(truth, rel=3 * shifts)
        assert values[f"scale_{axis}"].standard_uncertainty > 0.0057 * truth
    assert off_by(values["rotation_mrad"], 12.0) < 3
    assert off_by(values["backlash_x_um"], 5.0) < 3
    assert off_by(values["backlash_y_um"], 4.0) < 3
    assert not result.facts["mirrored"]
    # By hand: columns of length 1.04 and 0.97 at 12 mrad.
    matrix = [[1.039925, 0.011640], [-0.012480, 0.969930]]
    assert np.abs(np.array(result.facts["matrix"]) - matrix).max() < 0.005


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mirror", "rotation_mrad"), [((True, True), 3141.6), ((True, False), 8.0)]
)
def test_a_camera_mounted_otherwise_is_measured_all_the_same(
    mirror: tuple[bool, bool], rotation_mrad: float
) -> None:
    angle = 0.0 if mirror[1] else 8.0
    result = measured(optics={"mirror": mirror, "rotation_mrad": angle})
    assert result.facts["mirrored"] is not mirror[1]
    assert abs(result.values["rotation_mrad"].value) == pytest.approx(
        rotation_mrad, abs=1.0
    )
    assert result.values["backlash_x_um"].value == pytest.approx(5.0, abs=0.2)


@pytest.mark.slow
def test_a_graticule_gives_the_pixel_and_with_it_the_stage() -> None:
    """The file's pixel is 1.3 % off, the stage's scale 3 and 4 %."""
    mechanics = {
        "backlash_um": (8.0, 2.0, 0.0),
        "repeatability_um": (0.05, 0.05, 0.0),
        "scale": (1.03, 0.96, 1.0),
    }
    result = measured(
        stage={"mechanics": mechanics},
        optics={"pixel_um": 0.2533, "rotation_mrad": -9.0},
        virtual_slide={"tissue": "graticule:8"},
        calibration={"graticule": {"pitch_um": 8.0, "u_um": 0.001}},
    )
    values = result.values
    assert result.facts["length_source"] == "graticule"
    assert values["pixel_um"].value == pytest.approx(0.2533, rel=3e-4)
    assert off_by(values["pixel_um"], 0.2533) < 3
    # At least the certificate: 0.001 um of 8.
    assert values["pixel_um"].standard_uncertainty > 0.2533 * 1.25e-4
    for key, truth in (
        ("scale_x", 1.03),
        ("scale_y", 0.96),
        ("rotation_mrad", -9.0),
        ("backlash_x_um", 8.0),  # a whole period of the target
        ("backlash_y_um", 2.0),
    ):
        assert off_by(values[key], truth) < 3.2, key
    assert values["scale_x"].standard_uncertainty < 0.002


@pytest.mark.slow
def test_a_trusted_stage_gives_the_pixel() -> None:
    result = measured(
        optics={"pixel_um": 0.2533},
        calibration={"length_source": "stage", "stage_tolerance": 0.002},
    )
    assert result.facts["length_source"] == "stage"
    assert result.values["pixel_um"].value == pytest.approx(0.2533, rel=2e-3)
    # 0.2 % rectangular, and what the shifts add.
    u = result.values["pixel_um"].standard_uncertainty / 0.2533
    assert 0.00115 < u < 0.0025
    assert result.values["scale_x"].value == pytest.approx(1.0, rel=3e-3)


@pytest.mark.slow
def test_places_on_glass_are_passed_over() -> None:
    """The focus was found beside the tissue; the next places show some."""
    with open_bench(small_config()) as (bench, instrument):
        before = focus_from_truth(instrument)
        focus = before["focus"]
        beside = StepResult(
            name="focus", values=focus.values, facts={"x_um": 120.0, "y_um": 100.0}
        )
        result = measure_xy(bench, {"focus": beside})
    assert result.values["scale_x"].value == pytest.approx(1.0, abs=0.005)


def test_glass_alone_says_so() -> None:
    config = small_config(virtual_slide={"x_um": -3000.0})
    with (
        open_bench(config) as (bench, instrument),
        pytest.raises(BlankSlideError, match=r"6 places.*correlation is .*region full"),
    ):
        measure_xy(bench, focus_from_truth(instrument))


class StuckStage:
    """Reports every move as done; one motor's coupling is loose."""

    def __init__(self, stage: Any, axis: str) -> None:
        self._stage = stage
        self._axis = axis

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stage, name)

    def _told(self, position: StagePosition) -> StagePosition:
        changes = {
            f"{self._axis}_um": getattr(self._stage.position(), f"{self._axis}_um")
        }
        fields = {key: getattr(position, key) for key in ("x_um", "y_um", "z_um")}
        return StagePosition(**{**fields, **changes})

    def _as_told(self, receipt: MoveReceipt, position: StagePosition) -> MoveReceipt:
        return MoveReceipt(
            commanded=position,
            reported=position,
            start_s=receipt.start_s,
            end_s=receipt.end_s,
            settled_s=receipt.settled_s,
        )

    def move_to(self, position: StagePosition, wait: bool = True) -> MoveReceipt:
        return self._as_told(self._stage.move_to(self._told(position), wait), position)

    def move_direct(self, position: StagePosition, wait: bool = True) -> MoveReceipt:
        receipt = self._stage.move_direct(self._told(position), wait)
        return self._as_told(receipt, position)


@pytest.mark.parametrize("axis", ["x", "y"])
def test_an_axis_that_does_not_move_is_named(axis: str) -> None:
    config = small_config(stage={"mechanics": {}})
    with open_bench(config) as (bench, instrument):
        before = focus_from_truth(instrument)
        instrument.stage.move_to(StagePosition(x_um=500.0, y_um=400.0, z_um=150.0))
        stuck: Stage = StuckStage(bench.stage, axis)
        still = type(bench)(
            stage=stuck,
            camera=bench.camera,
            clock=bench.clock,
            config=config,
            region_um=bench.region_um,
        )
        with pytest.raises(
            CalibrationError, match=rf"axis {axis} does not move.*step_um"
        ):
            measure_xy(still, before)


class CarefulStage:
    """A stage of somebody else's, which always takes up backlash."""

    def __init__(self, stage: Stage) -> None:
        self.limits = stage.limits
        self.capabilities = stage.capabilities
        self.position, self.move_to = stage.position, stage.move_to
        self.stop, self.home, self.close = stage.stop, stage.home, stage.close


def test_a_stage_without_straight_moves_is_refused() -> None:
    config = small_config()
    with open_bench(config) as (bench, instrument):
        before = focus_from_truth(instrument)
        careful = type(bench)(
            stage=CarefulStage(bench.stage),
            camera=bench.camera,
            clock=bench.clock,
            config=config,
            region_um=bench.region_um,
        )
        with pytest.raises(CalibrationError, match="move_direct"):
            measure_xy(careful, before)


def test_it_needs_the_focus() -> None:
    with (
        open_bench(small_config()) as (bench, _),
        pytest.raises(CalibrationError, match="needs step focus"),
    ):
        measure_xy(bench, {})


def test_a_region_without_room_is_refused() -> None:
    with (
        open_bench(small_config(), (498.0, 398.0, 4.0, 4.0)) as (bench, instrument),
        pytest.raises(CalibrationError, match="choose a wider region"),
    ):
        measure_xy(bench, focus_from_truth(instrument))
