"""The optics under which a z-stack is most likely, with uncertainties that are true.

NA, primary spherical aberration and the scale of Z are fitted together; then condenser
and phase as well, which stay only if they make the stack much likelier. Both shapes of
the pupil are tried. What is taken as given: the wavelengths and the pixel size of the
instrument file. They set the length across the picture; along Z it is the stage's own
micrometre times `z_scale`, which is free because a fit that trusts a stage 5 % wrong
would put a third of that into the NA.

Uncertainty: blocks of the field, and groups of planes, are left out in turn (to first
order: one Newton step), so that relief, texture and Z scatter count and no curvature
alone is believed. On top comes what the model itself misses.
"""

import dataclasses
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from bifocus.calib.stack_evidence import StackEvidence, select_planes
from bifocus.calib.stack_likelihood import Fit, StackOptics, compute_costs, fit_foci
from bifocus.calib.uncertainty import student_factor
from bifocus.config import Optics
from bifocus.errors import CalibrationError
from bifocus.optics import Objective
from bifocus.transfer import Light

Float64 = npt.NDArray[np.float64]
Pupil = Literal["paraxial", "exact"]

NAMES = ("na", "spherical_waves", "z_scale", "condenser", "phase_ratio")
# Step of finite differences: small against what the data tell, large against rounding.
_STEPS = np.array([0.004, 0.004, 0.004, 0.01, 0.02])
# Natural length of each for the search.
_SCALES = np.array([0.02, 0.02, 0.02, 0.05, 0.1])
_BOUNDS = ((0.55, 1.6), (-0.6, 0.6), (0.7, 1.4), (0.3, 1.0), (-2.0, 2.0))
# Where partially coherent light is looked for first.
_CONDENSER, _PHASE = 0.7, 0.3
# A condenser nearer to 1 is that of incoherent light, and phase cannot be told.
_MOST_CONDENSER = 0.98
# Partial coherence must make the stack so much likelier, in nats for each block: with
# incoherent light it never gained 1, a condenser of 0.95 gains 40 (virtual scanners).
_WORTH_NATS = 10.0
# What windowed blocks and the model itself add (k = 1): 16 virtual instruments of NA
# 0.4 to 0.95 gave NA within 1 %, the scale of Z within 1.7 %, spherical aberration
# within 0.02 waves (0.027 at NA 0.95). Tissue 0.6 and 1 um thick gives an NA 2 and 5 %
# lower: that is the one which explains its pictures, not the objective's.
_MODEL_U = np.array([0.006, 0.008, 0.010, 0.006, 0.02])
_PLANE_GROUPS = 5
_LEAST_BLOCKS = 3
# How much likelier a block is at its focus than elsewhere: glass 1 to 2 nats, tissue
# 3000, tissue of a tenth of its contrast 30 to 80, of a thirtieth 2.
_BLANK_NATS = 20.0
# Unit of defocus n lambda / NA^2 in which foci are searched, and stepped.
_FOCUS_STEP_UNITS = 0.05
_SEARCH_STEP_UNITS = 0.15
# Damped Newton: steps at most so long (in _SCALES), and ended by so small a gain.
_LONGEST_STEP = 4.0
_FIRST_DAMPING, _MOST_DAMPING = 0.05, 1e4
_MOST_STEPS = 30
_SETTLED_NATS = 0.3


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

    @property
    def focus_um(self) -> float:
        """Green's focus in the stage frame: the mean of the blocks."""
        return _weighted_mean(self.fit.focus_um[:, 1], self.fit.focus_sd_um[:, 1])[0]

    @property
    def focus_spread_um(self) -> float:
        """Standard deviation of green's focus over the blocks: relief."""
        return float(self.fit.focus_um[:, 1].std())


@dataclass(slots=True)
class _Search:
    """One model of the stack, and where its search has come to."""

    evidence: StackEvidence
    nominal: Optics
    pupil: Pupil
    point: Float64
    focus_um: Float64
    depth_nats: Float64

    @property
    def unit_um(self) -> float:
        """Natural unit of defocus."""
        nominal = self.nominal
        return nominal.refractive_index * nominal.wavelengths_um[1] / nominal.na**2

    def optics_at(self, point: Float64) -> StackOptics:
        nominal, size = self.nominal, point.size
        light = Light(
            condenser=float(point[3]) if size > 3 else 1.0,
            phase_ratio=float(point[4]) if size > 3 else 0.0,
            spherical_waves=float(point[1]),
            pupil=self.pupil,
        )
        objectives = tuple(
            Objective(
                na=float(point[0]) * nominal.na,
                wavelength_um=wavelength_um,
                refractive_index=nominal.refractive_index,
            )
            for wavelength_um in nominal.wavelengths_um
        )
        return StackOptics(
            objectives=objectives,
            light=light,
            pixel_um=nominal.pixel_um,
            z_scale=float(point[2]),
        )

    def fit_at(self, point: Float64, evidence: StackEvidence | None = None) -> Fit:
        return fit_foci(
            evidence or self.evidence,
            self.optics_at(point),
            self.focus_um,
            _FOCUS_STEP_UNITS * self.unit_um,
        )

    def bounds(self) -> list[tuple[float, float]]:
        """NA is in units of the nominal one, and must stay below the index."""
        bounds = list(_BOUNDS[: self.point.size])
        most = 0.995 * self.nominal.refractive_index / self.nominal.na
        bounds[0] = (bounds[0][0], min(bounds[0][1], most))
        return bounds

    def look_for_foci(self) -> None:
        """Find each block's and colour's focus within the stack, coarsely."""
        z_um = self.evidence.z_um
        step_um = _SEARCH_STEP_UNITS * self.unit_um
        grid = np.arange(z_um[0] + step_um, z_um[-1] - step_um, step_um)
        shape = (*self.evidence.cross.shape[:2], grid.size)
        tried = np.ascontiguousarray(np.broadcast_to(grid, shape))
        costs = compute_costs(self.evidence, self.optics_at(self.point), tried)
        self.focus_um = grid[costs.argmin(axis=-1)]
        self.depth_nats = (np.median(costs, axis=-1) - costs.min(axis=-1)).sum(axis=1)

    def descend(self) -> None:
        """Go to the least cost by damped Newton steps within the bounds."""
        scale = _SCALES[: self.point.size]
        low, high = np.array(self.bounds()).T
        damping = _FIRST_DAMPING
        for _ in range(_MOST_STEPS):
            fit = self.fit_at(self.point)
            self.focus_um = fit.focus_um
            cost = float(self.fit_at(self.point).cost.sum())
            gradient, hessian = _derivatives(self, self.evidence)
            slope = gradient.sum(axis=(1, 2)) * scale
            bend = hessian.sum(axis=(2, 3)) * np.outer(scale, scale)
            held = (self.point <= low) & (slope > 0)
            held |= (self.point >= high) & (slope < 0)
            gain = -1.0
            while gain < 0 and damping < _MOST_DAMPING:
                move = _newton_step(slope, bend, ~held, damping) * scale
                tried = np.clip(self.point + move, low, high)
                gain = cost - float(self.fit_at(tried).cost.sum())
                damping = damping / 4 if gain >= 0 else 4 * damping + 0.5
            if gain < 0:
                break
            self.point = tried
            if gain < _SETTLED_NATS:
                break


def _newton_step(
    slope: Float64, bend: Float64, free: npt.NDArray[np.bool_], damping: float
) -> Float64:
    """Return a step downhill of the free parameters; a saddle is left downhill too."""
    step = np.zeros(slope.size)
    if not free.any():
        return step
    values, vectors = np.linalg.eigh(bend[np.ix_(free, free)])
    values = np.abs(values)
    values = np.maximum(values, 1e-4 * values.max()) + damping * np.median(values)
    step[free] = -vectors @ (vectors.T @ slope[free] / values)
    longest = float(np.abs(step).max())
    return step * min(1.0, _LONGEST_STEP / max(longest, 1e-12))


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
    pupils: tuple[Pupil, Pupil] = ("paraxial", "exact")
    plain = min(
        (_search(evidence, nominal, pupil, ()) for pupil in pupils), key=_cost_of
    )
    # Only light that pays on the likelier pupil is tried on the other one.
    light = (_CONDENSER, _PHASE)
    lit = _search(evidence, nominal, plain.pupil, light)
    gain = _cost_of(plain) - _cost_of(lit)
    worth = _WORTH_NATS * evidence.cross.shape[0]
    if gain <= worth or lit.point[3] > _MOST_CONDENSER:
        return _describe(plain, gain)
    other = pupils[1 - pupils.index(plain.pupil)]
    rival = _search(evidence, nominal, other, light)
    best = min((lit, rival), key=_cost_of)
    return _describe(best, _cost_of(plain) - _cost_of(best))


def _with_texture(evidence: StackEvidence, nominal: Optics) -> StackEvidence:
    """Return the blocks whose texture shows a focus at all."""
    depth_nats = _start(evidence, nominal, "paraxial", ()).depth_nats
    kept = np.flatnonzero(depth_nats > _BLANK_NATS)
    if kept.size < _LEAST_BLOCKS:
        msg = (
            f"only {kept.size} of {depth_nats.size} parts of the field show enough "
            f"texture for the optics, {_LEAST_BLOCKS} are needed; choose a region with "
            "denser tissue (--region), or raise the light"
        )
        raise CalibrationError(msg)
    return dataclasses.replace(evidence, cross=evidence.cross[kept])


def _search(
    evidence: StackEvidence,
    nominal: Optics,
    pupil: Pupil,
    light: tuple[float, ...],
) -> _Search:
    search = _start(evidence, nominal, pupil, light)
    search.descend()
    return search


def _start(
    evidence: StackEvidence,
    nominal: Optics,
    pupil: Pupil,
    light: tuple[float, ...],
) -> _Search:
    search = _Search(
        evidence=evidence,
        nominal=nominal,
        pupil=pupil,
        point=np.array([1.0, 0.0, 1.0, *light]),
        focus_um=np.empty(0),
        depth_nats=np.empty(0),
    )
    search.look_for_foci()
    return search


def _cost_of(search: _Search) -> float:
    return float(search.fit_at(search.point).cost.sum())


def _describe(search: _Search, gain_nats: float) -> OpticsFit:
    point, nominal = search.point, search.nominal
    fit = search.fit_at(point)
    covariance, by_colour = _uncertainty(search)
    u = np.sqrt(np.diag(covariance) + _MODEL_U[: point.size] ** 2)
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
    )


def _uncertainty(search: _Search) -> tuple[Float64, Float64]:
    """Return the covariance of the point, and each colour's own (NA, spherical)."""
    point = search.point
    gradient, hessian = _derivatives(search, search.evidence)
    total = hessian.sum(axis=(2, 3))
    inverse = np.linalg.pinv(total)
    by_block = gradient.sum(axis=2)  # (parameters, blocks)
    covariance = _left_out(-inverse @ by_block) * search.evidence.overlap
    planes = np.arange(search.evidence.z_um.size)
    turns = []
    for group in range(_PLANE_GROUPS):
        kept = planes[planes % _PLANE_GROUPS != group]
        part = select_planes(search.evidence, kept)
        rest, _ = _derivatives(search, part, second=False)
        share = kept.size / planes.size
        turns.append(-inverse @ rest.sum(axis=(1, 2)) / share)
    # Leaving out one group moves the point by 1 / (groups - 1) of what it alone says.
    moves = np.stack(turns, axis=1) * (_PLANE_GROUPS - 1)
    covariance += _left_out(moves) / _PLANE_GROUPS**2
    colours = np.empty((3, 2))
    for colour in range(3):
        own = hessian[:2, :2, :, colour].sum(axis=2)
        pull = gradient[:2, :, colour].sum(axis=1)
        colours[colour] = point[:2] - np.linalg.pinv(own) @ pull
    return covariance, colours


def _left_out(moves: Float64) -> Float64:
    """Return the covariance of a sum of independent moves, shape (parameters, parts).

    Scaled by Student's factor, since there are few parts.
    """
    count = moves.shape[1]
    centred = moves - moves.mean(axis=1, keepdims=True)
    factor = student_factor(count - 1) / 2
    return np.asarray(factor**2 * count / (count - 1) * centred @ centred.T)


def _derivatives(
    search: _Search, evidence: StackEvidence, *, second: bool = True
) -> tuple[Float64, Float64]:
    """Return gradient (p, blocks, colours) and Hessian (p, p, blocks, colours)."""
    point = search.point
    size = point.size
    low, high = np.array(search.bounds()).T
    steps = _STEPS[:size]
    centre = np.clip(point, low + steps, high - steps)

    def cost(shift: Float64) -> Float64:
        return search.fit_at(centre + shift * steps, evidence).cost

    unit = np.eye(size)
    ahead = np.stack([cost(unit[k]) for k in range(size)])
    behind = np.stack([cost(-unit[k]) for k in range(size)])
    scaled = steps[:, None, None]
    gradient = (ahead - behind) / (2 * scaled)
    hessian = np.zeros((size, size, *gradient.shape[1:]))
    if not second:
        return gradient, hessian
    middle = cost(np.zeros(size))
    for a in range(size):
        hessian[a, a] = (ahead[a] - 2 * middle + behind[a]) / steps[a] ** 2
        for b in range(a):
            both = cost(unit[a] + unit[b]) - ahead[a] - ahead[b] + middle
            hessian[a, b] = hessian[b, a] = both / (steps[a] * steps[b])
    return gradient, hessian


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
