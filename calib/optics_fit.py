"""The optics under which a z-stack is most likely, with uncertainties that are true.

NA, primary spherical aberration and the scale of Z are fitted together; then condenser
and phase as well, which stay only if they make the stack much likelier. Both shapes of
the pupil are tried. What is taken as given: the wavelengths and the pixel size of the
instrument file. They set the length across the picture; along Z it is the stage's own
micrometre times `z_scale`, which is free because a fit that trusts a stage 5 % wrong
would put a third of that into the NA.

The heights of the planes are free as well (`optics_planes`), before light is chosen:
planes that scatter look like phase. `optics_uncertainty` says how well all of it is
known.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bifocus.calib.optics_planes import PlaneFit, fit_planes
from bifocus.calib.optics_search import (
    Pupil,
    search_optics,
    start_search,
)
from bifocus.calib.optics_uncertainty import estimate_uncertainty
from bifocus.calib.stack_evidence import StackEvidence
from bifocus.calib.stack_likelihood import Fit, StackOptics
from bifocus.config import Optics
from bifocus.errors import CalibrationError
from bifocus.transfer import Light

Float64 = npt.NDArray[np.float64]

NAMES = ("na", "spherical_waves", "z_scale", "condenser", "phase_ratio")
# Where partially coherent light is looked for first.
_CONDENSER, _PHASE = 0.7, 0.3
# A condenser nearer to 1 is that of incoherent light, and phase cannot be told.
_MOST_CONDENSER = 0.98
# Partial coherence must make the stack so much likelier, in nats for each block: with
# incoherent light it gained 9 at most, a condenser of 0.95 gains 40 (virtual scanners).
_WORTH_NATS = 11.0
# So far off the file's NA, or the drive's um, no instrument is that has passed so far.
_FAR = 0.12
_LEAST_BLOCKS = 3
_PUPILS: tuple[Pupil, Pupil] = ("paraxial", "exact")
# How much likelier a block is at its focus than elsewhere: glass 1 to 2 nats, tissue
# 3000, tissue of a tenth of its contrast 30 to 80, of a thirtieth 2.
_BLANK_NATS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OpticsFit:
    """The fitted optics of an instrument.

    Attributes
    ----------
    values, u
        By the names of `NAMES`, with standard uncertainties; condenser and phase have
        no uncertainty where light is incoherent.
    light
        The same as `Light`.
    optics
        The same as the likelihood takes it.
    fit
        Cost and focus of each block and colour.
    chromatic_um, chromatic_u_um
        Focus of each colour over green's.
    by_colour
        NA and spherical aberration of each colour for itself, shape (3, 2).
    gain_nats
        By how much partially coherent light is likelier than incoherent.
    plane_um
        Where the planes were found, in the stage frame, shape (planes,).
    scatter_um
        Standard deviation of that about where they were sent.
    """

    values: dict[str, float]
    u: dict[str, float]
    light: Light
    optics: StackOptics
    fit: Fit
    chromatic_um: tuple[float, float, float]
    chromatic_u_um: tuple[float, float, float]
    by_colour: Float64
    gain_nats: float
    plane_um: Float64
    scatter_um: float

    @property
    def focus_um(self) -> float:
        """Green's focus in the stage frame: the mean of the blocks."""
        return _weighted_mean(self.fit.focus_um[:, 1], self.fit.focus_sd_um[:, 1])[0]

    @property
    def focus_spread_um(self) -> float:
        """Standard deviation of green's focus over the blocks: relief."""
        return float(self.fit.focus_um[:, 1].std())


def fit_optics(evidence: StackEvidence, nominal: Optics) -> OpticsFit:
    """Return the likeliest optics.

    Parameters
    ----------
    evidence
        A stack that reaches some depths of field to both sides of focus, three blocks
        or more.
    nominal
        What the instrument file says: where the search starts, wavelengths, pixel size.

    Raises
    ------
    CalibrationError
        If fewer than three blocks show texture.
    """
    evidence = _with_texture(evidence, nominal)
    plain = fit_planes(
        min(
            (search_optics(evidence, nominal, pupil, ()) for pupil in _PUPILS),
            key=lambda one: one.cost,
        ),
        evidence.z_um,
    )
    # Only light that pays on the likelier pupil is tried on the other one; but optics
    # far from the file's are more likely a wrong model than a wrong instrument.
    first = plain.search.pupil
    lit = _light_up(evidence, plain, first)
    is_far = np.abs(plain.search.point[[0, 2]] - 1).max() > _FAR
    if is_far or _pays(lit, plain):
        second = _PUPILS[1 - _PUPILS.index(first)]
        lit = _likelier(lit, _light_up(evidence, plain, second))
    best = lit if _pays(lit, plain) else plain
    return _describe(best, plain.cost - lit.cost)


def _light_up(evidence: StackEvidence, plain: PlaneFit, pupil: Pupil) -> PlaneFit:
    """Return the likeliest optics with partially coherent light, on one pupil.

    Planes that scatter look like phase, and phase like planes that scatter: the search
    starts from where the planes were sent, and from where they are without phase.
    """
    fits = [
        fit_planes(
            search_optics(start, plain.search.nominal, pupil, (_CONDENSER, _PHASE)),
            evidence.z_um,
        )
        for start in (evidence, plain.search.evidence)
    ]
    return _likelier(*fits)


def _pays(lit: PlaneFit, plain: PlaneFit) -> bool:
    """Return whether partially coherent light is worth its two parameters."""
    worth = _WORTH_NATS * plain.search.evidence.cross.shape[0]
    is_coherent = lit.search.point[3] <= _MOST_CONDENSER
    return plain.cost - lit.cost > worth and bool(is_coherent)


def _likelier(one: PlaneFit, other: PlaneFit) -> PlaneFit:
    return min(one, other, key=lambda fit: fit.cost)


def _with_texture(evidence: StackEvidence, nominal: Optics) -> StackEvidence:
    """Return the blocks whose texture shows a focus at all."""
    depth_nats = start_search(evidence, nominal, "paraxial", ()).depth_nats
    kept = np.flatnonzero(depth_nats > _BLANK_NATS)
    if kept.size < _LEAST_BLOCKS:
        msg = (
            f"only {kept.size} of {depth_nats.size} parts of the field show enough "
            f"texture for the optics, {_LEAST_BLOCKS} are needed; choose a region with "
            "denser tissue (--region), or raise the light"
        )
        raise CalibrationError(msg)
    return dataclasses.replace(evidence, cross=evidence.cross[kept])


def _describe(planes: PlaneFit, gain_nats: float) -> OpticsFit:
    search = planes.search
    point, nominal = search.point, search.nominal
    fit = search.fit_at(point)
    u, by_colour = estimate_uncertainty(planes)
    scale = np.array([nominal.na, 1, 1, 1, 1])[: point.size]
    optics = search.optics_at(point)
    chromatic_um, chromatic_u_um = _chromatic(fit)
    names = NAMES[: point.size]
    return OpticsFit(
        values=dict(zip(names, (point * scale).tolist(), strict=True)),
        u=dict(zip(names, (u * scale).tolist(), strict=True)),
        light=optics.light,
        optics=optics,
        fit=fit,
        chromatic_um=chromatic_um,
        chromatic_u_um=chromatic_u_um,
        by_colour=by_colour * np.array([nominal.na, 1.0]),
        gain_nats=gain_nats,
        plane_um=search.evidence.z_um,
        scatter_um=planes.scatter_um,
    )


def _chromatic(
    fit: Fit,
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Return how far each colour's focus lies over green's, and the uncertainties."""
    found = []
    for colour in (0, 2):
        shift_um = fit.focus_um[:, colour] - fit.focus_um[:, 1]
        sd_um = np.hypot(fit.focus_sd_um[:, colour], fit.focus_sd_um[:, 1])
        found.append(_weighted_mean(shift_um, sd_um))
    (red, red_u), (blue, blue_u) = found
    return (red, 0.0, blue), (red_u, 0.0, blue_u)


def _weighted_mean(values: Float64, sd: Float64) -> tuple[float, float]:
    """Return the mean weighted by 1 / sd^2, and its uncertainty from the scatter."""
    weight = 1 / np.maximum(sd, 1e-9) ** 2
    weight /= weight.sum()
    mean = float(weight @ values)
    effective = 1 / float((weight**2).sum())
    variance = float(weight @ (values - mean) ** 2) / max(effective - 1, 0.5)
    return mean, variance**0.5
