"""Heights of a stack's planes, fitted together with the optics.

A drive that repeats to some hundredths of a micrometre puts every plane a little beside
where it was sent. All blocks see that alike, and take it for phase and aberration,
which trade against each other along a flat valley. So each plane may lie elsewhere, by
a normal scatter whose standard deviation the stack itself tells (EM: A. P. Dempster et
al., J. R. Stat. Soc. B 39 (1977) 1).
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bifocus.calib.optics_search import FINE_STEP, PARAMETER_STEPS, OpticsSearch
from bifocus.calib.stack_likelihood import plane_slopes

Float64 = npt.NDArray[np.float64]

# In units of defocus: step of differences, scatter at first, and its bounds.
_STEP = 0.01
_FIRST_SD, _LEAST_SD, _MOST_SD = 0.03, 0.003, 0.25
_MOST_TURNS = 20
_MOST_DAMPING = 1e6
# Of one step.
_LONGEST = np.array([0.05, 0.1, 0.05, 0.1, 0.3])
_SETTLED_NATS = 0.3
# As far as instruments differ at all: what a stack that tells nothing leaves.
PRIOR_SD = np.array([0.15, 0.3, 0.1, 0.3, 1.0])


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneFit:
    """Optics and heights of planes, as the stack tells them together.

    Attributes
    ----------
    search
        At the likeliest point; its evidence has the planes where they were found.
    covariance
        Of the point, as far as the planes scatter; shape (p, p).
    by_block
        By how much each block alone draws the point away, shape (p, blocks).
    scatter_um
        Standard deviation of the planes' heights.
    cost
        In nats, of the stack and of the planes' heights together.
    """

    search: OpticsSearch
    covariance: Float64
    by_block: Float64
    scatter_um: float
    cost: float


def fit_planes(search: OpticsSearch, sent_um: Float64) -> PlaneFit:
    """Go on from a search's point with the planes free about where they were sent."""
    search = dataclasses.replace(search, focus_step=FINE_STEP)
    search.settle_foci()
    moved_um = search.evidence.z_um - sent_um
    found = _Planes(
        search=search,
        sent_um=sent_um,
        moved_um=moved_um,
        sd_um=max(_FIRST_SD * search.unit_um, float(np.sqrt(np.mean(moved_um**2)))),
    )
    for _ in range(_MOST_TURNS):
        gain = found.turn()
        if gain < 0 or (gain < _SETTLED_NATS and found.damping < 1):
            break
    gradient, bend = _derivatives(found.search)
    size = search.point.size
    inverse = _inverse(bend, size, found.sd_um)
    by_planes = inverse[:size, size:] / found.sd_um
    return PlaneFit(
        search=found.search,
        covariance=by_planes @ by_planes.T,
        by_block=-inverse[:size] @ gradient,
        scatter_um=found.sd_um,
        cost=found.cost,
    )


@dataclass(slots=True)
class _Planes:
    """A search with its planes, where they were sent and how far they moved."""

    search: OpticsSearch
    sent_um: Float64
    moved_um: Float64
    sd_um: float
    damping: float = 0.0

    @property
    def cost(self) -> float:
        """Cost of the stack, and of planes that scatter as these do."""
        scatter = self.moved_um.size * float(np.log(self.sd_um / self.search.unit_um))
        return self._cost(self.search, self.moved_um) + scatter

    def turn(self) -> float:
        """Go one damped Newton step; return what it has gained, negative for none."""
        size = self.search.point.size
        gradient, bend = _derivatives(self.search)
        pull = gradient.sum(axis=1)
        pull[size:] += self.moved_um / self.sd_um**2
        before = self._cost(self.search, self.moved_um)
        gain = -1.0
        while gain < 0 and self.damping < _MOST_DAMPING:
            inverse = _inverse(bend, size, self.sd_um, self.damping)
            tried, moved_um = self._moved(-inverse @ pull)
            gain = before - self._cost(tried, moved_um)
            self.damping = self.damping / 10 if gain >= 0 else 10 * self.damping + 1
        if gain >= 0:
            self.search, self.moved_um = tried, moved_um
            own = np.diag(_inverse(bend, size, self.sd_um))[size:]
            self._learn_scatter(own)
        return gain

    def _cost(self, search: OpticsSearch, moved_um: Float64) -> float:
        return search.cost + float(moved_um @ moved_um) / (2 * self.sd_um**2)

    def _moved(self, step: Float64) -> tuple[OpticsSearch, Float64]:
        """Return the search a step further, foci found anew, and how far planes are."""
        search, size = self.search, self.search.point.size
        low, high = np.array(search.bounds()).T
        step = step / max(1.0, float(np.abs(step[:size] / _LONGEST[:size]).max()))
        moved_um = self.moved_um + step[size:]
        sent = dataclasses.replace(search.evidence, z_um=self.sent_um + moved_um)
        tried = dataclasses.replace(
            search,
            evidence=sent,
            point=np.clip(search.point + step[:size], low, high),
        )
        tried.settle_foci()
        return tried, moved_um

    def _learn_scatter(self, own: Float64) -> None:
        """Take the scatter that the planes show; `own` is the variance of each."""
        variance = np.mean(self.moved_um**2 + np.minimum(own, self.sd_um**2))
        low, high = (end * self.search.unit_um for end in (_LEAST_SD, _MOST_SD))
        self.sd_um = float(np.clip(np.sqrt(variance), low, high))


def _derivatives(search: OpticsSearch) -> tuple[Float64, Float64]:
    """Return gradient (p + planes, blocks) and Hessian (p + planes, p + planes)."""
    size, planes = search.point.size, search.evidence.z_um.size
    own_gradient, own_bend = search.derivatives()
    step_um = _STEP * search.unit_um
    bend = np.zeros((size + planes, size + planes))
    bend[:size, :size] = own_bend.sum(axis=(2, 3))
    for number in range(planes):
        shift_um = np.zeros(planes)
        shift_um[number] = step_um
        ahead, behind = (
            _slopes(search, search.point, sign * shift_um).sum(axis=0)
            for sign in (1, -1)
        )
        bend[size + number, size:] = (ahead - behind) / (2 * step_um)
    low, high = np.array(search.bounds()).T
    still_um = np.zeros(planes)
    for number in range(size):
        move = np.zeros(size)
        move[number] = PARAMETER_STEPS[number]
        ends = [np.clip(search.point + sign * move, low, high) for sign in (1, -1)]
        ahead, behind = (_slopes(search, end, still_um).sum(axis=0) for end in ends)
        mixed = (ahead - behind) / float(ends[0][number] - ends[1][number])
        bend[number, size:] = bend[size:, number] = mixed
    slopes = _slopes(search, search.point, still_um).T
    return np.concatenate([own_gradient.sum(axis=2), slopes]), (bend + bend.T) / 2


def _slopes(search: OpticsSearch, point: Float64, shift_um: Float64) -> Float64:
    """Return dJ / dz of the planes with all foci at their best."""
    sent = search.evidence
    evidence = dataclasses.replace(sent, z_um=sent.z_um + shift_um)
    fit = search.fit_at(point, evidence)
    step_um = _STEP * search.unit_um
    return plane_slopes(evidence, search.optics_at(point), fit.focus_um, step_um)


def _inverse(bend: Float64, size: int, sd_um: float, damping: float = 0.0) -> Float64:
    """Return the inverse of the Hessian and the priors; also where it is no minimum."""
    prior = np.full(len(bend), sd_um)
    prior[:size] = PRIOR_SD[:size]
    values, vectors = np.linalg.eigh(bend * np.outer(prior, prior))
    inverse = (vectors / (np.abs(values) + 1 + damping)) @ vectors.T
    return np.asarray(inverse * np.outer(prior, prior))
