"""What only a simulation can know: the true pose, the true focus, the true picture."""

from collections.abc import Callable
from dataclasses import dataclass

from bifocus.hal.defocus_render import DefocusRenderer
from bifocus.hal.sensor import Sensor
from bifocus.hal.virtual_slide import SlideTruth
from bifocus.records import FloatImage, StagePosition, UInt8Image


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

    def commanded_focus_um(self, x_um: float, y_um: float) -> float:
        """Return the z to drive up to for the best focus, at a commanded place.

        Unlike the rest, all in the stage's own um, which may differ from true ones.
        """
        place = self.glass_for(StagePosition(x_um=x_um, y_um=y_um, z_um=0.0))
        focus_um = self.mean_focus_um(place.x_um, place.y_um)
        return self.commanded_for(
            StagePosition(x_um=place.x_um, y_um=place.y_um, z_um=focus_um)
        ).z_um

    def render_truth(self, x_um: float, y_um: float) -> FloatImage:
        """Return the all-in-focus, noise-free linear transmission of a camera field."""
        return self.renderer.render_truth(x_um, y_um)

    def encode(self, light: FloatImage) -> UInt8Image:
        """Return 8-bit levels as the camera would, without noise and falloff."""
        return self.sensor.encode(light)
