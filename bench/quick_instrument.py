"""A quick virtual instrument for Monte Carlo: real stage and camera, periodic specimen.

The stage (play, scale, drift, scatter), the camera and its noise are those of
`bifocus.hal`; only the specimen is simpler: a small field of tissue that repeats
itself, in a few thin layers, so that a picture costs under a millisecond. Its optics
are the transfer functions of `bifocus.transfer`.
"""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import scipy.fft

from bifocus.calib.step_result import Bench
from bifocus.clock import VirtualClock
from bifocus.config import Instrument
from bifocus.hal.procedural_tissue import make_procedural_tissue
from bifocus.hal.sensor import Sensor
from bifocus.hal.virtual_camera import VirtualCamera
from bifocus.hal.virtual_stage import VirtualStage
from bifocus.optics import Objective, depth_of_field_um, frequency_grid_per_um
from bifocus.records import FloatImage, StagePosition, UInt8Image
from bifocus.sharpness import brenner
from bifocus.transfer import Light, compute_transfer

Complex64 = npt.NDArray[np.complex64]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

_RADII = 512
_NODE_SHARE = 0.1  # of lambda / NA^2: the transfer is kept at this step of defocus
_MARGIN_PX = 16  # of the tissue that is folded over, so that it repeats without a seam


@dataclass(frozen=True, slots=True, kw_only=True)
class Specimen:
    """Tissue in thin layers: heights, and the spectrum of each one's absorbance.

    Whole fields lie higher by `tilt_mrad` x, y; within a field there is no tilt.
    """

    heights_um: tuple[float, ...]
    spectra: Complex64
    side_px: int
    pixel_um: float
    tilt_mrad: tuple[float, float]


def make_specimen(
    *,
    side_px: int,
    pixel_um: float,
    heights_um: tuple[float, ...],
    seed: int,
    tilt_mrad: tuple[float, float] = (0.0, 0.0),
) -> Specimen:
    """Make a periodic field of tissue, shared unevenly among its layers."""
    green = _periodic(side_px, seed)
    rng = np.random.default_rng([seed, 0x5EC])
    scores = np.exp([2 * _smooth(side_px, rng) for _ in heights_um])
    shares = scores / scores.sum(axis=0)
    spectra = scipy.fft.rfft2((shares * green).astype(np.float32))
    return Specimen(
        heights_um=heights_um,
        spectra=spectra.astype(np.complex64),
        side_px=side_px,
        pixel_um=pixel_um,
        tilt_mrad=tilt_mrad,
    )


class PeriodicRenderer:
    """Renders a specimen at any pose; stands in for `DefocusRenderer`."""

    def __init__(self, specimen: Specimen, objective: Objective, light: Light) -> None:
        self.specimen = specimen
        self.objective = objective
        self.shape = (specimen.side_px, specimen.side_px)
        frequency = frequency_grid_per_um(self.shape, specimen.pixel_um)
        highest = float(frequency.max())
        radii = np.asarray(np.linspace(0, highest, _RADII), dtype=np.float64)
        self._index = np.round(frequency * ((_RADII - 1) / highest)).astype(np.intp)
        unit_um = objective.wavelength_um / objective.na**2
        self._node_um = _NODE_SHARE * unit_um
        half = round(8 / _NODE_SHARE)
        nodes_um = np.arange(-half, half + 1, dtype=np.float64) * self._node_um
        self._first_um = float(nodes_um[0])
        self._tables = compute_transfer(objective, light, radii, nodes_um)

    def render(self, x_um: float, y_um: float, z_um: float) -> FloatImage:
        """Return green light (side, side, 1) with the stage truly at this pose."""
        tilt_x, tilt_y = self.specimen.tilt_mrad
        z_um -= 1e-3 * (tilt_x * x_um + tilt_y * y_um)
        total = np.zeros(self.specimen.spectra.shape[1:], np.complex64)
        for height_um, spectrum in zip(
            self.specimen.heights_um, self.specimen.spectra, strict=True
        ):
            total += spectrum * self._transfer(height_um - z_um)
        if x_um or y_um:
            total *= self._ramp(x_um, y_um)
        light = np.maximum(1 - scipy.fft.irfft2(total, s=self.shape), 0)
        return light[..., None].astype(np.float32)

    def _transfer(self, defocus_um: float) -> Float32:
        place = (defocus_um - self._first_um) / self._node_um
        place = min(max(place, 0.0), len(self._tables) - 1.001)
        low = int(place)
        share = np.float32(place - low)
        table = self._tables[low] * (1 - share) + self._tables[low + 1] * share
        result: Float32 = table.take(self._index)
        return result

    def _ramp(self, x_um: float, y_um: float) -> Complex64:
        pixel_um, (rows, columns) = self.specimen.pixel_um, self.shape
        fy = np.fft.fftfreq(rows, pixel_um)[:, None]
        fx = np.fft.rfftfreq(columns, pixel_um)[None, :]
        ramp = np.exp(2j * np.pi * (fy * y_um + fx * x_um))
        return np.asarray(ramp, np.complex64)


class GreySensor:
    """The green of a sensor alone: a third of the noise to draw."""

    def __init__(self, sensor: Sensor) -> None:
        self._sensor = sensor

    def expose(
        self,
        light: FloatImage,
        rng: np.random.Generator,
        gain: float = 1.0,
        out: UInt8Image | None = None,
    ) -> UInt8Image:
        """Return the noisy grey picture (rows, columns); colour's `out` is not used."""
        return self._sensor.expose(light, rng, gain)[..., 0]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuickInstrument:
    """A bench for calibration steps, and what it truly is."""

    bench: Bench
    stage: VirtualStage
    renderer: PeriodicRenderer

    def commanded_focus_um(self, t_s: float) -> float:
        """Return the truth of `focus_um` at a time: driven upward, all play closed."""
        glass = StagePosition(
            x_um=0.0, y_um=0.0, z_um=self.sharpest_um() - self.stage.z_drift_um(t_s)
        )
        return self.stage.commanded_for(glass).z_um

    def sharpest_um(self) -> float:
        """Return the true z of the sharpest picture, free of noise."""
        objective = self.renderer.objective
        half_um = 2 * depth_of_field_um(objective, self.renderer.specimen.pixel_um)
        centre_um = float(np.mean(self.renderer.specimen.heights_um))
        for _ in range(3):
            z_um = np.linspace(centre_um - half_um, centre_um + half_um, 21)
            curve = [
                brenner(self.renderer.render(0.0, 0.0, float(z))[..., 0]) for z in z_um
            ]
            centre_um = float(z_um[int(np.argmax(curve))])
            half_um /= 5
        bend, slope, _ = np.polyfit(z_um - centre_um, curve, 2)
        return centre_um - float(slope / (2 * bend))


def make_instrument(
    *,
    specimen: Specimen,
    light: Light,
    na: float,
    seed: int,
    mechanics: dict[str, Any],
    stage: dict[str, Any] | None = None,
    camera: dict[str, Any] | None = None,
    calibration: dict[str, Any] | None = None,
    scan: dict[str, Any] | None = None,
    true_na: float | None = None,
) -> QuickInstrument:
    """Open a quick instrument; sections as in an instrument file.

    `na` is the file's, and the true one as well where `true_na` is left out.
    """
    side_px = specimen.side_px
    config = Instrument.model_validate(
        {
            "version": 1,
            "name": "quick instrument",
            "seed": seed,
            "clock": "virtual",
            "optics": {"na": na, "pixel_um": specimen.pixel_um},
            "stage": {
                "kind": "virtual",
                "x_um": (-1000.0, 1000.0),
                "y_um": (-1000.0, 1000.0),
                "z_um": (-400.0, 400.0),
                "speed_um_per_s": (2000.0, 2000.0, 500.0),
                "acceleration_um_per_s2": (20000.0, 20000.0, 5000.0),
                "step_um": (0.1, 0.1, 0.05),
                "settle_s": 0.1,
                "mechanics": mechanics,
                **(stage or {}),
            },
            "camera": {
                "kind": "virtual",
                "width_px": side_px,
                "height_px": side_px,
                **(camera or {}),
            },
            "virtual_slide": {"tissue": "procedural"},
            "calibration": calibration or {},
            "scan": scan or {},
        }
    )
    clock = VirtualClock()
    renderer = PeriodicRenderer(
        specimen,
        Objective(na=true_na or na, wavelength_um=config.optics.wavelengths_um[1]),
        light,
    )
    driver = VirtualStage(cast("Any", config.stage), clock=clock, seed=seed)
    facts = cast("Any", config.camera)
    eye = VirtualCamera(
        facts,
        renderer=cast("Any", renderer),
        sensor=cast(
            "Any",
            GreySensor(
                Sensor(
                    full_well_e=facts.full_well_e,
                    read_noise_e=facts.read_noise_e,
                    white_level=facts.white_level,
                    falloff=0.0,
                    tone_curve="linear",
                )
            ),
        ),
        poses=driver,
        clock=clock,
        seed=seed,
    )
    bench = Bench(
        stage=driver,
        camera=eye,
        clock=clock,
        config=config,
        region_um=(-0.5, -0.5, 1.0, 1.0),  # its middle is (0, 0)
    )
    return QuickInstrument(bench=bench, stage=driver, renderer=renderer)


def _periodic(side_px: int, seed: int) -> Float32:
    """Return absorbance of tissue that goes on where it ends, (side, side)."""
    wide = side_px + _MARGIN_PX
    tissue = 1 - make_procedural_tissue(wide, wide, seed)[..., 1]
    rise = np.linspace(0, 1, _MARGIN_PX, dtype=np.float32)
    for _ in range(2):
        kept = tissue[:side_px].copy()
        kept[:_MARGIN_PX] *= rise[:, None]
        kept[:_MARGIN_PX] += (1 - rise)[:, None] * tissue[side_px:]
        tissue = kept.T
    return np.ascontiguousarray(tissue)


def _smooth(side_px: int, rng: np.random.Generator) -> Float32:
    """Return a slow periodic field of unit spread."""
    noise = scipy.fft.rfft2(rng.standard_normal((side_px, side_px)))
    frequency = frequency_grid_per_um((side_px, side_px), 1.0) * side_px
    soft = scipy.fft.irfft2(noise * np.exp(-((frequency / 3) ** 2)))
    return np.asarray(soft / soft.std(), np.float32)
