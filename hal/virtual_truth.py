"""What only a simulation can know: the true pose, the true focus, the true picture."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bifocus.hal.defocus_render import DefocusRenderer
from bifocus.hal.sensor import Sensor, illumination
from bifocus.hal.virtual_slide import SlideTruth
from bifocus.optics import depth_of_field_um
from bifocus.records import FloatImage, StagePosition, UInt8Image
from bifocus.sharpness import brenner, to_gray


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualTruth:
    """The virtual instrument's hidden side, for reports and tests; never for the loop.

    All positions are true stage_um of the middle of the camera's field.
    """

    slide: SlideTruth
    renderer: DefocusRenderer
    sensor: Sensor
    tissue_description: str
    true_pose_at: Callable[[float], StagePosition]
    glass_for: Callable[[StagePosition], StagePosition]
    commanded_for: Callable[[StagePosition], StagePosition]
    z_drift_um: Callable[[float], float]

    def height_um(self, x_um: float, y_um: float) -> float:
        """Return the stage z of best focus at one place."""
        return self.slide.height_um(x_um, y_um)

    def mean_focus_um(
        self, x_um: float, y_um: float, shape: tuple[int, int] | None = None
    ) -> float:
        """Return the absorbance-weighted best focus of a field (default: the camera's).

        Drift and play of the stage come on top: compare with true poses.
        """
        return self.slide.mean_focus_um(x_um, y_um, shape or self.renderer.shape)

    def sharpest_um(self, x_um: float, y_um: float) -> float:
        """Return the true z at which the field's green is sharpest, free of noise.

        This is what *focus* means in calibration (`bifocus.focus_curve`); with
        aberrations it differs from `mean_focus_um`.
        """
        objective = self.renderer.green
        dof_um = depth_of_field_um(objective, self.slide.pixel_um)
        centre_um = self.mean_focus_um(x_um, y_um)
        centre_um += self.slide.config.chromatic_um[1]
        for half_um, count in ((2 * dof_um, 17), (0.3 * dof_um, 9)):
            z_um = centre_um + np.linspace(-half_um, half_um, count)
            curve = [self._sharpness(x_um, y_um, float(z)) for z in z_um]
            centre_um = float(z_um[int(np.argmax(curve))])
        log_curve = np.log(curve)
        bend, slope, _ = np.polyfit(z_um - centre_um, log_curve, 2)
        return centre_um - float(slope / (2 * bend))

    def commanded_focus_um(
        self,
        x_um: float,
        y_um: float,
        t_s: float | None = None,
        *,
        of: Literal["sharpness", "tissue"] = "sharpness",
    ) -> float:
        """Return the truth of `focus_um`: the z to drive up to at `t_s` for focus.

        Of the sharpest picture, or of the tissue itself in green: n = 0 of the fusion.

        x, y and the result are in the stage's own um, which may differ from true ones;
        driven upward, with all play closed. `t_s` is on the instrument's clock, as
        `facts["reference_s"]` of the step `focus`; left out, nothing has drifted.
        """
        place = self.glass_for(StagePosition(x_um=x_um, y_um=y_um, z_um=0.0))
        if of == "sharpness":
            focus_um = self.sharpest_um(place.x_um, place.y_um)
        else:
            focus_um = self.mean_focus_um(place.x_um, place.y_um)
            focus_um += self.slide.config.chromatic_um[1]
        if t_s is not None:
            focus_um -= self.z_drift_um(t_s)
        return self.commanded_for(
            StagePosition(x_um=place.x_um, y_um=place.y_um, z_um=focus_um)
        ).z_um

    def _sharpness(self, x_um: float, y_um: float, z_um: float) -> float:
        light = self.renderer.render(x_um, y_um, z_um)
        sensor = self.sensor
        flat = illumination(light.shape[:2], sensor.falloff, sensor.falloff_middle)
        return brenner(to_gray(sensor.encode(light * flat[..., None])))

    def render_truth(self, x_um: float, y_um: float) -> FloatImage:
        """Return the all-in-focus, noise-free linear transmission of a camera field."""
        return self.renderer.render_truth(x_um, y_um)

    def encode(self, light: FloatImage) -> UInt8Image:
        """Return 8-bit levels as the camera would, without noise and falloff."""
        return self.sensor.encode(light)
