"""Where every tile lies in the mosaic, from pair shifts and the stage.

Weighted least squares over all positions p, on each axis:

    sum over pairs  w (p_b - p_a - d_ab)^2 / pair_sd^2
  + sum over tiles  (p_i - A n_i - t)^2 / stage_sd^2
  + weak priors     A near 1, t near 0

with n the nominal (stage) positions. The second sum is some ten thousand times weaker
than the first: it decides only what pairs cannot, which is tiles on glass and islands
of tissue. A and t, the stage's scale, rotation and offset, are solved for together with
the positions, so that what the tissue teaches about the stage moves the glass as well.

False pairs are removed three times over: 2 x 2 blocks that do not close give them away;
the weights w fall with the residual (Cauchy), under a scale that is lowered step by
step; and what still disagrees at the end is left out.

References: P. W. Holland and R. E. Welsch, Communications in Statistics A6 (1977), for
reweighted least squares; A. Blake and A. Zisserman, *Visual Reconstruction* (1987), for
lowering the scale.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu

from bifocus.edge.loop_closure import Cell, Edge, Vector, find_false_pairs
from bifocus.edge.registration import PairShift
from bifocus.errors import ConfigError
from bifocus.records import PlacedTile

Float64 = npt.NDArray[np.float64]
Matrix = tuple[tuple[float, float], tuple[float, float]]

PAIR_SD_PX = 0.05  # Of a poor but true pair: tests/edge/test_registration.py.
FULL_WEIGHT_NCC = 0.95  # A true pair's score; most are above.
STAGE_SD_PX = 10.0  # Low-cost stages, +-12 px; used until the scan itself tells.
SMALLEST_STAGE_SD_PX = 1.0
AFFINE_SD = 0.02  # Stage against camera before the first pair: 2 % and 1 degree.
FREE_OFFSET_SD_PX = 1e4
FROZEN_SD_PX = 1e-4
# Scales of the Cauchy weights. The first is the largest error a false pair can have,
# the last one leaves true pairs (0.05 px) their weight.
SCALES_PX = (32.0, 16.0, 8.0, 4.0, 2.0, 1.0, 0.5, 0.25, 0.25, 0.25)
LARGEST_RESIDUAL_PX = 2.0  # No true pair of flat tiles is so far off; it would show.


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The result of a solve.

    Attributes
    ----------
    tiles
        One for each nominal position, in row-major order.
    residual_px
        (cell a, cell b) -> length of what is left between the measured shift and the
        solved one, for each pair that was used: the seam error, as far as it is known.
    n_rejected
        Trusted pairs that were found to be false.
    stage_sd_px
        Standard deviation of the stage, per axis; None if no pair was used.
    stage_matrix
        A = ((xx, xy), (yx, yy)), the true step per nominal step.
    """

    tiles: tuple[PlacedTile, ...]
    residual_px: dict[Edge, float]
    n_rejected: int
    stage_sd_px: float | None
    stage_matrix: Matrix


def solve_placement(
    nominal: Mapping[Cell, Vector],
    pairs: Sequence[PairShift],
    *,
    frozen: Mapping[Cell, Vector] | None = None,
    is_moved_to_origin: bool = True,
) -> Placement:
    """Find the position of every tile.

    Parameters
    ----------
    nominal
        (row, column) -> (x_px, y_px) by the stage. Cells may be missing.
    pairs
        Measured shifts. Those that are not trusted, and those of tiles that are not in
        `nominal`, are ignored.
    frozen
        (row, column) -> (x_px, y_px) of tiles that are already in the slide. They stay
        where they are, and the result is in their frame.
    is_moved_to_origin
        Move the result so that the smallest x_px and y_px are 0; otherwise it stays at
        the nominal positions as a whole. Has no effect when tiles are frozen.

    Returns
    -------
    Placement
        Positions in mosaic_px, with what is known of their quality.

    Raises
    ------
    ConfigError
        `nominal` is empty, or a frozen tile is not in it.
    """
    frozen = {} if frozen is None else frozen
    if not nominal or not frozen.keys() <= nominal.keys():
        msg = f"{len(nominal)} nominal tiles do not cover {len(frozen)} frozen ones"
        raise ConfigError(msg)
    trusted = [pair for pair in pairs if pair.is_trusted and _is_inside(pair, nominal)]
    false = find_false_pairs(trusted, nominal)
    kept = [pair for i, pair in enumerate(trusted) if i not in false]
    grid = _build_grid(nominal, kept, frozen)
    positions_px, stage, weights = _solve_robustly(grid)
    residual_px = _residual(grid, positions_px)
    if is_moved_to_origin and not frozen:
        positions_px = positions_px - positions_px.min(axis=0)
    else:
        positions_px = positions_px + grid.middle_px
    places = dict(zip(grid.cells, positions_px.tolist(), strict=True)) | dict(frozen)
    is_used = weights > 0
    return Placement(
        tiles=tuple(
            PlacedTile(row=row, column=column, x_px=x_px, y_px=y_px)
            for (row, column), (x_px, y_px) in places.items()
        ),
        residual_px={
            ((pair.row_a, pair.column_a), (pair.row_b, pair.column_b)): float(length_px)
            for pair, length_px, used in zip(kept, residual_px, is_used, strict=True)
            if used
        },
        n_rejected=len(trusted) - int(np.count_nonzero(is_used)),
        stage_sd_px=stage.sd_px,
        stage_matrix=stage.matrix(grid.unit_px),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grid:
    """What does not change from one solve to the next; positions against the middle.

    `model` (tiles, 3) is [n / unit, 1]: the stage predicts model @ coefficients.
    `steps` (pairs, tiles) is +1 at b and -1 at a: steps @ positions are the shifts.
    `pair_weight` (pairs,) falls from 1 with the score: NCC^2 / (1 - NCC^2) is the ratio
    of common to foreign texture, to which the precision of a shift is proportional.
    """

    cells: list[Cell]
    middle_px: Float64
    unit_px: float
    model: Float64
    steps: sparse.csr_array
    shift_px: Float64
    pair_weight: Float64
    frozen_index: npt.NDArray[np.intp]
    frozen_px: Float64


@dataclass(frozen=True, slots=True, kw_only=True)
class _StageFit:
    """The stage as the solve sees it: coefficients (3, 2) of `_Grid.model`, and sd."""

    coefficients: Float64
    sd_px: float | None

    def matrix(self, unit_px: float) -> Matrix:
        """Return A, which has no unit."""
        (xx, yx), (xy, yy) = (self.coefficients[:2] / unit_px).tolist()
        return (xx, xy), (yx, yy)


def _is_inside(pair: PairShift, nominal: Mapping[Cell, Vector]) -> bool:
    a, b = (pair.row_a, pair.column_a), (pair.row_b, pair.column_b)
    return a in nominal and b in nominal


def _build_grid(
    nominal: Mapping[Cell, Vector],
    pairs: Sequence[PairShift],
    frozen: Mapping[Cell, Vector],
) -> _Grid:
    """Lay the problem out as arrays, tiles in row-major order."""
    cells = sorted(nominal)
    index = {cell: i for i, cell in enumerate(cells)}
    stage_px = np.array([nominal[cell] for cell in cells], np.float64)
    middle_px = stage_px.mean(axis=0)
    # Coordinates of order 1 keep the system well conditioned on wide slides.
    unit_px = float(max(1.0, np.abs(stage_px - middle_px).max()))
    model = np.column_stack([(stage_px - middle_px) / unit_px, np.ones(len(cells))])
    ends = [
        (index[pair.row_b, pair.column_b], index[pair.row_a, pair.column_a])
        for pair in pairs
    ]
    signs = np.tile([1.0, -1.0], len(pairs))
    rows = np.repeat(np.arange(len(pairs)), 2)
    columns = np.array(ends, np.intp).ravel()
    shape = (len(pairs), len(cells))
    shifts = [(pair.dx_px, pair.dy_px) for pair in pairs]
    frozen_px = np.array(list(frozen.values()), np.float64).reshape(-1, 2)
    return _Grid(
        cells=cells,
        middle_px=middle_px,
        unit_px=unit_px,
        model=model,
        steps=sparse.csr_array((signs, (rows, columns)), shape=shape),
        shift_px=np.array(shifts, np.float64).reshape(-1, 2),
        pair_weight=_weight_by_score(pairs),
        frozen_index=np.array([index[cell] for cell in frozen], np.intp),
        frozen_px=frozen_px - middle_px,
    )


def _weight_by_score(pairs: Sequence[PairShift]) -> Float64:
    full = FULL_WEIGHT_NCC**2
    common = np.clip([pair.score for pair in pairs], 0.01, FULL_WEIGHT_NCC) ** 2
    return np.asarray(common / (1 - common) * (1 - full) / full, np.float64)


def _solve_robustly(grid: _Grid) -> tuple[Float64, _StageFit, Float64]:
    """Solve, and reweight under a falling scale; return positions, stage, weights."""
    weights: Float64 = np.ones(len(grid.shift_px))
    positions_px, coefficients = _solve(grid, weights, STAGE_SD_PX)
    stage_sd_px = _stage_sd(grid, positions_px, coefficients)
    for scale_px in SCALES_PX:
        weights = 1 / (1 + (_residual(grid, positions_px) / scale_px) ** 2)
        positions_px, coefficients = _solve(grid, weights, stage_sd_px or STAGE_SD_PX)
        stage_sd_px = _stage_sd(grid, positions_px, coefficients)
    weights[_residual(grid, positions_px) > LARGEST_RESIDUAL_PX] = 0
    positions_px, coefficients = _solve(grid, weights, stage_sd_px or STAGE_SD_PX)
    stage = _StageFit(coefficients=coefficients, sd_px=stage_sd_px)
    return positions_px, stage, weights


def _solve(
    grid: _Grid, weights: Float64, stage_sd_px: float
) -> tuple[Float64, Float64]:
    """Solve the normal equations of the module's sums for positions and stage."""
    n_tiles = len(grid.cells)
    pair_weight = grid.pair_weight * weights / PAIR_SD_PX**2
    stage_weight = 1 / max(stage_sd_px, SMALLEST_STAGE_SD_PX) ** 2
    frozen_weight = np.zeros(n_tiles)
    frozen_weight[grid.frozen_index] = FROZEN_SD_PX**-2
    weighted = grid.steps.T @ sparse.diags_array(pair_weight)
    tiles = weighted @ grid.steps + sparse.diags_array(frozen_weight + stage_weight)
    # With nothing frozen the common offset is free, so it is kept near the stage's.
    offset_sd_px = FREE_OFFSET_SD_PX if len(grid.frozen_index) else 1.0
    affine_sd_px = AFFINE_SD * grid.unit_px
    prior = np.diag(np.array([affine_sd_px, affine_sd_px, offset_sd_px]) ** -2)
    nominal = np.array([[grid.unit_px, 0], [0, grid.unit_px], [0, 0]])
    cross = sparse.csr_array(-stage_weight * grid.model)
    corner = sparse.csr_array(stage_weight * grid.model.T @ grid.model + prior)
    normal = sparse.block_array([[tiles, cross], [cross.T, corner]], format="csc")
    right = np.vstack([weighted @ grid.shift_px, prior @ nominal])
    right[grid.frozen_index] += FROZEN_SD_PX**-2 * grid.frozen_px
    solution = splu(normal, permc_spec="MMD_AT_PLUS_A").solve(right)
    return solution[:n_tiles], solution[n_tiles:]


def _residual(grid: _Grid, positions_px: Float64) -> Float64:
    """Length in px of what is left of each pair, shape (pairs,)."""
    left_px = grid.steps @ positions_px - grid.shift_px
    return np.asarray(np.hypot(left_px[:, 0], left_px[:, 1]), np.float64)


def _stage_sd(
    grid: _Grid, positions_px: Float64, coefficients: Float64
) -> float | None:
    """Estimate the stage's standard deviation per axis from the tiles held by pairs."""
    links: Any = grid.steps.T @ grid.steps  # scipy's stubs know no sparse arrays here
    n_groups, _ = connected_components(links, directed=False)
    # Each group of linked tiles spends one position on lying where the stage says.
    n_free = len(grid.cells) - n_groups
    if n_free == 0:
        return None
    error_px = positions_px - grid.model @ coefficients
    return float(np.sqrt(np.sum(error_px**2) / (2 * n_free)))
