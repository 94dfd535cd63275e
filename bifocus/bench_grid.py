"""A scan of numbers alone, for benchmarks and tests: tiles whose true place is known.

The scene is tissue that repeats after a few tiles, far outside any search window; each
tile is read from it at any fraction of a pixel by a phase ramp over its Fourier
transform. Then come the camera's faults: shading, noise, 8 bits.
"""

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt

from bifocus.edge.loop_closure import Cell, Vector
from bifocus.edge.plan import ScanPlan, plan_scan
from bifocus.hal.procedural_tissue import make_procedural_tissue
from bifocus.records import FloatImage, UInt8Image

GLASS_LEVEL = 236.0
LENS_SIGMA_PX = 0.7  # A microscope passes little above two thirds of Nyquist.
GUARD_PX = 24  # Around a tile, so that the transform's wrap stays outside.
PERIOD_TILES = 2.3


@dataclass(frozen=True, slots=True, kw_only=True)
class GridFaults:
    """What stage, slide and camera do wrong.

    `stage_px` is the largest error per axis, uniform; `glass` the share of the scene
    that is made clear; `noise` is in grey levels; `shading` is the loss in the corners,
    0..1. `scale` and `turn_rad` are those of the stage against the camera.
    """

    stage_px: float = 12.0
    glass: float = 0.0
    noise: float = 0.0
    shading: float = 0.0
    scale: float = 1.0
    turn_rad: float = 0.0


class GridScan:
    """A planned grid of tiles over a synthetic scene."""

    def __init__(
        self,
        rows: int,
        columns: int,
        *,
        field_px: tuple[int, int] = (1224, 1024),
        overlap: float = 0.1,
        faults: GridFaults | None = None,
        seed: int = 0,
    ) -> None:
        """Draw the stage's errors; the scene is painted for the first tile.

        Parameters
        ----------
        rows, columns
            Of tiles.
        field_px
            Width and height of a tile.
        overlap
            Share of the field that neighbours have in common.
        faults
            Default: `GridFaults()`.
        seed
            Of scene, errors and noise.
        """
        self._faults = faults or GridFaults()
        self._seed = seed
        width_px, height_px = field_px
        self.plan = _plan(rows, columns, field_px, overlap)
        rng = np.random.default_rng([seed, rows, columns])
        self._shape = (int(PERIOD_TILES * height_px), int(PERIOD_TILES * width_px))
        self.true_px = {
            (visit.row, visit.column): self._true_place(visit.row, visit.column, rng)
            for visit in self.plan.visits
        }

    @cached_property
    def _scene(self) -> FloatImage:
        return _paint(self._shape, self._faults.glass, self._seed)

    def tile(self, row: int, column: int) -> UInt8Image:
        """Return a tile, (height, width, 3) uint8, the same each time."""
        rng = np.random.default_rng([self._seed, row, column])
        x_px, y_px = self.true_px[row, column]
        view = _read_at(self._scene, x_px, y_px, self.plan.field_px)
        height, width = view.shape[:2]
        y, x = np.linspace(-1, 1, height), np.linspace(-1, 1, width)
        bowl = 1 - self._faults.shading * np.add.outer(y**2, x**2) / 2
        view *= bowl.astype(np.float32)[..., None]
        if self._faults.noise:
            noise = rng.standard_normal(view.shape, dtype=np.float32)
            view += self._faults.noise * noise
        return np.asarray(np.clip(np.rint(view), 0, 255), np.uint8)

    def seam_errors(self, places: dict[Cell, Vector]) -> npt.NDArray[np.float64]:
        """Return how far each pair of placed neighbours is from its true shift, px."""
        errors = []
        for row, column in places:
            for other in ((row, column + 1), (row + 1, column)):
                if other in places:
                    shift = np.subtract(places[other], places[row, column])
                    true = np.subtract(self.true_px[other], self.true_px[row, column])
                    errors.append(np.hypot(*(shift - true)))
        return np.array(errors, np.float64)

    def _true_place(
        self, row: int, column: int, rng: np.random.Generator
    ) -> tuple[float, float]:
        faults, plan = self._faults, self.plan
        x_px = column * plan.step_um[0] / plan.pixel_um
        y_px = row * plan.step_um[1] / plan.pixel_um
        dx_px, dy_px = rng.uniform(-faults.stage_px, faults.stage_px, 2)
        cos, sin = np.cos(faults.turn_rad), np.sin(faults.turn_rad)
        return (
            float(faults.scale * (cos * x_px - sin * y_px) + dx_px),
            float(faults.scale * (sin * x_px + cos * y_px) + dy_px),
        )


def _plan(
    rows: int, columns: int, field_px: tuple[int, int], overlap: float
) -> ScanPlan:
    """Plan just so many tiles, at a pixel of 0.25 um."""
    pixel_um = 0.25
    sides_um = [
        pixel_um * side_px * (1 + (n - 1) * (1 - overlap))
        for side_px, n in zip(field_px, (columns, rows), strict=True)
    ]
    return plan_scan(
        (100.0, 100.0, sides_um[0], sides_um[1]),
        field_px=field_px,
        pixel_um=pixel_um,
        overlap=overlap,
        focus_um=50.0,
    )


def _paint(shape: tuple[int, int], glass: float, seed: int) -> FloatImage:
    """Return the scene in grey levels, (rows, columns, 3) float32."""
    light = make_procedural_tissue(*shape, seed=seed)
    if glass > 0:
        rng = np.random.default_rng(seed)
        coarse = rng.standard_normal((shape[0] // 64, shape[1] // 64), np.float32)
        soft = cv2.GaussianBlur(coarse, (0, 0), 2.0)
        size = (shape[1], shape[0])
        fine = cv2.resize(soft, size, interpolation=cv2.INTER_CUBIC)
        outline = np.asarray(fine, np.float32)
        level = np.quantile(outline, glass)
        steep = np.clip(40 * (outline - level) / outline.std(), -50, 50)
        is_clear = 1 / (1 + np.exp(steep))
        light = light + (1 - light) * is_clear[..., None].astype(np.float32)
    sharp = np.asarray(GLASS_LEVEL * light, np.float32)
    return np.asarray(cv2.GaussianBlur(sharp, (0, 0), LENS_SIGMA_PX), np.float32)


def _read_at(
    scene: FloatImage, x_px: float, y_px: float, field_px: tuple[int, int]
) -> FloatImage:
    """Return the scene, continued periodically, at a fraction of a pixel."""
    left, top = int(np.floor(x_px)), int(np.floor(y_px))
    columns = np.arange(left - GUARD_PX, left + field_px[0] + GUARD_PX)
    rows = np.arange(top - GUARD_PX, top + field_px[1] + GUARD_PX)
    part = scene.take(rows, axis=0, mode="wrap").take(columns, axis=1, mode="wrap")
    fy = np.fft.fftfreq(len(rows))[:, None]
    fx = np.fft.rfftfreq(len(columns))[None, :]
    ramp = np.exp(2j * np.pi * (fx * (x_px - left) + fy * (y_px - top)))
    moved = [
        np.fft.irfft2(np.fft.rfft2(part[..., i]) * ramp, part.shape[:2])
        for i in range(3)
    ]
    inner = slice(GUARD_PX, -GUARD_PX)
    return np.stack(moved, axis=-1)[inner, inner].astype(np.float32)
