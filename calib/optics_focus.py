"""How far the sharpest plane lies beside the focus of the fusion.

Fusion counts heights from where tissue would be in focus without aberration: n = 0 of
`bifocus.focal_offset`. With spherical aberration in partially coherent light, and with
phase in the tissue, pictures are sharpest tenths of a micrometre beside it. With optics
and the power spectrum of the tissue known, sharpness at any height is

    B(z) = sum over rings of  n S(f) h(f, z)^2 w(f),   w(f) = 2 - 2 J0(4 pi f),

w being what Brenner's gradient over two pixels makes of a frequency f in cycles per
pixel, of all directions. Where light is symmetric about focus, it is sharpest there.
"""

import numpy as np
import numpy.typing as npt
from scipy.special import j0

from bifocus.calib.optics_fit import OpticsFit
from bifocus.calib.spacing_prediction import measure_power
from bifocus.calib.uncertainty import root_sum_square
from bifocus.optics import Objective
from bifocus.records import FloatImage, Measured, UInt8Image
from bifocus.sharpness import measure_sharpness, to_gray
from bifocus.transfer import Light, compute_transfer

Float64 = npt.NDArray[np.float64]

# Heights searched, in units of defocus, and their number.
_REACH, _COUNT = 1.5, 301
# Less than this is nobody's loss, and within what any focus is known to.
_LEAST_UM = 0.02
_SIGNIFICANT = 2.0
# Steps of differences.
_STEPS = {"spherical_waves": 0.01, "phase_ratio": 0.02, "condenser": -0.01}


def predict_shift_um(
    focused: FloatImage,
    noise_sd: float,
    *,
    objective: Objective,
    light: Light,
    pixel_um: float,
) -> float:
    """Return the height of the sharpest plane over that of n = 0, in true um.

    Parameters
    ----------
    focused
        Grey picture near the focus as shares of full scale, shape (rows, columns).
    noise_sd
        Of one pixel, in the same unit.
    objective, light
        Of its colour.
    """
    tissue = measure_power(
        focused, noise_sd, objective=objective, light=light, pixel_um=pixel_um
    )
    unit_um = objective.refractive_index * objective.wavelength_um / objective.na**2
    z_um = np.asarray(np.linspace(-_REACH, _REACH, _COUNT), dtype=np.float64) * unit_um
    # A plane at z sees the tissue at -z over itself.
    passed = compute_transfer(objective, light, tissue.frequency_per_um, -z_um)
    weight = 2 - 2 * j0(4 * np.pi * tissue.frequency_per_um * pixel_um)
    sharpness = (passed.astype(np.float64) ** 2) @ (
        tissue.count * tissue.signal * weight
    )
    best = int(np.clip(np.argmax(sharpness), 3, _COUNT - 4))
    near = slice(best - 3, best + 4)
    bend, slope, _ = np.polyfit(z_um[near] - z_um[best], sharpness[near], 2)
    return float(z_um[best]) - float(slope / (2 * bend))


def measure_shift(picture: UInt8Image, fit: OpticsFit, pixel_um: float) -> Measured:
    """Return the same in the stage's um, with its uncertainty.

    Parameters
    ----------
    picture
        The sharpest plane of the stack, (rows, columns, 3).
    fit
        The optics found.
    """
    gray = to_gray(picture) / np.float32(255)
    noise_floor = measure_sharpness(picture)[1]
    noise_sd = max((noise_floor / 2) ** 0.5, 0.3) / 255

    def shift_um(**changed: float) -> float:
        known = {name: getattr(fit.light, name) for name in _STEPS}
        true_um = predict_shift_um(
            gray,
            noise_sd,
            objective=fit.optics.objectives[1],
            light=Light(pupil=fit.light.pupil, **{**known, **changed}),
            pixel_um=pixel_um,
        )
        return true_um / fit.values["z_scale"]

    plain_um = shift_um()
    parts_um = {
        name: (shift_um(**{name: getattr(fit.light, name) + step}) - plain_um)
        * (fit.u[name] / step)
        for name, step in _STEPS.items()
        if name in fit.u
    }
    # Aberration and phase trade against each other: their errors come together.
    together_um = sum(abs(parts_um.get(name, 0.0)) for name in list(_STEPS)[:2])
    return Measured(
        value=plain_um,
        standard_uncertainty=root_sum_square(
            [together_um, parts_um.get("condenser", 0.0)]
        ),
        method="sharpest plane over n = 0 of the fusion, as the optics found have it",
    )


def refine_focus(sharpest: Measured, shift: Measured | None) -> dict[str, Measured]:
    """Return F as the fusion means it, and the sharpest plane, under their keys.

    Nothing where the shift is not significant: then the sharpest plane is F.

    Parameters
    ----------
    sharpest
        `focus_um` of the step `focus`.
    shift
        `focus_shift_um` of the step `optics`; None if that has not been measured.
    """
    if shift is None:
        return {}
    u_um = shift.standard_uncertainty
    if abs(shift.value) <= max(_SIGNIFICANT * u_um, _LEAST_UM):
        return {}
    return {
        "focus_sharpest_um": sharpest,
        "focus_um": Measured(
            value=sharpest.value - shift.value,
            standard_uncertainty=root_sum_square([sharpest.standard_uncertainty, u_um]),
            method=(
                f"n = 0 of the fusion, {-shift.value:+.3f} um over the sharpest plane "
                f"for aberration and phase (step optics); {sharpest.method}"
            ),
        ),
    }
