"""Half-spacing: the prediction and the ruler by closed forms, the step by its truth."""

import json

import numpy as np
import numpy.typing as npt
import pytest

from bench.quick_instrument import QuickInstrument, make_instrument, make_specimen
from bifocus.calib.focus_step import measure_focus
from bifocus.calib.spacing_length import choose_length
from bifocus.calib.spacing_prediction import (
    TissuePower,
    measure_power,
    predict_curve,
    wiener_error,
)
from bifocus.calib.spacing_ruler import make_ruler
from bifocus.calib.spacing_step import measure_spacing
from bifocus.calib.step_result import StepResult
from bifocus.calib.trained_range import half_spacing_range_um, load_default_manifest
from bifocus.calibrated_optics import CalibratedOptics
from bifocus.errors import CalibrationError
from bifocus.optics import Objective, otf_radial
from bifocus.records import Measured
from bifocus.transfer import Light

Float64 = npt.NDArray[np.float64]

GREEN = Objective(na=0.75, wavelength_um=0.53)


def one_ring(frequency_per_um: float, signal: float) -> TissuePower:
    return TissuePower(
        frequency_per_um=np.array([frequency_per_um]),
        count=np.array([7.0]),
        signal=np.array([signal]),
        noise_sd=0.01,
    )


@pytest.mark.parametrize("offset_um", [0.0, 0.4])
def test_the_error_is_that_of_a_wiener_filter(offset_um: float) -> None:
    """One frequency, heights known: E = h0^2 S / (1 + S (h-^2 + h+^2)) in noise units.

    The transfer comes from another module, by another quadrature.
    """
    got = wiener_error(
        one_ring(0.8, 50.0),
        GREEN,
        Light(),
        defoci_um=np.array([[offset_um + 0.75], [offset_um - 0.75]]),
        unknown_um=0.0,
    )
    frequency = np.array([0.8])
    h0, low, high = (
        float(otf_radial(GREEN, frequency, z_um)[0])
        for z_um in (0.0, offset_um + 0.75, offset_um - 0.75)
    )
    expected = h0**2 * 50 / (1 + 50 * (low**2 + high**2)) * 0.01**2
    assert got[0] == pytest.approx(expected, rel=0.01)


def test_shots_of_unknown_height_are_worth_less() -> None:
    errors = [
        wiener_error(
            one_ring(0.8, 1e4),
            GREEN,
            Light(),
            defoci_um=np.array([[0.75], [-0.75]]),
            unknown_um=unknown_um,
        )[0]
        for unknown_um in (0.0, 0.1, 0.3)
    ]
    assert errors[0] < errors[1] < errors[2]


def test_the_best_spacing_follows_the_spread() -> None:
    """Tiles that lie far from F need shots far apart; a paper's sweep found 0.75 um."""
    frequency = np.asarray(np.linspace(0.05, 2.0, 40), dtype=np.float64)
    tissue = TissuePower(
        frequency_per_um=frequency,
        count=frequency * 100,
        signal=300 / (1 + (frequency / 0.15) ** 2),
        noise_sd=0.01,
    )
    best = [
        predict_curve(
            tissue,
            GREEN,
            Light(),
            half_spacings_um=np.asarray(np.linspace(0.2, 2.2, 41), dtype=np.float64),
            spread_um=spread_um,
            repeatability_um=0.02,
        )
        for spread_um in (0.3, 1.0, 1.8)
    ]
    assert best[0].best_um < best[1].best_um < best[2].best_um
    assert 0.5 < best[1].best_um < 1.0
    assert np.all(best[1].worst_tenth_db <= best[1].mean_db)


def test_white_noise_has_no_power() -> None:
    noise = np.random.default_rng(1).normal(0.5, 0.02, (128, 128)).astype(np.float32)
    power = measure_power(noise, 0.02, objective=GREEN, light=Light(), pixel_um=0.25)
    passed = power.frequency_per_um < 1.0
    assert float(np.average(power.signal[passed], weights=power.count[passed])) < 0.3


def gaussian_stack(phase: float, sigma_um: float) -> tuple[Float64, Float64]:
    z_um = np.asarray(np.arange(-3.0, 3.1, 0.3) + 0.3 * phase, dtype=np.float64)
    return z_um, 40 * np.exp(-((z_um / sigma_um) ** 2) / 2)


@pytest.mark.parametrize("height_um", [-1.3, -0.6, 0.5, 1.1])
def test_the_ruler_reads_heights_off_a_gaussian(height_um: float) -> None:
    stacks = [gaussian_stack(phase, 0.9) for phase in (0.0, 0.5)]
    ruler = make_ruler([z for z, _ in stacks], [s for _, s in stacks], reach_um=2.0)
    log_sharpness = float(np.log(40) - (height_um / 0.9) ** 2 / 2)
    read_um = ruler.height_um(log_sharpness, is_upper=height_um > 0)
    assert read_um == pytest.approx(height_um, abs=2e-3)
    assert ruler.slope_per_um(height_um) == pytest.approx(-height_um / 0.81, rel=1e-3)
    assert ruler.u_um(height_um) < 1e-6


def test_the_rulers_uncertainty_is_what_noise_makes_of_it() -> None:
    """400 rulers of noisy planes: their heights scatter as u says (2 u for 95 %)."""
    rng = np.random.default_rng(3)
    inside = 0
    for _ in range(400):
        stacks = [gaussian_stack(phase, 0.9) for phase in rng.uniform(0, 1, 2)]
        noisy = [s * np.exp(rng.normal(0, 0.03, s.size)) for _, s in stacks]
        ruler = make_ruler([z for z, _ in stacks], noisy, reach_um=2.0)
        read_um = ruler.height_um(float(np.log(40) - 0.5), is_upper=True)
        inside += abs(read_um - 0.9) <= 2 * ruler.u_um(0.9)
    assert inside / 400 == pytest.approx(0.95, abs=0.035)


def test_too_few_planes_are_no_ruler() -> None:
    z_um, sharpness = gaussian_stack(0.0, 0.9)
    with pytest.raises(CalibrationError, match=r"only 5 planes within 0\.60 um"):
        make_ruler([z_um], [sharpness], reach_um=0.6 + 1e-9)


def instrument(
    half_spacing_um: float = 0.75,
    *,
    take_up_um: float = 10.0,
    repeatability_um: float = 0.02,
    choose: str = "configured",
) -> QuickInstrument:
    specimen = make_specimen(
        side_px=128, pixel_um=0.25, heights_um=(-0.1, 0.0, 0.1), seed=4
    )
    return make_instrument(
        specimen=specimen,
        light=Light(),
        na=0.75,
        seed=4,
        mechanics={
            "backlash_um": (0, 0, 1.0),
            "repeatability_um": (0, 0, repeatability_um),
        },
        stage={"take_up_um": (0.0, 0.0, take_up_um)},
        calibration={"z_start_um": -2.0, "choose_half_spacing": choose},
        scan={"half_spacing_um": half_spacing_um},
    )


def measure(quick: QuickInstrument) -> StepResult:
    return measure_spacing(quick.bench, {"focus": measure_focus(quick.bench, {})})


def test_the_achieved_spacing_is_the_true_one() -> None:
    step = measure(instrument())
    achieved = step.values["half_spacing_um"]
    assert step.values["half_spacing_commanded_um"].value == pytest.approx(0.75)
    assert abs(achieved.value - 0.75) < 0.02
    assert achieved.standard_uncertainty < 0.025
    # Five percent of trust in the drive's own um are nearly all of it.
    counted = step.values["half_spacing_stage_um"]
    assert step.facts["budget_um"]["z scale"] == pytest.approx(
        0.475 * 0.05 * counted.value
    )
    assert achieved.value == counted.value
    assert abs(step.facts["centre_um"]) < 0.06
    assert step.facts["symmetry"] == pytest.approx(1.0, abs=0.2)
    assert step.facts["inside_trained_range"] is True
    assert step.warnings == ()
    json.dumps(dict(step.facts))


@pytest.mark.parametrize(("scatter_um", "most_u_um"), [(0.0, 0.002), (0.08, 0.0145)])
def test_a_stage_that_scatters_is_asked_more_often(
    scatter_um: float, most_u_um: float
) -> None:
    """One pair and its reference tell the miss to the scatter of one shot."""
    step = measure(instrument(repeatability_um=scatter_um))
    counted = step.values["half_spacing_stage_um"]
    assert counted.standard_uncertainty < most_u_um
    assert abs(counted.value - 0.75) < 3 * counted.standard_uncertainty + 1e-3
    assert (step.facts["pairs"] > 20) == (scatter_um > 0)


def seen_scale(value: float, u: float) -> Measured:
    return Measured(value=value, standard_uncertainty=u, method="optics", unit="")


def test_the_length_is_the_mean_of_drive_and_light() -> None:
    """By hand: 5 % as limits are u 0.02375; pixel to 1 %, wavelength to 2 %."""
    config = instrument().bench.config
    light_u = (0.01**2 + (2 * 0.01) ** 2 / 3 + 0.02**2 / 3) ** 0.5
    length = choose_length(config, seen_scale(1.03, 0.01))
    weights = np.array([0.02375**-2, light_u**-2])
    assert length.scale == pytest.approx(float(weights @ [1.0, 1.03]) / weights.sum())
    assert length.u == pytest.approx(weights.sum() ** -0.5)
    assert "z drive" in length.source
    assert "wavelengths" in length.source


def test_where_drive_and_light_disagree_u_covers_both() -> None:
    config = instrument().bench.config
    length = choose_length(config, seen_scale(1.15, 0.01))
    assert 1 < length.scale < 1.15
    assert length.scale + 2 * length.u > 1.15
    assert length.scale - 2 * length.u < 1
    assert "z drive" in length.source
    assert "wavelengths" in length.source


def test_without_optics_the_drive_is_the_length() -> None:
    length = choose_length(instrument().bench.config, None)
    assert (length.scale, length.u) == (1.0, 0.02375)


def test_dd_is_told_in_true_micrometres_and_in_the_stages() -> None:
    quick = instrument()
    focus = measure_focus(quick.bench, {})
    light = Light()
    optics = StepResult(
        name="optics",
        values={"z_scale": seen_scale(1.03, 0.01)},
        facts={"calibrated_optics": CalibratedOptics(na=0.75, light=light).to_dict()},
    )
    step = measure_spacing(quick.bench, {"focus": focus, "optics": optics})
    scale = step.facts["z_length"]["scale"]
    assert 1.01 < scale < 1.03
    true, counted = (
        step.values[f"half_spacing_{kind}um"].value for kind in ("", "stage_")
    )
    assert true == pytest.approx(scale * counted)
    assert counted == pytest.approx(0.75, abs=0.03)


def test_play_that_is_not_taken_up_shows_in_the_pair() -> None:
    """1 um of play and no take-up: after coming down the lower shot is 1 um too high.

    Then both shots lie half a micrometre nearer to each other, or beside the focus.
    """
    step = measure(instrument(take_up_um=0.0))
    assert step.values["half_spacing_um"].value < 0.65
    assert any("take_up_um" in text for text in step.warnings)


def test_auto_takes_the_best_that_the_network_knows() -> None:
    step = measure(instrument(2.0, choose="auto"))
    low_um, high_um = step.facts["trained_range_um"]
    chosen_um = step.values["half_spacing_commanded_um"].value
    assert low_um <= chosen_um <= high_um
    assert abs(chosen_um - min(max(step.facts["best_um"], low_um), high_um)) <= 0.025


def test_a_spacing_outside_the_training_is_warned_of() -> None:
    step = measure(instrument(1.6))
    assert step.facts["inside_trained_range"] is False
    assert any("trained for 0.4 to 1.2" in text for text in step.warnings)


def test_a_spacing_beyond_all_detail_is_refused() -> None:
    with pytest.raises(CalibrationError, match="too large for a depth of field"):
        measure(instrument(3.0))


def test_the_trained_range_scales_with_the_depth_of_field() -> None:
    """At half the NA defocus may be four times as large for the same blur."""
    manifest = load_default_manifest()
    assert manifest is not None
    low_um, high_um = half_spacing_range_um(manifest, 0.75)
    assert (low_um, high_um) == pytest.approx((0.4, 1.2))
    assert half_spacing_range_um(manifest, 0.375) == pytest.approx(
        (4 * low_um, 4 * high_um)
    )
