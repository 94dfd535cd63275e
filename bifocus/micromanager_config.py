"""What the instrument file says of Micro-Manager: its core, its stages.

Stage and camera sections that name the same `core:` share one core, because a hub or a
serial port can be opened only once.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from bifocus.config_model import Model, NonNegative, Positive, Range_um

Label = Annotated[str, Field(min_length=1)]


class MicroManagerDevice(Model):
    """One device of an adapter library, with properties in the adapter's own words.

    `hub` is the label of the hub that the device hangs on, listed before it.
    """

    label: Label
    library: Label
    device: Label
    hub: str = ""
    properties: dict[str, str] = Field(default_factory=dict)


class MicroManagerCore(Model):
    """Which devices Micro-Manager loads: its own `.cfg` file, or a list of devices.

    `adapter_paths` are the folders with the adapter libraries (`libmmgr_dal_*`).
    """

    adapter_paths: tuple[str, ...] = ()
    config_file: str | None = None
    devices: tuple[MicroManagerDevice, ...] = ()

    @model_validator(mode="after")
    def _one_source(self) -> "MicroManagerCore":
        if (self.config_file is None) == (not self.devices):
            msg = "give either `config_file` or a list of `devices`"
            raise ValueError(msg)
        return self


class MicroManagerStageConfig(Model):
    """An XY stage and a focus drive of Micro-Manager, as one stage.

    Micro-Manager tells neither travel nor speed, so both are given here; deadlines
    come from them. `can_stop` says that the adapter's Stop really ends a motion.
    """

    kind: Literal["micromanager"]
    core: MicroManagerCore
    xy_device: Label
    z_device: Label
    x_um: Range_um
    y_um: Range_um
    z_um: Range_um
    speed_um_per_s: tuple[Positive, Positive, Positive]
    step_um: tuple[Positive, Positive, Positive]
    tolerance_um: tuple[Positive, Positive, Positive] = (1.0, 1.0, 0.5)
    settle_s: NonNegative = 0.1
    take_up_um: tuple[NonNegative, NonNegative, NonNegative] = (0.0, 0.0, 0.0)
    timeout_s: Positive = 2.0
    can_stop: bool = True

    @model_validator(mode="after")
    def _ordered(self) -> "MicroManagerStageConfig":
        for axis in ("x_um", "y_um", "z_um"):
            low, high = getattr(self, axis)
            if not low < high:
                msg = f"{axis}: the low end {low} must be below the high end {high}"
                raise ValueError(msg)
        return self
