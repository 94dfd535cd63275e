"""What the step `optics` tells: its values, warnings, plots and pictures."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from bifocus.calib.focus_search import optics_dof_um
from bifocus.calib.offset_readout import ReadoutFit
from bifocus.calib.optics_fit import OpticsFit
from bifocus.calib.optics_stack import OpticsStack
from bifocus.calib.step_result import Plot, Series
from bifocus.config import Optics
from bifocus.optics import Objective
from bifocus.records import Measured, UInt8Image
from bifocus.transfer import INCOHERENT, compute_transfer

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

# Where the condenser cannot be told from one that fills the pupil.
_CONDENSER_U = 0.03
# Beyond this share off the file's the NA is warned of.
_NA_WARNING = 0.10
_SPHERICAL_WARNING = 0.15


def optics_plots(
    optics: Optics, stack: OpticsStack, fit: OpticsFit
) -> tuple[Plot, ...]:
    """Draw the stack's sharpness, and the transfer found beside the nominal one."""
    sharpness = Plot(
        title="The stack that the optics were read from",
        x_label="z [um]",
        y_label="sharpness (Brenner) [levels^2]",
        series=(
            Series(name="planes", x=_numbers(stack.z_um), y=_numbers(stack.sharpness)),
        ),
        marks=(("focus", fit.focus_um),),
    )
    nominal = Objective(
        na=optics.na,
        wavelength_um=optics.wavelengths_um[1],
        refractive_index=optics.refractive_index,
    )
    found = fit.optics.objectives[1]
    highest = min(0.5 / optics.pixel_um, nominal.cutoff_per_um)
    frequency: Float64 = np.linspace(0, highest, 60, dtype=np.float64)
    dof_um = optics_dof_um(optics)
    series = []
    for name, z_um in (("in focus", 0.0), ("above", dof_um), ("below", -dof_um)):
        depth = np.array([z_um * fit.values["z_scale"]])
        values = compute_transfer(found, fit.light, frequency, depth)[0]
        series.append(
            Series(
                name=f"found, {name}",
                x=_numbers(frequency),
                y=_numbers(values),
                style="line",
            )
        )
    for name, z_um in (("in focus", 0.0), ("off focus", dof_um)):
        values = compute_transfer(nominal, INCOHERENT, frequency, np.array([z_um]))[0]
        series.append(
            Series(
                name=f"nominal, {name}",
                x=_numbers(frequency),
                y=_numbers(values),
                style="line",
            )
        )
    transfer = Plot(
        title=f"Transfer of green light, in focus and {dof_um:.2f} um off",
        x_label="spatial frequency [1/um]",
        y_label="transfer",
        series=tuple(series),
    )
    return sharpness, transfer


def readout_plot(readout: ReadoutFit) -> Plot:
    """Draw the offsets that pairs of the stack show against the true ones."""
    ends = np.array([readout.true_um.min(), readout.true_um.max()])
    return Plot(
        title="Focal offset read from pairs of the stack",
        x_label="true offset [um]",
        y_label="offset as read [um]",
        series=(
            Series(
                name="pairs",
                x=_numbers(readout.true_um),
                y=_numbers(readout.read_um),
                u=_numbers(readout.sd_um),
            ),
            Series(
                name=f"{readout.gain:.3f} true {readout.bias_um:+.3f} um",
                x=_numbers(ends),
                y=_numbers(readout.gain * ends + readout.bias_um),
                style="line",
            ),
        ),
        marks=(
            ("range", -readout.readout.range_um),
            ("range", readout.readout.range_um),
        ),
    )


def optics_pictures(
    stack: OpticsStack, focus_um: float, dof_um: float
) -> dict[str, UInt8Image]:
    """Return the planes in focus and about a depth of field to both sides."""
    pictures = {}
    for name, shift_um in (("below", -dof_um), ("in focus", 0.0), ("above", dof_um)):
        number = int(np.abs(stack.z_um - focus_um - shift_um).argmin())
        pictures[f"{name}, z {stack.z_um[number]:.2f} um"] = stack.planes[number]
    return pictures


def _numbers(values: Float64 | Float32) -> tuple[float, ...]:
    return tuple(round(float(value), 5) for value in values)


def optics_values(
    optics: Optics, stack: OpticsStack, fit: OpticsFit, readout: ReadoutFit
) -> dict[str, Measured]:
    """Return what the step has measured, under its public names."""
    how = (
        f"likeliest optics of {len(stack.planes)} planes, "
        f"{'exact' if fit.light.pupil == 'exact' else 'paraxial'} pupil; wavelengths "
        "and pixel_um as the file says"
    )
    units = {"spherical_waves": "waves"}
    values = {
        name: Measured(
            value=value,
            standard_uncertainty=fit.u[name],
            method=how,
            unit=units.get(name, ""),
        )
        for name, value in fit.values.items()
    }
    if "condenser" not in values:
        values["condenser"] = Measured(
            value=1.0,
            standard_uncertainty=_CONDENSER_U,
            method="partially coherent light does not explain the stack better",
            unit="",
        )
    for name, colour in (("r", 0), ("b", 2)):
        values[f"chromatic_{name}_um"] = Measured(
            value=fit.chromatic_um[colour],
            standard_uncertainty=fit.chromatic_u_um[colour],
            method="its focus less green's, mean of the blocks",
        )
    pairs = f"{readout.true_um.size} pairs of the stack's planes"
    values["offset_gain"] = Measured(
        value=readout.gain, standard_uncertainty=readout.gain_u, method=pairs, unit=""
    )
    values["offset_bias_um"] = Measured(
        value=readout.bias_um, standard_uncertainty=readout.bias_u_um, method=pairs
    )
    values["focus_asymmetry"] = _asymmetry(optics, stack, fit.focus_um)
    return values


def _asymmetry(optics: Optics, stack: OpticsStack, focus_um: float) -> Measured:
    """Compare the sharpness a depth of field above focus and below."""
    dof_um = optics_dof_um(optics)
    step_um = float(stack.z_um[1] - stack.z_um[0])

    def share(shift_um: float) -> float:
        places_um = focus_um + shift_um + np.array([dof_um, -dof_um])
        above, below = np.interp(places_um, stack.z_um, stack.sharpness)
        return float((above - below) / (above + below))

    # The focus is known to a small part of a step; a tenth stands for Z scatter too.
    change = abs(share(0.1 * step_um) - share(-0.1 * step_um)) / 2
    return Measured(
        value=share(0.0),
        standard_uncertainty=change,
        method=f"sharpness {dof_um:.2f} um above focus and below: difference over sum",
        unit="",
    )


def optics_warnings(
    optics: Optics, fit: OpticsFit, readout: ReadoutFit
) -> Iterator[str]:
    """Yield what a technician should look after."""
    nominal, na = optics.na, fit.values["na"]
    if abs(na / nominal - 1) > _NA_WARNING:
        yield (
            f"the objective works at NA {na:.3f}, the file says {nominal}: stopped "
            "down, or another one? Correct optics.na"
        )
    scale, u = fit.values["z_scale"], fit.u["z_scale"]
    if abs(scale - 1) > max(3 * u, 0.03):
        yield (
            f"focus moves {scale:.3f} +- {2 * u:.3f} um for each um of the stage: its "
            "steps per micrometre, optics.pixel_um or the wavelengths are off"
        )
    waves = fit.values["spherical_waves"]
    if abs(waves) > _SPHERICAL_WARNING:
        yield (
            f"{waves:+.2f} waves of spherical aberration: check the cover glass "
            "(thickness, correction collar) and the immersion"
        )
    if not 0.8 <= readout.gain <= 1.25:
        yield f"focal offsets are read {readout.gain:.2f} times too large; corrected"
