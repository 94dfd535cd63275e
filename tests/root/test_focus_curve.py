"""Best focus from a curve: closed forms, and stacks rendered by a second method."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bifocus.errors import CalibrationError
from bifocus.focus_curve import FocusFit, check_stack, fit_focus
from bifocus.sharpness import measure_sharpness
from tests.imaging import MATCHED, Scope, expose, render_incoherent
from tests.tissue import procedural_tissue

Float64 = npt.NDArray[np.float64]
Z_UM: Float64 = np.arange(-4.0, 4.25, 0.5, dtype=np.float64)


@given(
    centre_um=st.floats(-3.2, 3.2),
    width_um=st.floats(0.4, 3.0),
    height=st.floats(1e-3, 1e6),
)
def test_it_is_exact_on_a_gaussian(
    centre_um: float, width_um: float, height: float
) -> None:
    """The logarithm of a Gaussian is a parabola, whatever its width and height."""
    curve = height * np.exp(-(((Z_UM - centre_um) / width_um) ** 2) / 2)
    fit = fit_focus(Z_UM, curve)
    assert fit.is_peak_inside
    assert fit.focus_um == pytest.approx(centre_um, abs=1e-6)


@given(factor=st.floats(1e-3, 1e3))
def test_a_constant_factor_changes_nothing(factor: float) -> None:
    curve = 1 / (1 + (Z_UM - 0.37) ** 2)
    plain, scaled = fit_focus(Z_UM, curve), fit_focus(Z_UM, factor * curve)
    assert scaled.focus_um == pytest.approx(plain.focus_um, abs=1e-9)
    assert scaled.prominence == pytest.approx(plain.prominence)


@pytest.mark.parametrize(("centre_um", "edge_um"), [(-7.0, -4.0), (7.0, 4.0)])
def test_a_peak_outside_is_told_as_an_edge(centre_um: float, edge_um: float) -> None:
    fit = fit_focus(Z_UM, np.exp(-((Z_UM - centre_um) ** 2) / 20))
    assert not fit.is_peak_inside
    assert fit.focus_um == edge_um


def test_two_equal_planes_put_the_focus_between_them() -> None:
    curve = np.exp(-((Z_UM - 0.25) ** 2))
    assert fit_focus(Z_UM, curve).focus_um == pytest.approx(0.25, abs=1e-9)


@pytest.mark.parametrize(
    "z_um",
    [np.arange(4.0), np.array([0.0, 1, 2, 2, 3]), np.arange(9.0)[::-1]],
    ids=["too few", "twice the same", "downward"],
)
def test_planes_that_are_no_stack_are_refused(z_um: Float64) -> None:
    with pytest.raises(CalibrationError, match=r"at least 5|ascend"):
        fit_focus(z_um, np.ones(z_um.size))


def _fit(prominence: float) -> FocusFit:
    return FocusFit(
        focus_um=0.0, prominence=prominence, is_peak_inside=True, best_index=3
    )


def test_a_flat_stack_is_refused_with_both_numbers() -> None:
    with pytest.raises(CalibrationError, match=r"tile 3.*flat.*1\.12.*at least 1\.3"):
        check_stack(_fit(1.12), texture=5.0, where="tile 3")


def test_a_blank_stack_is_refused_with_both_numbers() -> None:
    with pytest.raises(CalibrationError, match=r"no texture.*0\.07.*at least 0\.5"):
        check_stack(_fit(float("inf")), texture=0.07, where="tile 3")


def test_a_good_stack_passes() -> None:
    check_stack(_fit(4.0), texture=20.0, where="tile 3")


# Half-micrometre planes, as the paper's stacks; the true focus lies anywhere between.
@pytest.mark.parametrize(
    "scope",
    [MATCHED, Scope(paraxial=False, spherical_waves=0.1)],
    ids=["ideal", "aberrated"],
)
def test_rendered_stacks_are_focused_to_a_twentieth(scope: Scope) -> None:
    planes_um: Float64 = np.arange(-2.0, 2.25, 0.5, dtype=np.float64)
    errors_um = []
    for seed, focus_um in enumerate((-0.31, -0.12, 0.0, 0.18, 0.25)):
        tissue, rng = procedural_tissue(128, seed), np.random.default_rng(seed)
        curve = [
            measure_sharpness(
                expose(
                    render_incoherent(tissue, 0.0, float(plane - focus_um), scope), rng
                )
            )[0]
            for plane in planes_um
        ]
        errors_um.append(fit_focus(planes_um, np.array(curve)).focus_um - focus_um)
    # Spherical aberration moves the sharpest plane itself: then only scatter counts.
    bias_um = float(np.mean(errors_um)) if scope.spherical_waves else 0.0
    rmse_um = float(np.sqrt(np.mean((np.array(errors_um) - bias_um) ** 2)))
    assert rmse_um <= 0.05
