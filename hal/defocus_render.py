"""Image formation: what the virtual camera's sensor sees, by Fourier optics.

Li et al., arXiv 2003.06630, Eqs. 2-3: the picture is glass minus the sum over thin
slices of absorbance, each blurred by the defocus between its height and the focal
plane. Slices are transformed once per place and kept, so a z-stack is cheap.
"""

import threading
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft

from bifocus.config import Optics
from bifocus.hal.otf_bank import OtfBank
from bifocus.hal.virtual_slide import Field, SlideTruth
from bifocus.optics import Objective
from bifocus.records import FloatImage
from bifocus.transfer import Light

Complex64 = npt.NDArray[np.complex64]
Float32 = npt.NDArray[np.float32]

MARGIN_PX = 72  # the blur of 8 um at NA 0.75 reaches 9 um = 36 px of 0.25 um
_TAPER_PX = 12  # the outer part of the margin fades out, against wrap-around edges
_SLICE_UM = 0.2  # a fifth of the depth of field at NA 0.75; contrast error under 2 %
_REUSE_PX = 4.0  # a pose this near is reached by a phase ramp over the kept slices
_WORKERS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slices:
    """Transformed slices of one field: [slice][channel] spectra and their heights."""

    field: Field
    heights_um: tuple[float, ...]
    spectra: list[list[Complex64]]


class DefocusRenderer:
    """Renders the slide at a pose; safe to use from several threads, one at a time.

    Motion during an exposure is not rendered: a frame shows one instant.
    """

    def __init__(
        self,
        slide: SlideTruth,
        optics: Optics,
        shape: tuple[int, int],
        *,
        spherical_waves: float = 0.0,
        light: Light | None = None,
    ) -> None:
        """Take the slide and its optics.

        With a `light` tissue is a weak object in partially coherent light, whose own
        aberration and pupil count; without, light is incoherent.
        """
        self.slide = slide
        self.shape = shape
        self._padded = (_padded_size(shape[0]), _padded_size(shape[1]))
        self._objectives = tuple(
            Objective(
                na=optics.na,
                wavelength_um=wavelength_um,
                refractive_index=optics.refractive_index,
                pupil=optics.pupil,
                spherical_waves=spherical_waves,
            )
            for wavelength_um in optics.wavelengths_um
        )
        self._bank = OtfBank(self._padded, slide.pixel_um, light)
        self._taper = _make_taper(self._padded)
        self._kept: _Slices | None = None
        self._lock = threading.Lock()

    @property
    def green(self) -> Objective:
        """The objective in green light."""
        return self._objectives[1]

    def render(self, x_um: float, y_um: float, z_um: float) -> FloatImage:
        """Return linear transmission (rows, columns, 3) with the stage at this pose.

        Parameters
        ----------
        x_um, y_um
            True stage position: where the middle of the camera looks.
        z_um
            True stage height; tissue at this height is in focus.

        Returns
        -------
        ndarray of float32
            Glass is 1; ringing may leave 0..1 by a little and is clipped below at 0.
        """
        return self._render(x_um, y_um, z_um)

    def render_truth(self, x_um: float, y_um: float) -> FloatImage:
        """Return the all-in-focus picture: every slice and colour at its best focus."""
        return self._render(x_um, y_um, None)

    def _render(self, x_um: float, y_um: float, z_um: float | None) -> FloatImage:
        rows, columns = self.shape
        image = np.empty((rows, columns, 3), np.float32)
        with self._lock:
            slices = self._ensure_slices(x_um, y_um)
            ramp = self._phase_ramp(slices.field, x_um, y_um)
            for channel in range(3):
                total = self._blurred_sum(slices, channel, z_um)
                if ramp is not None:
                    total *= ramp
                picture = fft.irfft2(total, s=self._padded, workers=_WORKERS)
                inner = picture[MARGIN_PX : MARGIN_PX + rows, MARGIN_PX:]
                image[..., channel] = inner[:, :columns]
        np.subtract(1, image, out=image)
        return np.maximum(image, 0, out=image)

    def _blurred_sum(
        self, slices: _Slices, channel: int, z_um: float | None
    ) -> Complex64:
        objective = self._objectives[channel]
        chromatic_um = self.slide.config.chromatic_um[channel]
        if z_um is None:
            total = np.sum([spectra[channel] for spectra in slices.spectra], axis=0)
            return np.asarray(total * self._bank.grid(objective, 0.0), np.complex64)
        total = np.zeros_like(slices.spectra[0][channel])
        for height_um, spectra in zip(slices.heights_um, slices.spectra, strict=True):
            defocus_um = height_um + chromatic_um - z_um
            total += spectra[channel] * self._bank.grid(objective, defocus_um)
        return total

    def _ensure_slices(self, x_um: float, y_um: float) -> _Slices:
        column, row = self._corner_px(x_um, y_um)
        kept = self._kept
        if kept is not None:
            far = max(abs(column - kept.field.column), abs(row - kept.field.row))
            if far <= _REUSE_PX:
                return kept
        self._kept = None  # free the memory before the next is made
        field = Field(row=round(row), column=round(column), shape=self._padded)
        self._kept = self._cut(field)
        return self._kept

    def _corner_px(self, x_um: float, y_um: float) -> tuple[float, float]:
        column, row = self.slide.corner_px(x_um, y_um, self.shape)
        return column - MARGIN_PX, row - MARGIN_PX

    def _cut(self, field: Field) -> _Slices:
        """Share the absorbance among slices, linearly between neighbours."""
        absorbance = self.slide.absorbance(field) * self._taper[..., None]
        planes = np.ascontiguousarray(np.moveaxis(absorbance, 2, 0))
        heights = self.slide.field_heights_um(field)
        layers = [
            (heights + np.float32(offset_um), weight)
            for offset_um, weight in zip(
                self.slide.layer_offsets_um.tolist(),
                self.slide.layer_weights(field),
                strict=True,
            )
        ]
        low_um = min(float(height.min()) for height, _ in layers)
        high_um = max(float(height.max()) for height, _ in layers)
        first, last = int(low_um // _SLICE_UM), int(high_um // _SLICE_UM) + 1
        centres_um, spectra = [], []
        for index in range(first, last + 1):
            centre_um = index * _SLICE_UM
            share = np.zeros(field.shape, np.float32)
            for height, weight in layers:
                share += weight * _hat(height, centre_um)
            if share.any():
                centres_um.append(centre_um)
                spectra.append([_transform(plane * share) for plane in planes])
        return _Slices(field=field, heights_um=tuple(centres_um), spectra=spectra)

    def _phase_ramp(self, field: Field, x_um: float, y_um: float) -> Complex64 | None:
        """Return the factor that moves the kept field to the exact position."""
        column, row = self._corner_px(x_um, y_um)
        shift_x, shift_y = column - field.column, row - field.row
        if max(abs(shift_x), abs(shift_y)) < 1e-4:
            return None
        height, width = self._padded
        fy, fx = np.fft.fftfreq(height), np.fft.rfftfreq(width)
        along_y = np.exp(2j * np.pi * fy * shift_y).astype(np.complex64)
        along_x = np.exp(2j * np.pi * fx * shift_x).astype(np.complex64)
        result: Complex64 = along_y[:, None] * along_x
        return result


def _padded_size(size: int) -> int:
    return int(fft.next_fast_len(size + 2 * MARGIN_PX, real=True))


def _transform(plane: Float32) -> Complex64:
    # scipy keeps single precision: float32 in, complex64 out.
    return np.asarray(fft.rfft2(plane, workers=_WORKERS), np.complex64)


def _hat(height_um: Float32, centre_um: float) -> Float32:
    """Share of the slice at `centre_um`: 1 on it, 0 one slice away."""
    distance = np.abs(height_um - np.float32(centre_um))
    distance *= np.float32(-1 / _SLICE_UM)
    distance += np.float32(1)
    result: Float32 = np.maximum(distance, 0, out=distance)
    return result


def _make_taper(shape: tuple[int, ...]) -> Float32:
    """Return 1 inside, falling as a raised cosine to 0 at the very edge."""

    def along(size: int) -> Float32:
        edge = np.minimum(np.arange(size), np.arange(size)[::-1]) + 0.5
        ramp = np.clip(edge / _TAPER_PX, 0, 1)
        rise: Float32 = (0.5 - 0.5 * np.cos(np.pi * ramp)).astype(np.float32)
        return rise

    result: Float32 = along(shape[0])[:, None] * along(shape[1])
    return result
