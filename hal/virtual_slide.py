"""The virtual slide: a texture on uneven glass, with thickness.

Height of best focus: a plane (focus and tilt) plus a smooth relief. Tissue: absorbance
1 - T shared among layers by smooth weights, the sliced sample of Li et al., arXiv
2003.06630, Eqs. 2-3. All of it is a pure function of the slide's seed.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from bifocus.config import VirtualSlide
from bifocus.hal.smooth_field import make_smooth_field
from bifocus.hal.tissue_source import Tissue, mirror_index
from bifocus.records import FloatImage

Float64 = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]

_LAYER_PERIOD_UM = 24.0  # layers change over a few cells; assumed
_LAYER_CONTRAST = 2.0  # exponent range of the layer weights; assumed
_GLASS_ABSORBANCE = 1e-3  # a mean absorbance below this is an empty field


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A rectangle of texels: its first row and column, and its size (rows, columns)."""

    row: int
    column: int
    shape: tuple[int, int]


class SlideTruth:
    """What really lies on the stage; positions are stage_um of the field's centre.

    Texel (r, c) has its centre at stage (x_um + (c + 1/2) p, y_um + (r + 1/2) p), where
    p is the *camera's* pixel: the texture is resampled to it once, here.

    The slide lies as the camera sees it. Where the camera is turned or mirrored, it is
    the stage that moves askew: about the tissue's centre, by `stage_to_picture`.
    """

    def __init__(
        self,
        config: VirtualSlide,
        tissue: Tissue,
        *,
        pixel_um: float,
        seed: int,
        rotation_mrad: float = 0.0,
        mirror: tuple[bool, bool] = (False, False),
    ) -> None:
        self.config = config
        self.pixel_um = pixel_um
        self.stage_to_picture = _turned(rotation_mrad, mirror)
        self._is_straight = bool(np.all(self.stage_to_picture == np.eye(2)))
        self.texture = _resample(tissue.pixels, config.pixel_um / pixel_um)
        rng = np.random.default_rng([seed, 0x51DE])
        self._relief = make_smooth_field(config.relief_period_um, rng)
        self._layers = [
            make_smooth_field(_LAYER_PERIOD_UM, rng) for _ in range(config.layers)
        ]
        self._relief_middle, self._relief_gain = self._normalise_relief()

    @property
    def size_um(self) -> tuple[float, float]:
        """Width and height of the texture."""
        height, width = self.texture.shape[:2]
        return width * self.pixel_um, height * self.pixel_um

    @property
    def centre_um(self) -> tuple[float, float]:
        """Stage x and y of the tissue's centre, about which it is tilted."""
        width_um, height_um = self.size_um
        return self.config.x_um + width_um / 2, self.config.y_um + height_um / 2

    @property
    def layer_offsets_um(self) -> Float64:
        """Height of each layer about the tissue's middle, evenly over the thickness."""
        if self.config.layers == 1:
            return np.zeros(1)
        half_um = self.config.thickness_um / 2
        return _evenly(-half_um, half_um, self.config.layers)

    def height_um(self, x_um: float, y_um: float) -> float:
        """Return the stage z of best focus at one place, mid-tissue, without colour."""
        x_um, y_um = self._seen_um(x_um, y_um)
        grid = self._height_grid(np.array([x_um]), np.array([y_um]))
        return float(grid[0, 0])

    def field_heights_um(self, field: Field) -> Float32:
        """Return the height of best focus at each texel of a field."""
        return self._height_grid(*self._centres_um(field)).astype(np.float32)

    def absorbance(self, field: Field) -> FloatImage:
        """Return 1 - T of a field, (rows, columns, 3); outside as `beyond` says."""
        height, width = self.texture.shape[:2]
        rows = np.arange(field.row, field.row + field.shape[0])
        columns = np.arange(field.column, field.column + field.shape[1])
        patch = self.texture[mirror_index(rows, height)]
        patch = 1 - patch[:, mirror_index(columns, width)]
        if self.config.beyond == "glass":
            patch[(rows < 0) | (rows >= height)] = 0
            patch[:, (columns < 0) | (columns >= width)] = 0
        result: FloatImage = patch
        return result

    def layer_weights(self, field: Field) -> list[Float32]:
        """Return each layer's share of the absorbance, summing to 1 at every texel."""
        if self.config.layers == 1:
            return [np.ones(field.shape, np.float32)]
        x_um, y_um = self._centres_um(field)
        scores = [
            np.exp(_LAYER_CONTRAST * layer.grid(x_um, y_um)).astype(np.float32)
            for layer in self._layers
        ]
        total = np.sum(scores, axis=0)
        return [score / total for score in scores]

    def field_at(self, x_um: float, y_um: float, shape: tuple[int, int]) -> Field:
        """Return the field of whole texels nearest to a camera centred at (x, y)."""
        column, row = self.corner_px(x_um, y_um, shape)
        return Field(row=round(row), column=round(column), shape=shape)

    def corner_px(
        self, x_um: float, y_um: float, shape: tuple[int, int]
    ) -> tuple[float, float]:
        """Return the exact (column, row) of the first texel under a centred camera."""
        x_um, y_um = self._seen_um(x_um, y_um)
        column = (x_um - self.config.x_um) / self.pixel_um - shape[1] / 2
        row = (y_um - self.config.y_um) / self.pixel_um - shape[0] / 2
        return column, row

    def mean_focus_um(self, x_um: float, y_um: float, shape: tuple[int, int]) -> float:
        """Return the absorbance-weighted mean height of the tissue in a field.

        On an empty field, the plain mean height. Chromatic offsets are left out.
        """
        field = self.field_at(x_um, y_um, shape)
        heights = self.field_heights_um(field)
        absorbance = self.absorbance(field).mean(axis=2)
        weights = self.layer_weights(field)
        offsets = self.layer_offsets_um
        shift = sum(
            w * np.float32(o) for w, o in zip(weights, offsets.tolist(), strict=True)
        )
        if float(absorbance.mean()) < _GLASS_ABSORBANCE:
            return float(heights.mean())
        return float(np.average(heights + shift, weights=absorbance))

    def _seen_um(self, x_um: float, y_um: float) -> tuple[float, float]:
        """Return where on the slide, as the camera sees it, a stage position looks."""
        if self._is_straight:
            return x_um, y_um
        centre = np.array(self.centre_um)
        x, y = centre + self.stage_to_picture @ (np.array([x_um, y_um]) - centre)
        return float(x), float(y)

    def _centres_um(self, field: Field) -> tuple[Float64, Float64]:
        columns = np.arange(field.shape[1], dtype=np.float64)
        rows = np.arange(field.shape[0], dtype=np.float64)
        corner_x_um = self.config.x_um + (field.column + 0.5) * self.pixel_um
        corner_y_um = self.config.y_um + (field.row + 0.5) * self.pixel_um
        return corner_x_um + columns * self.pixel_um, corner_y_um + rows * self.pixel_um

    def _height_grid(self, x_um: Float64, y_um: Float64) -> Float64:
        centre_x_um, centre_y_um = self.centre_um
        # The tilt is meant along the stage's axes, in um per um.
        tilt = np.array(self.config.tilt_mrad, np.float64) * 1e-3
        tilt_x, tilt_y = map(float, self.stage_to_picture @ tilt)
        plane = tilt_y * (y_um - centre_y_um)[:, None] + tilt_x * (x_um - centre_x_um)
        relief = self._relief.grid(x_um, y_um) - self._relief_middle
        return self.config.focus_um + plane + self._relief_gain * relief

    def _normalise_relief(self) -> tuple[float, float]:
        """Find the middle and the gain that bring the relief to exactly +-relief_um."""
        width_um, height_um = self.size_um
        step_um = max(self.config.relief_period_um / 96, max(self.size_um) / 2048)
        x_um = _evenly(0, width_um, int(width_um / step_um) + 2) + self.config.x_um
        y_um = _evenly(0, height_um, int(height_um / step_um) + 2) + self.config.y_um
        relief = self._relief.grid(x_um, y_um)
        low, high = float(relief.min()), float(relief.max())
        gain = 2 * self.config.relief_um / max(high - low, 1e-9)
        return (low + high) / 2, gain


def _evenly(first: float, last: float, count: int) -> Float64:
    return np.asarray(np.linspace(first, last, count), np.float64)


def _turned(rotation_mrad: float, mirror: tuple[bool, bool]) -> Float64:
    """Return the matrix that turns a stage's motion into the field's in the picture."""
    cos, sin = math.cos(1e-3 * rotation_mrad), math.sin(1e-3 * rotation_mrad)
    signs = np.array([-1.0 if turned else 1.0 for turned in mirror])
    turn = np.array([[cos, sin], [-sin, cos]])
    return np.asarray(signs[:, None] * turn, np.float64)


def _resample(texture: FloatImage, ratio: float) -> FloatImage:
    """Resample to the camera's pixel; `ratio` is texture pixel over camera pixel."""
    if abs(ratio - 1) < 1e-6:
        return texture
    method = cv2.INTER_AREA if ratio < 1 else cv2.INTER_CUBIC
    # The exact ratio, not that of the rounded sizes: lengths on the slide are true.
    resampled = cv2.resize(texture, None, fx=ratio, fy=ratio, interpolation=method)
    result: FloatImage = np.clip(resampled, 0, 1).astype(np.float32)
    return result
