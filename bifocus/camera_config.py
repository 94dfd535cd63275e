"""The `camera:` section of the instrument file: one model for each kind of camera."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from bifocus.config_model import Fraction, Model, NonNegative, Positive
from bifocus.micromanager_config import Label, MicroManagerCore

Pixels = Annotated[int, Field(ge=64, le=8192)]
Exposure_s = Annotated[float, Field(gt=0, le=10)]
Rate_hz = Annotated[float, Field(gt=0, le=1000)]


Balance = Annotated[float, Field(ge=0.2, le=5)]
Place = Annotated[float, Field(ge=-1, le=1)]


class VirtualSensor(Model):
    """The sensor and the lamp of a simulated camera: hidden truth, faults included.

    Attributes
    ----------
    white_level
        Share of full scale that glass in the field's middle reaches.
    falloff, falloff_middle
        How much darker the light is at the field's corners, and where it is brightest:
        x, y from -1 to 1 across the field.
    white_balance
        Factor of each colour, red, green, blue; 1 is balanced.
    dark_level
        What is added to all pixels, in levels of 255 of linear light.
    lamp
        `off` leaves the slide without light.
    tone_curve
        What the camera truly does; left out, it is as `optics.tone_curve` declares.
    """

    full_well_e: Annotated[float, Field(ge=100, le=1e7)] = 20000.0
    read_noise_e: NonNegative = 8.0
    white_level: Annotated[float, Field(gt=0.01, le=4.0)] = 0.92
    falloff: Fraction = 0.0
    falloff_middle: tuple[Place, Place] = (0.0, 0.0)
    white_balance: tuple[Balance, Balance, Balance] = (1.0, 1.0, 1.0)
    dark_level: Annotated[float, Field(ge=0, le=64)] = 0.0
    lamp: Literal["on", "off"] = "on"
    tone_curve: Literal["linear", "srgb"] | None = None


class VirtualCameraConfig(VirtualSensor):
    """A simulated free-running colour camera."""

    kind: Literal["virtual"]
    name: str = "virtual camera"
    width_px: Pixels
    height_px: Pixels
    exposure_s: Exposure_s = 0.01
    frame_rate_hz: Rate_hz = 30.0
    transfer_s: NonNegative = 0.0
    stale_frames: Annotated[int, Field(ge=0, le=16)] = 1

    @property
    def is_simulated(self) -> bool:
        """Always."""
        return True

    @property
    def needs_virtual_slide(self) -> bool:
        """Always."""
        return True


class RealCameraConfig(Model):
    """What every real camera has.

    Attributes
    ----------
    transfer_s
        Time from the end of an exposure to the frame's arrival, in the ordinary case.
    stale_frames
        Whole frames that camera and driver may hold back; used where frames carry no
        time of their own.
    timeout_s
        Silence after which the camera counts as lost, on top of exposure and transfer.
    simulated
        Must be said of a vendor's emulation; it is stamped into every output.
    """

    width_px: Pixels
    height_px: Pixels
    exposure_s: Exposure_s = 0.01
    exposure_limits_s: tuple[Exposure_s, Exposure_s] = (1e-5, 10.0)
    frame_rate_hz: Rate_hz = 30.0
    transfer_s: NonNegative = 0.05
    stale_frames: Annotated[int, Field(ge=0, le=32)] = 4
    timeout_s: Annotated[float, Field(gt=0, le=120)] = 3.0
    simulated: bool = False

    @model_validator(mode="after")
    def _exposure_within_limits(self) -> "RealCameraConfig":
        low_s, high_s = self.exposure_limits_s
        if not low_s <= self.exposure_s <= high_s:
            msg = (
                f"exposure_s {self.exposure_s} is outside exposure_limits_s "
                f"{low_s}..{high_s}"
            )
            raise ValueError(msg)
        return self

    @property
    def is_simulated(self) -> bool:
        """Whether the pixels are no real camera's."""
        return self.simulated

    @property
    def needs_virtual_slide(self) -> bool:
        """Whether the camera looks at the virtual slide."""
        return False


class OpenCvCameraConfig(RealCameraConfig):
    """A UVC/V4L2 camera, or the stream of a network camera, read by OpenCV.

    Attributes
    ----------
    device
        Number of the video device, its path (best one under `/dev/v4l/by-id`), or URL.
    pixel_format
        V4L2's code of four characters for the wire, such as MJPG or YUYV.
    controls
        `v4l2`: exposure, gain and white balance are set and read back. `fixed`: they
        are locked elsewhere (network camera), and `exposure_s` states what they are.
    gain
        In the camera's own units; left out, it stays as it is.
    timestamps
        `driver`: the kernel's time of each frame; `arrival`: when it came, less what
        `stale_frames` frames may hide.
    """

    kind: Literal["opencv"]
    device: Annotated[int, Field(ge=0)] | Label = 0
    pixel_format: Annotated[str, Field(pattern=r"^[A-Z0-9 ]{4}$")] = "MJPG"
    controls: Literal["v4l2", "fixed"] = "v4l2"
    timestamps: Literal["driver", "arrival"] = "driver"
    white_balance_k: Annotated[int, Field(ge=2000, le=10000)] = 5000
    gain: NonNegative | None = None

    @model_validator(mode="after")
    def _driver_times_need_v4l2(self) -> "OpenCvCameraConfig":
        if self.controls == "fixed" and self.timestamps == "driver":
            msg = "`controls: fixed` needs `timestamps: arrival`; only V4L2 tells times"
            raise ValueError(msg)
        return self


class GStreamerCameraConfig(RealCameraConfig):
    """A GStreamer pipeline read by OpenCV.

    `pipeline` is `jetson` for the ready-made one of a CSI camera, or the pipeline's own
    text, with BGR out and `appsink` at its end. `{width_px}`, `{height_px}`,
    `{frame_rate_hz}` and `{exposure_ns}` in it are filled in; without the last, the
    exposure is what the text locks it to, and `exposure_s` must state it.
    """

    kind: Literal["gstreamer"]
    pipeline: Label = "jetson"


class AravisCameraConfig(RealCameraConfig):
    """A GenICam camera (GigE Vision, USB3 Vision) through Aravis.

    `address` is an IP address, Aravis' name of the device, empty for the only camera,
    or `virtual`: a GigE Vision camera that this program starts on the loopback network
    and that looks at the virtual slide with `sensor`.
    """

    kind: Literal["aravis"]
    address: str = ""
    pixel_format: Literal[
        "RGB8", "BayerRG8", "BayerGR8", "BayerGB8", "BayerBG8", "Mono8"
    ] = "RGB8"
    trigger: Literal["software", "free"] = "software"
    sensor: VirtualSensor = VirtualSensor()

    @property
    def is_simulated(self) -> bool:
        """Whether the pixels are no real camera's."""
        return self.simulated or self.needs_virtual_slide

    @property
    def needs_virtual_slide(self) -> bool:
        """Whether this program is to serve the camera itself."""
        return self.address == "virtual"


class BaslerCameraConfig(RealCameraConfig):
    """A Basler camera through pypylon; `serial` is empty for the only camera."""

    kind: Literal["basler"]
    serial: str = ""
    pixel_format: Literal[
        "RGB8", "BayerRG8", "BayerGR8", "BayerGB8", "BayerBG8", "Mono8"
    ] = "BayerRG8"
    trigger: Literal["software", "free"] = "software"


class Picamera2CameraConfig(RealCameraConfig):
    """A Raspberry Pi camera through picamera2, with gains locked."""

    kind: Literal["picamera2"]
    camera_number: Annotated[int, Field(ge=0, le=7)] = 0
    analogue_gain: Annotated[float, Field(ge=1, le=64)] = 1.0
    colour_gains: tuple[Positive, Positive] = (1.8, 1.6)


class MicroManagerCameraConfig(RealCameraConfig):
    """Any camera of Micro-Manager; `pixel_format` is its 8-bit PixelType."""

    kind: Literal["micromanager"]
    core: MicroManagerCore
    device: Label
    pixel_format: Label = "32bitRGB"

    @property
    def is_simulated(self) -> bool:
        """Whether the camera is one of Micro-Manager's simulations."""
        return self.simulated or self.core.simulates(self.device)


CameraConfig = Annotated[
    VirtualCameraConfig
    | OpenCvCameraConfig
    | GStreamerCameraConfig
    | AravisCameraConfig
    | BaslerCameraConfig
    | Picamera2CameraConfig
    | MicroManagerCameraConfig,
    Field(discriminator="kind"),
]
