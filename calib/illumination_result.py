"""What the illumination step found, as values, facts, plots and pictures: pure."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import cv2
import numpy as np

from bifocus.calib.chromatic_shift import ColourShift
from bifocus.calib.dark_frame import DarkLevel
from bifocus.calib.illumination_plots import draw_plots
from bifocus.calib.illumination_warnings import Seen, list_warnings
from bifocus.calib.sensor_response import Noise
from bifocus.calib.step_result import StepResult
from bifocus.config import Instrument
from bifocus.illumination import FlatFieldCorrection, GlassLevels
from bifocus.records import FlatField, Measured, UInt8Image
from bifocus.tone import ToneCurve, light_to_levels

_KEYS = ("white_r", "white_g", "white_b")
_PICTURE_PX = 384
FORMULAS = (
    "picture = (levels − dark) / falloff(x, y) · white_max / white_c, in linear light",
    "log falloff(x, y) = smooth surface of 2nd or 4th order, per colour, max = 0",
    "level(t) = dark + slope · t; t: exposure",
    "var = read² + light / gain; var: half the variance of two frames' difference",
)


def compose_result(seen: Seen, config: Instrument, digest: str) -> StepResult:
    """Return the step's result."""
    tone_curve = config.optics.tone_curve
    flat_field = seen.glass.flat_field if seen.glass is not None else None
    values = {
        **_white_values(seen, tone_curve),
        **_dark_value(seen.dark, tone_curve),
        "saturated_share": _saturated_share(seen),
        **_noise_values(seen.noise),
        **_shift_values(seen.shifts),
    }
    return StepResult(
        name="illumination",
        values=values,
        facts=_facts(seen, flat_field, config),
        plots=draw_plots(seen.glass, seen.response, seen.noise),
        pictures=_pictures(seen, flat_field, values, tone_curve),
        warnings=tuple(list_warnings(seen, config)),
        raw_sha256=digest,
    )


def _white_values(seen: Seen, tone_curve: ToneCurve) -> dict[str, Measured]:
    """Return the stored level of glass where each colour is brightest."""
    if seen.glass is None:
        return {}
    dark = seen.dark.light if seen.dark is not None else 0.0
    count = sum(share > 0 for share in seen.glass.frame_shares)
    method = (
        f"smooth surface through the clear glass of {count} places, its brightest "
        "point; scatter between places, misfit, faint stain"
    )
    return {
        key: Measured(
            value=light_to_levels(white + dark, tone_curve),
            standard_uncertainty=_levels_u(white + dark, u, tone_curve),
            method=method,
            unit="levels",
        )
        for key, white, u in zip(
            _KEYS, seen.glass.white, seen.glass.white_u, strict=True
        )
    }


def _dark_value(dark: DarkLevel | None, tone_curve: ToneCurve) -> dict[str, Measured]:
    if dark is None:
        return {}
    return {
        "dark_level": Measured(
            value=light_to_levels(dark.light, tone_curve),
            standard_uncertainty=_levels_u(dark.light, dark.u, tone_curve),
            method=dark.method,
            unit="levels",
        )
    }


def _saturated_share(seen: Seen) -> Measured:
    pixels = sum(look.pixels.shape[0] * look.pixels.shape[1] for look in seen.looks)
    share = float(np.mean([look.clipped for look in seen.looks]))
    return Measured(
        value=share,
        # Binomial; one pixel more or less where there was none.
        standard_uncertainty=float(np.sqrt((share + 1 / pixels) / pixels)),
        method=f"pixels at 255 in any colour, {len(seen.looks)} places",
        unit="",
    )


def _noise_values(noise: Noise | None) -> dict[str, Measured]:
    """Return gain and read noise in electrons, from the photon-transfer line."""
    if noise is None:
        return {}
    gain = 1 / (255 * noise.shot)  # electrons per level of 255
    gain_u = gain * noise.shot_u / noise.shot
    method = "photon transfer: variance of pairs of frames against their light"
    # The root makes the interval lopsided; half of its longer side counts.
    read, low, high = (
        float(np.sqrt(max(noise.read_variance + sign * noise.read_variance_u, 0.0)))
        for sign in (0, -2, 2)
    )
    read_u = max(high - read, read - low) / 2
    to_electrons = 255 * gain
    return {
        "read_noise": Measured(
            value=read * to_electrons,
            standard_uncertainty=float(
                np.hypot(read_u * to_electrons, read * 255 * gain_u)
            ),
            method=method + ", at no light",
            unit="e",
        ),
        "gain_e_per_level": Measured(
            value=gain,
            standard_uncertainty=gain_u,
            method=method + ", its slope; all colours",
            unit="e/level",
        ),
    }


def _shift_values(shifts: Mapping[str, ColourShift | None]) -> dict[str, Measured]:
    return {
        f"chromatic_shift_{name}_px": Measured(
            value=shift.distance_px,
            standard_uncertainty=shift.u_px,
            method=f"registered to green by edges in {shift.parts} parts of the field, "
            "in focus; sideways only",
            unit="px",
        )
        for name, shift in shifts.items()
        if shift is not None
    }


def _facts(
    seen: Seen, flat_field: FlatField | None, config: Instrument
) -> dict[str, Any]:
    glass, response, noise = seen.glass, seen.response, seen.noise
    facts: dict[str, Any] = {
        "flat_field": asdict(flat_field) if flat_field is not None else None,
        "places": len(seen.looks),
        "exposure_s": config.camera.exposure_s,
        "formulas": list(FORMULAS),
    }
    if glass is not None:
        facts["glass"] = {
            "share": float(np.mean(glass.frame_shares)),
            "uncovered": list(glass.uncovered),
            "misfit": glass.misfit,
            "scatter_between_places": glass.frame_scatter,
        }
    if response is not None:
        facts["response"] = {
            "dark_levels": [255 * float(dark) for dark in response.dark],
            "nonlinearity": response.nonlinearity,
            "nonlinearity_of_the_other_tone_curve": response.other_nonlinearity,
        }
    if noise is not None:
        facts["noise"] = {
            "shot_variance_per_light": noise.shot,
            "read_variance": noise.read_variance,
            "read_variance_u": noise.read_variance_u,
            "unit": "linear light, 1 = full scale",
        }
    facts["colour_shifts"] = [
        {"colour": {"r": "red", "b": "blue"}[name], **asdict(shift)}
        for name, shift in seen.shifts.items()
        if shift is not None
    ]
    if seen.dark is not None:
        facts["uncertainty_budget"] = {
            "dark_level": [
                {"part": name, "u_levels": round(255 * u, 6)}
                for name, u in seen.dark.parts.items()
            ]
        }
    return facts


def _pictures(
    seen: Seen,
    flat_field: FlatField | None,
    values: Mapping[str, Measured],
    tone_curve: ToneCurve,
) -> dict[str, UInt8Image]:
    """Return the place with most glass as the camera saw it and as it is corrected."""
    pixels = seen.best.pixels
    if pixels.ndim != 3:
        return {}
    pictures = {"most glass, as seen": _reduced(pixels)}
    if all(key in values for key in _KEYS):
        dark = values["dark_level"].value if "dark_level" in values else 0.0
        red, green, blue = (values[key].value for key in _KEYS)
        glass = GlassLevels(white=(red, green, blue), dark=max(dark, 0.0))
        correction = FlatFieldCorrection(
            flat_field, (pixels.shape[0], pixels.shape[1]), tone_curve, glass
        )
        pictures["the same, corrected"] = _reduced(correction.apply(pixels))
    return pictures


def _reduced(pixels: UInt8Image) -> UInt8Image:
    scale = _PICTURE_PX / max(pixels.shape[:2])
    if scale >= 1:
        return pixels
    size = (round(pixels.shape[1] * scale), round(pixels.shape[0] * scale))
    return np.asarray(
        cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8
    )


def _levels_u(light: float, u: float, tone_curve: ToneCurve) -> float:
    """Return an uncertainty of light as one of stored levels, by the curve's slope."""
    high, low = (light_to_levels(light + sign * u, tone_curve) for sign in (1, -1))
    return (high - low) / 2
