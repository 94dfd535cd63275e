"""The `camera:` section of the instrument file: one model for each kind of camera."""

from typing import Annotated, Literal

from pydantic import Field

from bifocus.config_model import Fraction, Model, NonNegative


class VirtualCameraConfig(Model):
    """A simulated free-running colour camera."""

    kind: Literal["virtual"]
    name: str = "virtual camera"
    width_px: Annotated[int, Field(ge=64, le=8192)]
    height_px: Annotated[int, Field(ge=64, le=8192)]
    exposure_s: Annotated[float, Field(gt=0, le=10)] = 0.01
    frame_rate_hz: Annotated[float, Field(gt=0, le=1000)] = 30.0
    transfer_s: NonNegative = 0.0
    stale_frames: Annotated[int, Field(ge=0, le=16)] = 1
    full_well_e: Annotated[float, Field(ge=100, le=1e7)] = 20000.0
    read_noise_e: NonNegative = 8.0
    white_level: Annotated[float, Field(gt=0.2, le=1.0)] = 0.92
    falloff: Fraction = 0.0
