"""The focal offset of a tile, read from its two shots without any learning.

Model: both shots show one object through two known blurs, Y- = h(-dD - d) o + noise and
Y+ = h(dD - d) o + noise, with d the offset of the best focus from F. In a ring of
spatial frequencies the object is taken as Gaussian with unknown power S and the noise
as Gaussian with unknown power N, the same in both shots. Then the 2x2 covariance of
(Y-, Y+) is S h h' + N I, and maximising the likelihood over S and N leaves

    J(d) = sum over rings of  n log(E_along E_across)

to be minimised, with E_along the energy of (Y-, Y+) along h = (h-, h+) and E_across the
energy across it. Each ring brings its own S and N, so texture and noise need not be
known, and mismatch between model and glass shows itself as energy across.

The formulas are our own derivation; for the idea of reading defocus from two planes see
the phase-diversity literature (R. A. Gonsalves, Opt. Eng. 21, 1982).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from bifocus.errors import ConfigError
from bifocus.optics import Objective
from bifocus.pair_spectra import PairSpectra, radial_bins
from bifocus.records import FocalOffset
from bifocus.transfer import INCOHERENT, Light, compute_transfer

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

# Search range and step in units of lambda / NA^2 (0.94 um at NA 0.75, green): beyond
# four units hardly any detail is left in either shot.
_RANGE_UNITS = 4.0
_STEP_UNITS = 0.05
# Energies below this share of the (0..1)^2 scale are quantisation, not signal.
TINY_ENERGY = 1e-12
# Neighbouring coefficients are correlated by the window and by the model's errors; the
# Monte-Carlo test of the stated sd fixed this share of independent ones.
INDEPENDENT_SHARE = 0.02
# What the model itself leaves uncertain on optics that match it (measured: relief of
# +-0.4 um inside the tile); foreign optics add a bias that no pair can reveal.
MODEL_SD_UNITS = 0.05
# Half-width in um of what local offsets may differ from the tile's surface, in units.
LOCAL_SD_UNITS = 0.3
# What noise alone reaches: blocks of blank glass gave 1 to 2 nats, 4.7 at most; tissue
# gives 80 to 1700.
BLANK_NATS = 5.0
# log-likelihood ratio at which the confidence is one half
HALF_CONFIDENCE_NATS = 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PairOptics:
    """The optics of a pair, hashable so that its transfer tables can be cached.

    `light` is None where nobody has said or measured how the tissue is lit; the fusion
    then reads it from the pair (`bifocus.light_choice`). `chromatic_um` is the height
    of best focus of each colour over green's, and `z_scale` how many micrometres the
    optics see in one of the stage's: offsets and dD are the stage's. `is_measured` says
    that a stack of this instrument has shown all of it: nothing foreign is expected.
    """

    na: float
    pixel_um: float
    half_spacing_um: float
    wavelengths_um: tuple[float, float, float] = (0.62, 0.53, 0.46)
    refractive_index: float = 1.0
    light: Light | None = None
    chromatic_um: tuple[float, float, float] = (0.0, 0.0, 0.0)
    z_scale: float = 1.0
    is_measured: bool = False

    def __post_init__(self) -> None:
        """Refuse values that are no optics; `Objective` checks the rest."""
        for name in ("pixel_um", "half_spacing_um", "z_scale"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value > 0):
                msg = f"{name} must be a positive number, got {value}"
                raise ConfigError(msg)
        for colour in range(3):
            self.objective(colour)

    def objective(self, colour: int) -> Objective:
        """Return the objective at one colour channel (0 red, 1 green, 2 blue)."""
        return Objective(
            na=self.na,
            wavelength_um=self.wavelengths_um[colour],
            refractive_index=self.refractive_index,
        )

    @property
    def focus_unit_um(self) -> float:
        """Return n lambda / NA^2 for green: the natural unit of defocus."""
        return self.refractive_index * self.wavelengths_um[1] / self.na**2


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetMap:
    """Offsets of all blocks of a tile, and of the tile as a whole.

    Attributes
    ----------
    local_um
        Offset of each block, shape (down, across).
    weight
        How much texture each block holds, 0..1, shape (down, across).
    tile
        The tile's offset: the texture-weighted mean of the blocks.
    """

    local_um: Float32
    weight: Float32
    tile: FocalOffset


def offset_grid_um(optics: PairOptics) -> Float64:
    """Return the offsets that are searched, ascending and symmetric about 0."""
    half = round(_RANGE_UNITS / _STEP_UNITS)
    steps = np.arange(-half, half + 1, dtype=np.float64)
    return steps * (_STEP_UNITS * optics.focus_unit_um)


def ring_frequency_per_um(optics: PairOptics, block_px: int) -> Float64:
    """Return the mean frequency of each ring of a block, cycles per micrometre."""
    return radial_bins(block_px).frequency.astype(np.float64) / optics.pixel_um


@lru_cache(maxsize=64)
def transfer_tables(optics: PairOptics, block_px: int) -> Float32:
    """Return h-(d) and h+(d) for every searched offset d.

    Returns
    -------
    ndarray of float32
        Shape (colours, 2, offsets, bins).
    """
    frequency = ring_frequency_per_um(optics, block_px)
    offsets = offset_grid_um(optics)
    light = optics.light or INCOHERENT
    table = np.empty((3, 2, offsets.size, frequency.size), dtype=np.float32)
    for colour in range(3):
        objective = optics.objective(colour)
        for shot, plane_um in enumerate((-1, 1)):
            z_um = offsets - plane_um * optics.half_spacing_um
            z_um = optics.z_scale * (z_um + optics.chromatic_um[colour])
            table[colour, shot] = compute_transfer(objective, light, frequency, z_um)
    table.setflags(write=False)
    return table


def estimate_offset_map(pair: PairSpectra, optics: PairOptics) -> OffsetMap:
    """Estimate the focal offset of each block and of the tile.

    Parameters
    ----------
    pair
        Spectra with their statistics filled, of shots in linear light.
    optics
        The optics both shots were taken with.

    Returns
    -------
    OffsetMap
        Blocks without texture follow the surface fitted through the others.
    """
    grid_um = offset_grid_um(optics)
    cost = offset_costs(pair.statistics, optics, pair.layout.block_px)
    depth = np.median(cost, axis=1) - cost.min(axis=1)
    depth = np.maximum(depth - BLANK_NATS, 0.0)
    weight = depth / (depth + HALF_CONFIDENCE_NATS)
    total = cost.sum(axis=0)
    unit_um = optics.focus_unit_um
    first_um, _ = _minimum(total[None], grid_um)
    local_um, _ = _minimum(
        cost + _prior(grid_um, np.full(len(cost), first_um[0]), 2 * unit_um), grid_um
    )
    surface_um = _fit_surface(local_um, weight * depth, pair.grid)
    local_um, local_sd_um = _minimum(
        cost + _prior(grid_um, surface_um, LOCAL_SD_UNITS * unit_um), grid_um
    )
    tile = _tile_offset(local_um, local_sd_um, weight, depth, optics)
    return OffsetMap(
        local_um=local_um.reshape(pair.grid).astype(np.float32),
        weight=weight.reshape(pair.grid).astype(np.float32),
        tile=tile,
    )


def split_energy(
    statistics: Float32, tables: Float32
) -> tuple[Float32, Float32, Float32]:
    """Split the pair's energy along and across the transfer vector h = (h-, h+).

    Parameters
    ----------
    statistics
        Radial sums, shape (3, ..., bins).
    tables
        h- and h+, shape (2, ..., bins), broadcastable against the statistics.

    Returns
    -------
    along, across, norm
        Energies (never below a tiny floor) and |h|^2.
    """
    parts, norm = _direction(tables)
    along, across = _split(statistics, parts)
    return along, across, norm


def _direction(tables: Float32) -> tuple[Float32, Float32]:
    """Return what the three statistics count for along h, shape (3, ...); and |h|^2."""
    h_minus, h_plus = tables
    norm = np.maximum(h_minus**2 + h_plus**2, np.float32(1e-8))
    parts = np.stack([h_minus**2, h_plus**2, 2 * h_minus * h_plus]) / norm
    return parts, norm


def _split(statistics: Float32, parts: Float32) -> tuple[Float32, Float32]:
    minus, plus, cross = statistics
    along = minus * parts[0]
    along += plus * parts[1]
    along += cross * parts[2]
    across = minus + plus - along
    tiny = np.float32(TINY_ENERGY)
    return np.maximum(along, tiny, out=along), np.maximum(across, tiny, out=across)


def offset_costs(
    statistics: Float32, optics: PairOptics, block_px: int, *, every: int = 1
) -> Float64:
    """Return J(d) of every block in nats, shape (blocks, offsets).

    Parameters
    ----------
    statistics
        Radial sums of some blocks of `PairSpectra`, shape (3, blocks, colours, bins).
    optics
        The optics to try.
    block_px
        Side of the blocks.
    every
        Takes only every so many offsets of the grid.
    """
    bins = radial_bins(block_px)
    tables = transfer_tables(optics, block_px)[:, :, ::every].transpose(1, 0, 2, 3)
    used = (bins.count > 0) & (np.arange(bins.count.size) >= 2)
    count = np.where(used, bins.count, 0) * np.float32(0.5 * INDEPENDENT_SHARE)
    mean = statistics / np.maximum(bins.count, 1)
    parts, _ = _direction(tables)
    cost = np.zeros((mean.shape[1], tables.shape[2]))
    for block in range(mean.shape[1]):
        statistics = mean[:, block, :, None, :]
        along, across = _split(statistics, parts)
        both = (statistics[0] + statistics[1]) / 2 + np.float32(TINY_ENERGY)
        # S cannot be negative: where more energy lies across, the fit is S = 0.
        product = np.where(along > across, along * across, both**2)
        cost[block] = (np.log(product) @ count).sum(axis=0)
    return cost


def _prior(grid_um: Float64, centre_um: Float64, sd_um: float) -> Float64:
    result: Float64 = (grid_um - centre_um[:, None]) ** 2 / (2 * sd_um**2)
    return result


def _minimum(cost: Float64, grid_um: Float64) -> tuple[Float64, Float64]:
    """Return the interpolated minimum of each row, and the sd from its curvature."""
    step_um = grid_um[1] - grid_um[0]
    best = np.clip(cost.argmin(axis=1), 1, grid_um.size - 2)
    rows = np.arange(len(cost))
    left, middle, right = (cost[rows, best + shift] for shift in (-1, 0, 1))
    curvature = np.maximum(left - 2 * middle + right, 1e-12)
    shift = np.clip(0.5 * (left - right) / curvature, -1, 1)
    return grid_um[best] + step_um * shift, step_um / np.sqrt(curvature)


def _fit_surface(local_um: Float64, weight: Float64, grid: tuple[int, int]) -> Float64:
    """Fit a plane (a constant for few blocks) robustly; return it at every block."""
    down, across = np.indices(grid).reshape(2, -1)
    columns = [np.ones(local_um.size)]
    if min(grid) >= 2 and local_um.size >= 6:
        columns += [down - down.mean(), across - across.mean()]
    design = np.stack(columns, axis=1)
    weight = weight + 1e-6
    surface = np.full(local_um.size, np.average(local_um, weights=weight))
    for _ in range(8):
        residual = local_um - surface
        scale = 1.4826 * np.median(np.abs(residual)) + 1e-3
        robust = weight / (1 + (residual / (2 * scale)) ** 2)
        root = np.sqrt(robust)[:, None]
        # A faint pull towards a level plane keeps nearly blank tiles well posed.
        ridge = np.diag([0.0, *[1e-3 * robust.sum()] * (len(columns) - 1)])
        normal = (design * root).T @ (design * root) + ridge
        surface = design @ np.linalg.solve(normal, design.T @ (robust * local_um))
    return surface


def _tile_offset(
    local_um: Float64,
    local_sd_um: Float64,
    weight: Float64,
    depth: Float64,
    optics: PairOptics,
) -> FocalOffset:
    total = float(weight.sum()) + 1e-12
    offset_um = float((weight * local_um).sum() / total)
    spread_um = np.sqrt(float((weight * (local_um - offset_um) ** 2).sum()) / total)
    random_um = np.sqrt(float((weight**2 * local_sd_um**2).sum())) / total
    effective = total**2 / float((weight**2).sum() + 1e-12)
    nats = float(depth.sum())
    confidence = nats / (nats + 4 * HALF_CONFIDENCE_NATS)
    edge_um = _RANGE_UNITS * optics.focus_unit_um
    if abs(offset_um) > 0.95 * edge_um:
        confidence = 0.0
    relief_um = spread_um / np.sqrt(max(effective, 1.0))
    model_um = MODEL_SD_UNITS * optics.focus_unit_um
    sd_um = float(np.linalg.norm([random_um, relief_um, model_um]))
    return FocalOffset(offset_um=offset_um, sd_um=sd_um, confidence=confidence)
