"""How a microscope passes the absorption and the phase of tissue, in or out of focus.

Light that fills a share of the pupil is partially coherent, and a picture out of focus
then keeps contrast that incoherent light would lose, and shows phase as well. For weak
tissue both are linear: the transmission cross coefficient of one scattered and one
unscattered wave (H. H. Hopkins, Proc. R. Soc. A 217 (1953); N. Streibl, J. Opt. Soc.
Am. A 2 (1985); M. Born and E. Wolf, *Principles of Optics*, 7th ed., section 10.6)

    H(s) = int_C P(q + s) P*(q) dq / int_C dq,   C the disc of the condenser,

whose real part passes absorption and whose imaginary part phase. A condenser that
fills the pupil gives the incoherent OTF. In units of the pupil radius and of waves of
defocus at its rim H is the same for every NA, so that few tables serve all.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from numpy.polynomial.legendre import leggauss

from bifocus.errors import ConfigError
from bifocus.optics import Objective, Pupil

Complex64 = npt.NDArray[np.complex64]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

# Table steps: frequency in pupil radii (0 to 2), defocus in waves at the pupil's rim.
_S_SAMPLES = 129
_WAVE_STEP = 0.025
_MOST_WAVES = 8.0
# The exact pupil's shape hardly changes with NA: tables are shared within this step.
_NA_STEP = 0.05
_NODES_ALONG, _NODES_ACROSS = 20, 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Light:
    """How tissue is lit, and what else shapes its picture; hashable.

    Attributes
    ----------
    condenser
        Condenser NA / objective NA, 0 < condenser <= 1; 1 stands for incoherent light.
    phase_ratio
        Phase contrast of tissue for each unit of absorption contrast: 2 phase / (1 -
        transmission), with the phase in radians. 0 for pure absorption.
    spherical_waves
        Primary spherical aberration, coefficient of rho^4 - rho^2.
    pupil
        `paraxial` is the square term of defocus alone, `exact` the spherical wavefront.
    """

    condenser: float = 1.0
    phase_ratio: float = 0.0
    spherical_waves: float = 0.0
    pupil: Pupil = "paraxial"

    def __post_init__(self) -> None:
        """Refuse light that does not exist."""
        values = (self.condenser, self.phase_ratio, self.spherical_waves)
        if not all(map(np.isfinite, values)):
            msg = f"light must be described by finite numbers, got {self}"
            raise ConfigError(msg)
        if not 0.05 <= self.condenser <= 1:
            msg = f"condenser must lie between 0.05 and 1, got {self.condenser}"
            raise ConfigError(msg)


INCOHERENT = Light()


def compute_transfer(
    objective: Objective, light: Light, frequency_per_um: Float64, z_um: Float64
) -> Float32:
    """Return the transfer of tissue's contrast at some frequencies and defoci.

    Parameters
    ----------
    objective
        NA, wavelength and index; its own pupil and aberration are not looked at.
    light
        Condenser, phase, aberration and pupil.
    frequency_per_um
        Radial frequencies >= 0, shape (f,).
    z_um
        Height of the tissue above the plane of focus, shape (z,); beyond 8 waves at
        the rim the value at 8 waves is taken, where hardly any contrast is left.

    Returns
    -------
    ndarray of float32
        Shape (z, f); 1 at zero frequency for pure absorption.
    """
    table = _table(
        round(light.condenser, 3),
        round(light.spherical_waves, 4),
        light.pupil,
        _na_step(objective) if light.pupil == "exact" else 0,
    )
    radius = objective.na / objective.wavelength_um
    at_frequency = _between(table, np.asarray(frequency_per_um) / radius / 2, axis=1)
    waves = compute_rim_waves(objective, light.pupil, np.asarray(z_um))
    transfer = _between(at_frequency, (waves / _MOST_WAVES + 1) / 2, axis=0)
    result: Float32 = transfer.real + np.float32(light.phase_ratio) * transfer.imag
    return result


def _between(table: Complex64, share: Float64, axis: int) -> Complex64:
    """Interpolate linearly at `share` (0..1) of the table's length along `axis`."""
    last = table.shape[axis] - 1
    position = np.clip(share, 0, 1) * last
    low = np.minimum(position.astype(int), last - 1)
    part = (position - low).astype(np.float32)
    part = part[:, None] if axis == 0 else part[None, :]
    below, above = np.take(table, low, axis), np.take(table, low + 1, axis)
    result: Complex64 = below + part * (above - below)
    return result


def _na_step(objective: Objective) -> int:
    return max(1, round(objective.na / objective.refractive_index / _NA_STEP))


def compute_rim_waves(objective: Objective, pupil: Pupil, z_um: Float64) -> Float64:
    """Return the defocus at the rim of the pupil in waves; see `optics.pupil_phase`."""
    index = objective.refractive_index
    sine = objective.na / index
    depth = sine**2 / 2 if pupil == "paraxial" else 1 - np.sqrt(1 - sine**2)
    result: Float64 = index * z_um * depth / objective.wavelength_um
    return result


@lru_cache(maxsize=256)
def _table(
    condenser: float, spherical_waves: float, pupil: Pupil, na_step: int
) -> Complex64:
    """Return H over defocus -8..8 waves and frequency 0..2 pupil radii."""
    s = np.asarray(np.linspace(0, 2, _S_SAMPLES), dtype=np.float64)
    light = Light(condenser=condenser, spherical_waves=spherical_waves, pupil=pupil)
    sine = min(na_step * _NA_STEP, 0.98)
    count = round(2 * _MOST_WAVES / _WAVE_STEP) + 1
    steps = (-_MOST_WAVES, _WAVE_STEP, count)
    table = integrate_transfer(light, sine, s, steps)
    table.setflags(write=False)
    return table


def integrate_transfer(
    light: Light,
    sine: float,
    s: Float64,
    steps: tuple[float, float, int],
    *,
    nodes: tuple[int, int] = (_NODES_ALONG, _NODES_ACROSS),
) -> Complex64:
    """Return H by quadrature, without any table.

    Parameters
    ----------
    light
        Condenser, aberration and pupil.
    sine
        NA / index, which shapes the exact pupil only.
    s
        Frequencies in pupil radii, 0 to 2, shape (s,).
    steps
        First defocus in waves at the rim, step, and number of steps.
    nodes
        Of the quadrature, along and across the overlap; fewer will do for few waves.

    Returns
    -------
    ndarray of complex64
        Shape (steps, s); the real part passes absorption, the imaginary phase.
    """
    first, step, count = steps
    scattered, straight, weight = _overlap_nodes(light.condenser, s, nodes)
    waves = _depth(scattered, light.pupil, sine) - _depth(straight, light.pupil, sine)
    aberration = light.spherical_waves * (scattered**4 - scattered**2)
    aberration -= light.spherical_waves * (straight**4 - straight**2)
    start = aberration + first * waves
    field = (weight * np.exp(2j * np.pi * start)).astype(np.complex64)
    # One step of defocus turns each node by its own angle: no exponential per entry.
    turn = np.exp(2j * np.pi * step * waves).astype(np.complex64)
    table = np.empty((count, s.size), dtype=np.complex64)
    for row in range(count):
        table[row] = field.sum(axis=1)
        field *= turn
    return table


def _depth(rho: Float64, pupil: Pupil, sine: float) -> Float64:
    """Return the path of defocus over the pupil, 1 at the rim."""
    if pupil == "paraxial":
        return rho**2
    cosine = np.sqrt(1 - (sine * np.minimum(rho, 1)) ** 2)
    depth: Float64 = (1 - cosine) / (1 - np.sqrt(1 - sine**2))
    return depth


@lru_cache(maxsize=8)
def _gauss_rule(count: int) -> tuple[Float64, Float64]:
    """Gauss-Legendre nodes and weights; slow to make, so they are kept."""
    points, weights = leggauss(count)
    return points, weights


def _overlap_nodes(
    condenser: float, s: Float64, nodes: tuple[int, int]
) -> tuple[Float64, Float64, Float64]:
    """Return pupil radii of both waves and weights, shape (s, nodes).

    The overlap of the condenser's disc about 0 and the pupil about -s is cut where
    their rims cross; nodes crowd towards the ends, where the chord has a root.
    """
    low = np.full(s.shape, -condenser)
    high = np.clip(np.minimum(condenser, 1 - s), -condenser, None)
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = np.where(s > 0, (1 - s**2 - condenser**2) / (2 * s), high)
    crossing = np.clip(crossing, low, high)
    along, along_weight = _gauss_rule(nodes[0])
    across, across_weight = _gauss_rule(nodes[1])
    angle = (along + 1) * np.pi / 2
    parts = []
    for start, stop in ((low, crossing), (crossing, high)):
        x = start[:, None] + (stop - start)[:, None] * (1 - np.cos(angle)) / 2
        dx = (stop - start)[:, None] * np.sin(angle) * (np.pi / 4) * along_weight
        chord = np.minimum(condenser**2 - x**2, 1 - (x + s[:, None]) ** 2)
        half = np.sqrt(np.maximum(chord, 0))[..., None]
        v = half * (across + 1) / 2
        weight = dx[..., None] * half * across_weight  # both halves of the chord
        scattered = np.hypot((x + s[:, None])[..., None], v)
        parts.append((scattered, np.hypot(x[..., None], v), weight))
    scattered, straight, weight = (
        np.concatenate([part[item].reshape(s.size, -1) for part in parts], axis=1)
        for item in range(3)
    )
    return scattered, straight, weight / (np.pi * condenser**2)
