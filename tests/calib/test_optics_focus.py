"""Sharpest plane against the focus of the fusion: predicted, rendered, applied."""

import numpy as np
import pytest

from bench.quick_instrument import PeriodicRenderer, make_instrument, make_specimen
from bifocus.calib.compose_profile import compose_profile
from bifocus.calib.optics_focus import predict_shift_um, refine_focus
from bifocus.calib.step_files import FinishedStep
from bifocus.calib.step_result import StepResult
from bifocus.optics import Objective
from bifocus.records import Measured
from bifocus.sharpness import brenner
from bifocus.transfer import Light

SIDE_PX = 192
NOISE_SD = 0.01


@pytest.mark.parametrize(
    ("na", "light", "least_um"),
    [
        (0.75, Light(spherical_waves=0.25), 0.0),
        (0.75, Light(condenser=0.6, phase_ratio=0.3), 0.1),
        (0.75, Light(condenser=0.7, phase_ratio=0.3, spherical_waves=0.15), 0.1),
        (0.5, Light(condenser=0.6, spherical_waves=0.25), 0.1),
        (0.9, Light(condenser=0.8, phase_ratio=-0.2, spherical_waves=0.25), 0.0),
    ],
)
def test_the_shift_is_that_of_rendered_stacks(
    na: float, light: Light, least_um: float
) -> None:
    """The sharpest of 81 noise-free pictures; predicted from a noisy one beside it."""
    pixel_um = 0.25 * 0.75 / na
    objective = Objective(na=na, wavelength_um=0.53)
    specimen = make_specimen(
        side_px=SIDE_PX, pixel_um=pixel_um, heights_um=(0.0,), seed=3
    )
    renderer = PeriodicRenderer(specimen, objective, light)
    unit_um = 0.53 / na**2
    z_um = np.linspace(-0.6, 0.6, 81) * unit_um
    curve = [brenner(renderer.render(0.0, 0.0, float(z))[..., 0]) for z in z_um]
    best = int(np.argmax(curve))
    near = slice(best - 4, best + 5)
    bend, slope, _ = np.polyfit(z_um[near] - z_um[best], curve[near], 2)
    rendered_um = float(z_um[best]) - float(slope / (2 * bend))
    assert abs(rendered_um) >= least_um
    noise = np.random.default_rng(1).normal(0, NOISE_SD, (SIDE_PX, SIDE_PX))
    picture = renderer.render(0.0, 0.0, rendered_um + 0.1 * unit_um)[..., 0] + noise
    predicted_um = predict_shift_um(
        picture.astype(np.float32),
        NOISE_SD,
        objective=objective,
        light=light,
        pixel_um=pixel_um,
    )
    assert predicted_um == pytest.approx(rendered_um, abs=0.035 * unit_um)


def test_symmetric_light_is_sharpest_in_focus() -> None:
    picture = np.random.default_rng(2).random((128, 128)).astype(np.float32)
    shift_um = predict_shift_um(
        picture,
        NOISE_SD,
        objective=Objective(na=0.75, wavelength_um=0.53),
        light=Light(condenser=0.7),
        pixel_um=0.25,
    )
    assert shift_um == pytest.approx(0.0, abs=1e-3)


def measured(value: float, u: float) -> Measured:
    return Measured(value=value, standard_uncertainty=u, method="a test")


def test_a_significant_shift_is_taken_off_and_both_are_told() -> None:
    sharpest = measured(150.0, 0.03)
    found = refine_focus(sharpest, measured(-0.2, 0.04))
    assert found["focus_um"].value == pytest.approx(150.2)
    assert found["focus_um"].standard_uncertainty == pytest.approx(0.05)
    assert found["focus_sharpest_um"] == sharpest


@pytest.mark.parametrize("shift", [None, measured(0.05, 0.03), measured(0.01, 0.001)])
def test_what_is_not_significant_leaves_the_focus_alone(shift: Measured | None) -> None:
    assert refine_focus(measured(150.0, 0.03), shift) == {}


def finished(name: str, **values: Measured) -> FinishedStep:
    facts = {"x_um": 0.0, "y_um": 0.0} if name == "focus" else {}
    result = StepResult(name=name, values=values, facts=facts)
    return FinishedStep(
        name=name, measured_utc="2026-01-01T00:00:00+00:00", seconds=1.0, result=result
    )


def test_the_profile_has_the_focus_of_the_fusion_and_the_sharpest_plane() -> None:
    specimen = make_specimen(side_px=64, pixel_um=0.25, heights_um=(0.0,), seed=1)
    quick = make_instrument(
        specimen=specimen, light=Light(), na=0.75, seed=1, mechanics={}
    )
    steps = [
        finished("focus", focus_um=measured(150.0, 0.03)),
        finished("optics", focus_shift_um=measured(-0.2, 0.04)),
        finished("spacing", half_spacing_um=measured(0.75, 0.02)),
    ]
    profile = compose_profile(quick.bench, steps, [])
    assert profile.focus_um.value == pytest.approx(150.2)
    assert profile.values["focus_um"] == profile.focus_um
    assert profile.values["focus_sharpest_um"].value == 150.0
