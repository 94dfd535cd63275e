"""Looks at places with a locked exposure, and at one place with several exposures.

The exposure that the instrument file asks for is set at the start, and set again when
a series ends, whatever ends it.
"""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from bifocus.calib.flat_field import average_cells
from bifocus.calib.step_result import Bench
from bifocus.errors import BifocusError, ConfigError
from bifocus.hal.devices import Camera
from bifocus.records import FloatImage, Frame, MoveReceipt, StagePosition, UInt8Image
from bifocus.tone import decode

logger = logging.getLogger(__name__)

Float64 = npt.NDArray[np.float64]

# Shares of the exposure, down and up again: a lamp that drifts evenly cancels out.
EXPOSURE_SHARES = (1.0, 0.5, 0.25, 0.125, 0.125, 0.25, 0.5, 1.0)
FULL_LEVEL = 255
# Squares over which the variance of a pair is taken: 256 values give it to 9 %.
_NOISE_CELL_PX = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One place: linear light averaged over cells, and what the pixels did.

    `brightest` is the 99th percentile of linear light in the brightest colour.
    """

    x_um: float
    y_um: float
    cells: FloatImage
    clipped: float
    brightest: float
    pixels: UInt8Image


@dataclass(frozen=True, slots=True, kw_only=True)
class ExposurePair:
    """Two frames of one place at one exposure, in linear light.

    `cells` is their mean over squares and `variance` that of one frame, from their
    difference, both (rows, columns, 3); `light` is the mean of each frame over the
    bright part of the place, (2, 3).
    """

    exposure_s: float
    cells: Float64
    variance: Float64
    light: Float64
    clipped: float


class LightMeter:
    """Takes the pictures of the illumination step; `digest` covers all of them."""

    def __init__(self, bench: Bench, z_um: float) -> None:
        self._bench = bench
        self._z_um = z_um
        self._hash = hashlib.sha256()
        self._tone_curve = bench.config.optics.tone_curve
        self.exposure_s = bench.config.camera.exposure_s
        bench.camera.configure(exposure_s=self.exposure_s)

    @property
    def digest(self) -> str:
        """SHA-256 of all pixels seen so far."""
        return self._hash.hexdigest()

    def look(self, x_um: float, y_um: float) -> Look:
        """Return what one place shows at the locked exposure."""
        frame = self._grab(self._go(x_um, y_um))
        light = decode(frame.pixels, self._tone_curve)
        return Look(
            x_um=x_um,
            y_um=y_um,
            cells=average_cells(light),
            clipped=clipped_share(frame.pixels),
            brightest=float(np.percentile(light, 99, axis=(0, 1)).max()),
            pixels=frame.pixels,
        )

    def take_series(self, x_um: float, y_um: float) -> list[ExposurePair]:
        """Return pairs of frames of one place over the exposures that the camera has.

        Exposures that it refuses are left out; one whose exposure is fixed gives only
        pairs at that.
        """
        receipt = self._go(x_um, y_um)
        bright: npt.NDArray[np.bool_] | None = None
        pairs: list[ExposurePair] = []
        with locked_exposure(self._bench.camera, self.exposure_s):
            for share in EXPOSURE_SHARES:
                try:
                    self._bench.camera.configure(exposure_s=share * self.exposure_s)
                except ConfigError as error:
                    logger.info("exposure left out: %s", error)
                    continue
                frames = [self._grab(receipt) for _ in range(2)]
                light = [decode(frame.pixels, self._tone_curve) for frame in frames]
                if bright is None:
                    middle = light[0].mean(axis=2)
                    bright = middle >= 0.5 * float(np.percentile(middle, 99))
                pairs.append(_compare(frames, light, bright))
        return pairs

    def shoot(self, x_um: float, y_um: float, count: int) -> list[FloatImage]:
        """Return frames of one place in linear light, at the locked exposure."""
        receipt = self._go(x_um, y_um)
        return [
            decode(self._grab(receipt).pixels, self._tone_curve) for _ in range(count)
        ]

    def _go(self, x_um: float, y_um: float) -> MoveReceipt:
        target = StagePosition(x_um=x_um, y_um=y_um, z_um=self._z_um)
        return self._bench.stage.move_to(target)

    def _grab(self, receipt: MoveReceipt) -> Frame:
        frame = self._bench.camera.grab(after=receipt)
        self._hash.update(np.ascontiguousarray(frame.pixels).tobytes())
        return frame


@contextmanager
def locked_exposure(camera: Camera, exposure_s: float) -> Iterator[None]:
    """Set this exposure again on leaving, also after an error.

    An error on the way is not hidden by a camera that then refuses.
    """
    try:
        yield
    except BaseException:
        try:
            camera.configure(exposure_s=exposure_s)
        except BifocusError as error:
            logger.warning("exposure not set back to %g s: %s", exposure_s, error)
        raise
    camera.configure(exposure_s=exposure_s)


def clipped_share(pixels: UInt8Image) -> float:
    """Return the share of pixels with any colour at the upper end of its range."""
    clipped = pixels >= FULL_LEVEL
    return float((clipped.any(axis=2) if clipped.ndim == 3 else clipped).mean())


def _compare(
    frames: Sequence[Frame],
    light: Sequence[FloatImage],
    bright: npt.NDArray[np.bool_],
) -> ExposurePair:
    first, second = light
    difference = second - first
    difference -= difference.mean(axis=(0, 1))  # the lamp may flicker as a whole
    means = [frame[bright].mean(axis=0, dtype=np.float64) for frame in light]
    times_s = [frame.exposure_end_s - frame.exposure_start_s for frame in frames]
    return ExposurePair(
        exposure_s=float(np.mean(times_s)),
        cells=_noise_cells((first + second) * np.float32(0.5)),
        variance=_noise_cells(np.square(difference)) / 2,
        light=np.stack(means),
        clipped=max(clipped_share(frame.pixels) for frame in frames),
    )


def _noise_cells(image: npt.NDArray[Any]) -> Float64:
    rows, columns = (size // _NOISE_CELL_PX for size in image.shape[:2])
    inner = image[: rows * _NOISE_CELL_PX, : columns * _NOISE_CELL_PX]
    cells = cv2.resize(inner, (columns, rows), interpolation=cv2.INTER_AREA)
    return np.asarray(cells, dtype=np.float64)
