"""What the instrument file says of Micro-Manager: which devices its core loads.

Stage and camera sections that name the same `core:` share one core, because a hub or a
serial port can be opened only once.
"""

from typing import Annotated

from pydantic import Field, model_validator

from bifocus.config_model import Model

Label = Annotated[str, Field(min_length=1)]
# Adapter libraries that only simulate; what they deliver is stamped as simulated.
SIMULATING = ("DemoCamera", "SequenceTester", "NotificationTester")


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

    def simulates(self, *labels: str) -> bool:
        """Return whether one of the listed devices only simulates.

        What a `config_file` loads is known when it is open, from the device's
        capabilities.
        """
        return any(
            device.label in labels and device.library in SIMULATING
            for device in self.devices
        )
