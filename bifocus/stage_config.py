"""The `stage:` section of the instrument file: one model for each kind of stage."""

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from bifocus.config_model import Finite, Model, NonNegative, Positive, Range_um
from bifocus.micromanager_config import Label, MicroManagerCore

PerAxis = tuple[Positive, Positive, Positive]
Margins_um = tuple[NonNegative, NonNegative, NonNegative]


class Mechanics(Model):
    """The hidden truth of the virtual stage: what a real one does wrong.

    `scale` is true um per commanded um, about the place where the power came on.
    `periodic_um` is the amplitude of a sine that repeats with every motor turn, which
    is `periodic_period_um` of commanded travel.
    """

    scale: PerAxis = (1.0, 1.0, 1.0)
    periodic_um: Margins_um = (0.0, 0.0, 0.0)
    periodic_period_um: PerAxis = (1000.0, 1000.0, 1000.0)
    backlash_um: Margins_um = (0.0, 0.0, 0.0)
    repeatability_um: Margins_um = (0.0, 0.0, 0.0)
    ring_amplitude_um: NonNegative = 0.0
    ring_frequency_hz: Positive = 20.0
    ring_decay_s: Positive = 0.05
    z_drift_um_per_hour: Finite = 0.0

    @model_validator(mode="after")
    def _turns_one_way(self) -> "Mechanics":
        pairs = zip(self.periodic_um, self.periodic_period_um, strict=True)
        if any(2 * math.pi * by_um >= period_um for by_um, period_um in pairs):
            msg = (
                "periodic_um: must stay under periodic_period_um / 2 pi, or the glass "
                "would go back while the motor goes on"
            )
            raise ValueError(msg)
        return self


class _Travel(Model):
    """What every stage has: a name, its travel, its pace and the driver's policy."""

    x_um: Range_um
    y_um: Range_um
    z_um: Range_um
    speed_um_per_s: PerAxis
    acceleration_um_per_s2: PerAxis
    step_um: PerAxis
    settle_s: NonNegative = 0.0
    take_up_um: Margins_um = (0.0, 0.0, 0.0)

    @model_validator(mode="after")
    def _ordered(self) -> "_Travel":
        for axis in ("x_um", "y_um", "z_um"):
            low, high = getattr(self, axis)
            if not low < high:
                msg = f"{axis}: the low end {low} must be below the high end {high}"
                raise ValueError(msg)
        return self


class VirtualStageConfig(_Travel):
    """A simulated stage: its advertised numbers, its driver policy, its mechanics."""

    kind: Literal["virtual"]
    name: str = "virtual stage"
    command_s: NonNegative = 0.005
    mechanics: Mechanics = Mechanics()

    @property
    def is_simulated(self) -> bool:
        """Always."""
        return True

    def virtual_twin(self) -> "VirtualStageConfig":
        """Return itself."""
        return self


class ObjectiveGuard(Model):
    """Keeps the objective off the glass: the lowest z follows from optics and slide.

    `bed_focus_um` is the z at which the bed that carries the slide would be in focus.
    From there the lens comes to touch the top of the glass once z has fallen by the
    working distance less `slide_thickness_um` (slide and cover glass; 0 where the
    objective looks from the bed's side, as in an inverted microscope).
    """

    bed_focus_um: Finite
    working_distance_um: Positive
    slide_thickness_um: NonNegative = 1170.0  # ISO 8037-1 slide and a 0.17 mm cover
    margin_um: NonNegative = 50.0

    @property
    def lowest_z_um(self) -> float:
        """The z below which the lens would come nearer to the glass than the margin."""
        glass_um = self.bed_focus_um + self.slide_thickness_um
        return glass_um - self.working_distance_um + self.margin_um


class Deadlines(Model):
    """When a wait ends: a move may take `motion_factor` times its physics and a bit."""

    reply_s: Annotated[float, Field(gt=0, le=30)] = 1.0
    motion_factor: Annotated[float, Field(ge=1.1, le=10)] = 1.5
    motion_extra_s: Annotated[float, Field(gt=0, le=60)] = 2.0
    home_s: Annotated[float, Field(gt=0, le=3600)] = 120.0
    boot_s: Annotated[float, Field(gt=0, le=60)] = 6.0


class RealStageConfig(_Travel):
    """What all real stages have in common.

    `step_um` is the smallest commanded step in the stage's frame. `invert` turns axes
    whose controller counts the other way: x must point right and y down in the
    picture, and z up, away from the slide.
    """

    typical_command_s: ClassVar[float] = 0.004

    name: str = "stage"
    invert: tuple[bool, bool, bool] = (False, False, False)
    objective_guard: ObjectiveGuard | None = None
    deadlines: Deadlines = Deadlines()

    @model_validator(mode="after")
    def _guard_leaves_room(self) -> "RealStageConfig":
        guard, top_um = self.objective_guard, self.z_um[1]
        if guard is not None and guard.lowest_z_um + self.take_up_um[2] >= top_um:
            msg = (
                f"objective_guard: z must stay above {guard.lowest_z_um:g} um, which "
                f"leaves nothing below the top of z_um, {top_um:g} um"
            )
            raise ValueError(msg)
        return self

    @property
    def safe_z_um(self) -> Range_um:
        """The travel of z less what the objective guard keeps out."""
        low_um, high_um = self.z_um
        if self.objective_guard is not None:
            low_um = max(low_um, self.objective_guard.lowest_z_um)
        return low_um, high_um

    def virtual_twin(self) -> VirtualStageConfig:
        """Return a simulated stage of the same travel and pace, for estimates."""
        shared = {key: getattr(self, key) for key in _Travel.model_fields}
        own = {"z_um": self.safe_z_um, "command_s": self.typical_command_s}
        return VirtualStageConfig(kind="virtual", name=self.name, **(shared | own))


class VirtualFirmware(Model):
    """The board that this process plays itself, where `port` is `virtual`.

    Power comes on with the glass at zero. `link: pty` puts a pseudo-terminal between.
    """

    variant: (
        Literal["sangaboard", "sangaboard-v1", "grbl", "marlin", "asi", "asi-tiger"]
        | None
    ) = None
    link: Literal["direct", "pty"] = "direct"
    mechanics: Mechanics = Mechanics()


class SerialStageConfig(RealStageConfig):
    """What all boards on a serial port have in common.

    `assert_dtr` sets the port's control lines. `simulated` says that no real board is
    behind the port; with `port: virtual` this process plays the board.
    """

    port: Annotated[str, Field(min_length=1)]
    baud: Annotated[int, Field(ge=1200, le=4_000_000)] = 115200
    assert_dtr: bool = True
    simulated: bool = False
    homing: Literal["none", "switches"] = "none"
    stop_latency_s: Annotated[float, Field(ge=0.05, le=10)] = 0.5
    virtual_firmware: VirtualFirmware | None = None

    @model_validator(mode="after")
    def _simulated_where_virtual(self) -> "SerialStageConfig":
        if self.port != "virtual":
            if self.virtual_firmware is not None:
                msg = "virtual_firmware: needs `port: virtual`"
                raise ValueError(msg)
            return self
        if not self.simulated or self.homing != "none":
            msg = "port: virtual needs `simulated: true` and `homing: none`"
            raise ValueError(msg)
        kind = str(getattr(self, "kind", ""))
        firmware = self.virtual_firmware
        variant = firmware.variant if firmware is not None else None
        if variant is not None and variant.partition("-")[0] != kind:
            msg = f"virtual_firmware.variant: {variant} is no {kind}"
            raise ValueError(msg)
        return self

    @property
    def is_simulated(self) -> bool:
        """Whether the board behind the port is virtual firmware."""
        return self.simulated


class SangaboardStageConfig(SerialStageConfig):
    """A Sangaboard with firmware 0.5 or 1.x, as OpenFlexure microscopes have.

    One pace serves all axes, so `step_um / speed_um_per_s` is the board's step delay.
    """

    kind: Literal["sangaboard"]

    @model_validator(mode="after")
    def _homes_away_from_the_glass(self) -> "SangaboardStageConfig":
        if self.homing == "switches" and not self.invert[2]:
            msg = (
                "homing: a Sangaboard finds its zero at the low switches; that is away "
                "from the glass only where z is inverted (invert: [.., .., true])"
            )
            raise ValueError(msg)
        return self


class GrblStageConfig(SerialStageConfig):
    """A GRBL 1.1 board; positions are read back to 1 um, steps are kept exactly.

    An Arduino is reset by DTR, so it stays low; boards with native USB may need it.
    """

    kind: Literal["grbl"]
    assert_dtr: bool = False


class MarlinStageConfig(SerialStageConfig):
    """A 3D-printer board with Marlin; M400 costs it about 0.1 s a move."""

    typical_command_s: ClassVar[float] = 0.1

    kind: Literal["marlin"]


class AsiStageConfig(SerialStageConfig):
    """An ASI MS-2000, or a Tiger with one card or several.

    `axis_letters` names x, y, z as the controller does. Where the home places of the
    axes lie is not known from the controller, so that homing is by counts alone.
    """

    typical_command_s: ClassVar[float] = 0.015

    kind: Literal["asi"]
    axis_letters: tuple[str, str, str] = ("X", "Y", "Z")
    homing: Literal["none"] = "none"

    @model_validator(mode="after")
    def _three_letters(self) -> "AsiStageConfig":
        letters = self.axis_letters
        plain = all(len(x) == 1 and x.isascii() and x.isalpha() for x in letters)
        if not plain or len({letter.upper() for letter in letters}) != len(letters):
            msg = f"axis_letters must be three different letters, got {letters}"
            raise ValueError(msg)
        return self


class MicroManagerStageConfig(RealStageConfig):
    """An XY stage and a focus drive of Micro-Manager, as one stage.

    Micro-Manager tells neither travel nor pace, so that both are given here; deadlines
    come from them. A place read back within `tolerance_um` is the commanded one.
    `can_stop` says that the adapters' Stop really ends a motion. `homing: adapter`
    has the XY adapter look for its reference; `none` trusts the counts.
    """

    kind: Literal["micromanager"]
    core: MicroManagerCore
    xy_device: Label
    z_device: Label
    tolerance_um: PerAxis = (1.0, 1.0, 0.5)
    can_stop: bool = True
    homing: Literal["none", "adapter"] = "none"
    simulated: bool = False

    @property
    def is_simulated(self) -> bool:
        """Whether a device that moves is one of Micro-Manager's simulations."""
        return self.simulated or self.core.simulates(self.xy_device, self.z_device)


AnySerialStage = (
    SangaboardStageConfig | GrblStageConfig | MarlinStageConfig | AsiStageConfig
)
AnyStage = (
    VirtualStageConfig
    | SangaboardStageConfig
    | GrblStageConfig
    | MarlinStageConfig
    | AsiStageConfig
    | MicroManagerStageConfig
)
"""The union behind `stage:`; `kind` tells which."""
