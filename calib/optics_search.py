"""The search for the likeliest optics of one kind: damped Newton, by differences.

A point holds NA over the file's, spherical aberration in waves and the scale of Z, and
for partially coherent light the condenser and the phase as well.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from bifocus.calib.stack_evidence import StackEvidence
from bifocus.calib.stack_likelihood import Fit, StackOptics, compute_costs, fit_foci
from bifocus.config import Optics
from bifocus.optics import Objective
from bifocus.transfer import Light

Float64 = npt.NDArray[np.float64]
Pupil = Literal["paraxial", "exact"]

# Step of finite differences: small against what the data tell, large against rounding.
PARAMETER_STEPS = np.array([0.004, 0.004, 0.004, 0.01, 0.02])
# Natural length of each for the search.
_SCALES = np.array([0.02, 0.02, 0.02, 0.05, 0.1])
_BOUNDS = ((0.55, 1.6), (-0.6, 0.6), (0.7, 1.4), (0.3, 1.0), (-2.0, 2.0))
# Unit of defocus n lambda / NA^2 in which foci are searched, and stepped.
COARSE_STEP, FINE_STEP = 0.05, 0.01
_SEARCH_STEP_UNITS = 0.15
# Damped Newton: steps at most so long (in _SCALES), and ended by so small a gain.
_LONGEST_STEP = 4.0
_FIRST_DAMPING, _MOST_DAMPING = 0.05, 1e4
_MOST_STEPS = 30
_SETTLED_NATS = 0.3


@dataclass(slots=True)
class OpticsSearch:
    """One model of the stack, and where its search has come to."""

    evidence: StackEvidence
    nominal: Optics
    pupil: Pupil
    point: Float64
    focus_um: Float64
    depth_nats: Float64
    focus_step: float = COARSE_STEP

    @property
    def cost(self) -> float:
        """Cost of the point, in nats."""
        return float(self.fit_at(self.point).cost.sum())

    @property
    def unit_um(self) -> float:
        """Natural unit of defocus."""
        nominal = self.nominal
        return nominal.refractive_index * nominal.wavelengths_um[1] / nominal.na**2

    def optics_at(self, point: Float64) -> StackOptics:
        """Return the optics that a point stands for."""
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
            sine=nominal.na / nominal.refractive_index,
            z_scale=float(point[2]),
        )

    def fit_at(self, point: Float64, evidence: StackEvidence | None = None) -> Fit:
        """Return the cost there, of all of the stack or of some planes."""
        return fit_foci(
            evidence or self.evidence,
            self.optics_at(point),
            self.focus_um,
            self.focus_step * self.unit_um,
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

    def settle_foci(self) -> None:
        """Go on to the best foci, from near them."""
        for _ in range(3):
            self.focus_um = self.fit_at(self.point).focus_um

    def descend(self) -> None:
        """Go to the least cost by damped Newton steps within the bounds."""
        scale = _SCALES[: self.point.size]
        low, high = np.array(self.bounds()).T
        damping = _FIRST_DAMPING
        for _ in range(_MOST_STEPS):
            fit = self.fit_at(self.point)
            self.focus_um = fit.focus_um
            cost = self.cost
            gradient, hessian = self.derivatives()
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

    def derivatives(
        self, evidence: StackEvidence | None = None, *, second: bool = True
    ) -> tuple[Float64, Float64]:
        """Return gradient (p, blocks, colours) and Hessian (p, p, blocks, colours).

        Without `second` the Hessian is left out: zeros.
        """
        point = self.point
        size = point.size
        low, high = np.array(self.bounds()).T
        steps = PARAMETER_STEPS[:size]
        centre = np.clip(point, low + steps, high - steps)

        def cost(shift: Float64) -> Float64:
            return self.fit_at(centre + shift * steps, evidence).cost

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


def search_optics(
    evidence: StackEvidence,
    nominal: Optics,
    pupil: Pupil,
    light: tuple[float, ...],
) -> OpticsSearch:
    """Return the likeliest optics with this pupil; `light` as in `start_search`."""
    search = start_search(evidence, nominal, pupil, light)
    search.descend()
    return search


def start_search(
    evidence: StackEvidence,
    nominal: Optics,
    pupil: Pupil,
    light: tuple[float, ...],
) -> OpticsSearch:
    """Return a search that has found the foci, with the file's optics.

    `light` is empty for incoherent light, else condenser and phase to start from.
    """
    search = OpticsSearch(
        evidence=evidence,
        nominal=nominal,
        pupil=pupil,
        point=np.array([1.0, 0.0, 1.0, *light]),
        focus_um=np.empty(0),
        depth_nats=np.empty(0),
    )
    search.look_for_foci()
    return search
