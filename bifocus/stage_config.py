"""The `stage:` section of the instrument file: one model for each kind of stage."""

from typing import Literal

from pydantic import model_validator

from bifocus.config_model import Finite, Model, NonNegative, Positive, Range_um


class Mechanics(Model):
    """The hidden truth of the virtual stage: what a real one does wrong."""

    backlash_um: tuple[NonNegative, NonNegative, NonNegative] = (0.0, 0.0, 0.0)
    repeatability_um: tuple[NonNegative, NonNegative, NonNegative] = (0.0, 0.0, 0.0)
    ring_amplitude_um: NonNegative = 0.0
    ring_frequency_hz: Positive = 20.0
    ring_decay_s: Positive = 0.05
    z_drift_um_per_hour: Finite = 0.0


class VirtualStageConfig(Model):
    """A simulated stage: its advertised numbers, its driver policy, its mechanics."""

    kind: Literal["virtual"]
    name: str = "virtual stage"
    x_um: Range_um
    y_um: Range_um
    z_um: Range_um
    speed_um_per_s: tuple[Positive, Positive, Positive]
    acceleration_um_per_s2: tuple[Positive, Positive, Positive]
    step_um: tuple[Positive, Positive, Positive]
    command_s: NonNegative = 0.005
    settle_s: NonNegative = 0.0
    take_up_um: tuple[NonNegative, NonNegative, NonNegative] = (0.0, 0.0, 0.0)
    mechanics: Mechanics = Mechanics()

    @model_validator(mode="after")
    def _ordered(self) -> "VirtualStageConfig":
        for axis in ("x_um", "y_um", "z_um"):
            low, high = getattr(self, axis)
            if not low < high:
                msg = f"{axis}: the low end {low} must be below the high end {high}"
                raise ValueError(msg)
        return self
