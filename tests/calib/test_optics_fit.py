"""Optics fitted to stacks that `bifocus.transfer` did not render, and the read-out."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pytest

from bifocus.calib.offset_readout import fit_readout
from bifocus.calib.optics_fit import OpticsFit, fit_optics
from bifocus.calib.stack_evidence import gather_evidence, plan_blocks
from bifocus.config import Optics
from bifocus.errors import CalibrationError
from bifocus.focal_offset import PairOptics
from bifocus.optics import Objective, depth_of_field_um
from bifocus.transfer import INCOHERENT
from tests.imaging import (
    Scope,
    UInt8,
    expose,
    render_incoherent,
    render_partially_coherent,
)
from tests.tissue import procedural_tissue

Float64 = npt.NDArray[np.float64]

NOMINAL = Optics(na=0.75, pixel_um=0.25)
DOF_UM = depth_of_field_um(Objective(na=0.75, wavelength_um=0.53), 0.25)
# Focus lies 0.1 um above the middle plane, so that nothing is symmetric by chance.
FOCUS_UM = 0.1
SIZE = 256


def planes_um(scale: float = 1.0) -> Float64:
    return scale * DOF_UM / 2 * np.arange(-6, 7, dtype=np.float64)


@lru_cache(maxsize=8)
def shoot(scope: Scope, coherent: bool, z_scale: float = 1.0) -> tuple[UInt8, ...]:
    """A stack whose true heights are the stage's times `z_scale`."""
    tissue = procedural_tissue(SIZE, 7)
    rng = np.random.default_rng(2)
    shots = []
    for z_um in planes_um(z_scale).tolist():
        if coherent:
            light = render_partially_coherent(
                tissue, z_scale * FOCUS_UM - z_um, scope, n_sources=48
            )
        else:
            light = render_incoherent(tissue, z_scale * FOCUS_UM, z_um, scope)
        shots.append(expose(light, rng))
    return tuple(shots)


def fit(shots: tuple[UInt8, ...], optics: Optics = NOMINAL) -> OpticsFit:
    evidence = gather_evidence(
        shots,
        planes_um(),
        tone_curve="linear",
        shifts_px=np.zeros((len(shots), 2)),
        layout=plan_blocks(shots[len(shots) // 2]),
    )
    return fit_optics(evidence, optics)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("na", "spherical_waves", "z_scale"), [(0.75, 0.2, 1.0), (0.69, -0.15, 1.05)]
)
def test_it_finds_na_aberration_and_the_scale_of_z(
    na: float, spherical_waves: float, z_scale: float
) -> None:
    """Against a pupil sampled by FFT."""
    scope = Scope(na=na, spherical_waves=spherical_waves, paraxial=True)
    found = fit(shoot(scope, False, z_scale))
    assert found.values["na"] == pytest.approx(na, rel=0.02)
    assert found.values["spherical_waves"] == pytest.approx(spherical_waves, abs=0.03)
    assert found.values["z_scale"] == pytest.approx(z_scale, rel=0.03)
    assert found.focus_um == pytest.approx(FOCUS_UM, abs=0.03)
    assert found.light.condenser == 1.0
    truth = {"na": na, "spherical_waves": spherical_waves, "z_scale": z_scale}
    for name, true in truth.items():
        assert abs(found.values[name] - true) < 3 * found.u[name]


@pytest.mark.slow
def test_it_finds_the_condenser_and_the_phase() -> None:
    """Against Abbe's sum over 48 points of the condenser, with phase in the object."""
    scope = Scope(spherical_waves=0.1, condenser=0.6, object_phase_rad=0.15)
    found = fit(shoot(scope, True))
    assert found.light.pupil == "exact"
    assert found.values["na"] == pytest.approx(0.75, rel=0.03)
    assert found.values["condenser"] == pytest.approx(0.6, abs=0.05)
    assert found.values["spherical_waves"] == pytest.approx(0.1, abs=0.04)
    # A transmission T has the amplitude sqrt(T): the phase 2 p (1 - T) is 2 p per unit
    # of absorption, and `phase_ratio` twice that.
    assert found.values["phase_ratio"] == pytest.approx(4 * 0.15, abs=0.25)


def test_noise_alone_has_no_optics() -> None:
    rng = np.random.default_rng(0)
    glass = np.ones((SIZE, SIZE, 3))
    shots = tuple(expose(glass, rng) for _ in planes_um())
    with pytest.raises(CalibrationError, match="show enough texture"):
        fit(shots)


def pair_optics() -> PairOptics:
    return PairOptics(
        na=0.75, pixel_um=0.25, half_spacing_um=DOF_UM / 2, light=INCOHERENT
    )


@pytest.mark.slow
def test_the_read_out_of_matched_optics_is_true() -> None:
    shots = shoot(Scope(paraxial=True), False)
    fitted = fit_readout(
        shots,
        planes_um(),
        FOCUS_UM,
        0.01,
        apart=2,
        optics=pair_optics(),
        tone_curve="linear",
    )
    assert fitted.gain == pytest.approx(1.0, abs=0.04)
    assert fitted.bias_um == pytest.approx(0.0, abs=0.03)
    assert fitted.readout.range_um > 2 * DOF_UM
    assert np.all(np.diff(fitted.true_um) > 0)


@pytest.mark.slow
def test_a_wrong_na_shows_as_gain_and_a_wrong_focus_as_bias() -> None:
    """A plane at focus F + 0.2 counts as F: all offsets are 0.2 too large."""
    shots = shoot(Scope(paraxial=True), False)
    wrong = PairOptics(
        na=0.65, pixel_um=0.25, half_spacing_um=DOF_UM / 2, light=INCOHERENT
    )
    shifted = fit_readout(
        shots,
        planes_um(),
        FOCUS_UM - 0.2,
        0.01,
        apart=2,
        optics=pair_optics(),
        tone_curve="linear",
    )
    assert shifted.bias_um == pytest.approx(0.2, abs=0.03)
    assert shifted.readout.bias_um == shifted.bias_um
    stretched = fit_readout(
        shots,
        planes_um(),
        FOCUS_UM,
        0.01,
        apart=2,
        optics=wrong,
        tone_curve="linear",
    )
    # less NA blurs less: the same blur is taken for more defocus
    assert stretched.gain > 1.05


def test_too_few_planes_are_refused() -> None:
    blank = np.full((64, 64, 3), 200, np.uint8)
    with pytest.raises(CalibrationError, match="5 are needed"):
        fit_readout(
            [blank] * 6,
            np.arange(6, dtype=np.float64),
            3.0,
            0.1,
            apart=2,
            optics=pair_optics(),
            tone_curve="linear",
        )
