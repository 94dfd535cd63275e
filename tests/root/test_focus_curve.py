"""Best focus from a curve: closed forms, and stacks rendered by a second method."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bifocus.errors import CalibrationError
from bifocus.focus_curve import (
    FocusFit,
    check_stack,
    fit_focus,
    fit_gaussian_top,
)
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


@given(centre_um=st.floats(-2.5, 2.5), seed=st.integers(0, 50))
def test_unevenly_spaced_planes_are_as_good(centre_um: float, seed: int) -> None:
    """Stages report whole steps, which need not be those that were planned."""
    rng = np.random.default_rng(seed)
    z_um = Z_UM + rng.uniform(-0.12, 0.12, Z_UM.size)
    curve = 3.0 * np.exp(-((z_um - centre_um) ** 2) / 2)
    fit = fit_focus(z_um, curve)
    # Exact but where the vertex lies beyond the middle between two planes.
    assert fit.focus_um == pytest.approx(centre_um, abs=0.07)
    nearest = float(np.abs(z_um - centre_um).min())
    if nearest < 0.15:
        assert fit.focus_um == pytest.approx(centre_um, abs=1e-6)


@given(
    centre_um=st.floats(-2.0, 2.0),
    sigma_um=st.floats(0.7, 3.0),
    height=st.floats(1e-3, 1e6),
)
def test_the_gaussian_is_exact_on_a_gaussian(
    centre_um: float, sigma_um: float, height: float
) -> None:
    curve = height * np.exp(-(((Z_UM - centre_um) / sigma_um) ** 2) / 2)
    fit = fit_gaussian_top(Z_UM, curve)
    assert fit.focus_um == pytest.approx(centre_um, abs=1e-6)
    assert fit.sigma_um == pytest.approx(sigma_um, rel=1e-6)


def test_the_two_estimators_part_on_a_skewed_curve() -> None:
    """Steeper on the left: the peak stays at 0, the Gaussian leans to the right."""
    z_um: Float64 = np.arange(-3.0, 3.1, 0.2, dtype=np.float64)
    curve = np.exp(-((z_um / np.where(z_um < 0, 0.8, 1.4)) ** 2) / 2)
    assert fit_focus(z_um, curve).focus_um == pytest.approx(0.0, abs=0.06)
    assert fit_gaussian_top(z_um, curve).focus_um > 0.15


def test_too_few_sharp_planes_are_no_gaussian() -> None:
    with pytest.raises(CalibrationError, match="only 1 planes have half"):
        fit_gaussian_top(Z_UM, np.exp(-((Z_UM / 0.2) ** 2)))


@pytest.mark.parametrize(("share", "is_refused"), [(0.2, False), (0.5, True)])
def test_two_peaks_are_refused(share: float, is_refused: bool) -> None:
    """A second Gaussian 6 um away with a share of the first one's height."""
    z_um: Float64 = np.arange(-4.0, 10.25, 0.5, dtype=np.float64)
    curve = np.exp(-(z_um**2) / 1.5) + share * np.exp(-((z_um - 6) ** 2) / 1.5) + 0.01
    fit = fit_focus(z_um, curve)
    assert fit.rival == pytest.approx(share, abs=0.02)
    assert fit.rival_um == 6.0
    if is_refused:
        with pytest.raises(CalibrationError, match=r"two peaks, at 0\.0 and 6\.0 um"):
            check_stack(fit, texture=5.0, where="tile 3")
    else:
        check_stack(fit, texture=5.0, where="tile 3")
