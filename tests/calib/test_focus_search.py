"""The focus of one place against the virtual instrument's hidden truth."""

import itertools

import pytest

from bifocus.calib.focus_search import FocusSearch, find_focus
from bifocus.config import Instrument
from bifocus.errors import BlankSlideError, CalibrationError, OutOfTravelError
from tests.scanner import (
    CENTRE_UM,
    RecordingStage,
    glass_only,
    open_scanner,
    scanner_config,
    truth_of,
)


def search(
    config: Instrument, x_um: float = CENTRE_UM[0], y_um: float = CENTRE_UM[1]
) -> tuple[FocusSearch, float, RecordingStage]:
    """Return what was found, the error against the truth, and the stage's moves."""
    with open_scanner(config) as instrument:
        stage = RecordingStage(instrument.stage)
        found = find_focus(
            stage,
            instrument.camera,
            config.optics,
            config.calibration,
            x_um=x_um,
            y_um=y_um,
        )
        true_um = truth_of(instrument).commanded_focus_um(
            x_um, y_um, found.estimate.reference_s
        )
    return found, found.focus_um.value - true_um, stage


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("start_um", [145.0, 152.0])
def test_the_focus_is_found_in_spite_of_play_and_noise(
    seed: int, start_um: float
) -> None:
    config = scanner_config(
        seed=seed,
        camera={"full_well_e": 8000.0, "read_noise_e": 15.0},
        calibration={"z_start_um": start_um},
    )
    found, error_um, _ = search(config)
    assert abs(error_um) < 0.05
    assert abs(error_um) < 3 * found.focus_um.standard_uncertainty
    assert found.focus_um.standard_uncertainty < 0.05
    assert len(found.fine) == config.calibration.repeats


def test_every_stack_runs_upward_and_the_first_move_is_away() -> None:
    found, _, stage = search(scanner_config())
    z_um = [target.z_um for target in stage.targets]
    assert z_um[0] >= 152.0  # where it wakes
    downward = sum(after < before for before, after in itertools.pairwise(z_um))
    assert downward == 1 + len(found.fine)  # once before each stack


def test_play_beyond_the_take_up_does_no_harm() -> None:
    """The driver takes up 4 um of 9 um: stacks begin low enough to close the rest."""
    mechanics = {"backlash_um": (5.0, 5.0, 9.0), "repeatability_um": (0.1, 0.1, 0.02)}
    _, error_um, _ = search(scanner_config(stage={"mechanics": mechanics}))
    assert abs(error_um) < 0.05


def test_drift_is_taken_off_and_told() -> None:
    """The glass creeps up, so that the motor must go ever less far up for focus."""
    mechanics = {"z_drift_um_per_hour": 60.0, "repeatability_um": (0.0, 0.0, 0.0)}
    found, error_um, _ = search(scanner_config(stage={"mechanics": mechanics}))
    assert abs(error_um) < 0.03
    assert found.estimate.drift_um_per_hour == pytest.approx(-60.0, rel=0.2)


@pytest.mark.parametrize("start_um", [140.0, 160.0])
def test_a_peak_at_the_edge_extends_the_search(start_um: float) -> None:
    """The first stack spans +-8 um and ends short of the focus, 10 um away."""
    found, error_um, _ = search(scanner_config(calibration={"z_start_um": start_um}))
    assert abs(error_um) < 0.1
    assert abs(found.coarse.z_um[0] - (start_um - 8.0)) > 3


def test_the_search_starts_where_the_stage_is_if_nothing_is_set() -> None:
    found, error_um, _ = search(scanner_config(calibration={"z_start_um": None}))
    assert abs(error_um) < 0.1
    # The virtual stage wakes in the middle of its usable travel, 4..300 um.
    assert found.coarse.z_um[0] == pytest.approx(152.0 - 8.0, abs=0.1)


def test_a_focus_out_of_reach_says_what_to_do() -> None:
    """Two extensions reach under 8 um up, the focus lies 13 um up."""
    config = scanner_config(
        calibration={
            "z_start_um": 137.0,
            "coarse_range_um": 2.0,
            "coarse_step_um": 0.25,
        }
    )
    with pytest.raises(CalibrationError, match=r"z_start_um|hardly changes"):
        search(config)


@pytest.mark.parametrize(
    ("camera", "message"),
    [
        ({"lamp": "off"}, "no light: the brightest pixels reach level"),
        ({"white_level": 1.0, "dark_level": 8.0}, "pixels are saturated, at most 2%"),
    ],
)
def test_light_that_cannot_be_trusted_is_named(
    camera: dict[str, object], message: str
) -> None:
    with pytest.raises(CalibrationError, match=message):
        search(scanner_config(camera=camera))


def test_glass_has_no_focus() -> None:
    with pytest.raises(BlankSlideError, match=r"x 500\.0, y 400\.0 um: clear glass"):
        search(glass_only())


def test_a_place_beyond_the_travel_moves_nothing() -> None:
    config = scanner_config()
    with open_scanner(config) as instrument:
        stage = RecordingStage(instrument.stage)
        with pytest.raises(OutOfTravelError):
            find_focus(
                stage,
                instrument.camera,
                config.optics,
                config.calibration,
                x_um=1001.0,
                y_um=400.0,
            )
    assert stage.targets == []


def test_the_range_ends_where_the_travel_ends() -> None:
    """The focus lies 3 um under the top of the travel: the stacks stop at the top."""
    config = scanner_config(stage={"z_um": (0.0, 153.0)})
    _, error_um, stage = search(config)
    assert abs(error_um) < 0.1
    assert max(target.z_um for target in stage.targets) <= 153.0
