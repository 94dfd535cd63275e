"""Every error that bifocus raises on purpose, by who can act on it.

::

    BifocusError
    ├── ConfigError          the user can fix a file or an argument   (exit code 2)
    │   └── OutOfTravelError a target outside the stage's limits      (exit code 2)
    ├── ImageFileError       an input image is missing or unusable    (exit code 2)
    ├── DeviceError          the bench can fix: cable, power, camera  (exit code 1)
    │   ├── DeviceTimeoutError   a wait reached its deadline
    │   ├── LinkLostError        the cable is out, or the port is gone
    │   ├── ProtocolError        an answer that cannot be trusted
    │   └── ReferenceLostError   nobody knows where the stage is
    ├── ReplayError          a recording ends, or tells another story (exit code 1)
    ├── CalibrationError     the measurement does not support a value (exit code 1)
    ├── BlankSlideError      there is no tissue where we looked       (exit code 1)
    ├── ScanStoppedError     a scan ended because somebody asked it to (exit code 1)
    ├── EngineError          a fuser is missing or does not fit       (exit code 1)
    │   └── EngineLostError  an engine that worked, and works no more
    └── SlideFileError       the output cannot be written or read     (exit code 1)

The text of each says what, where, the value measured, the value expected and the
next step. `exit_code` is what the command line returns.
"""


class BifocusError(Exception):
    """Root of all deliberate errors; catch this one at the top of a program."""

    exit_code = 1


class ConfigError(BifocusError):
    """A file or an argument that the user can correct."""

    exit_code = 2


class OutOfTravelError(ConfigError):
    """A target outside the stage's limits; raised before anything moves."""


class ImageFileError(BifocusError):
    """An input image that is missing, truncated, or not what the command needs."""

    exit_code = 2


class DeviceError(BifocusError):
    """A device that is absent, broken, or in a state that forbids the request."""


class DeviceTimeoutError(DeviceError):
    """A wait for a device that reached its deadline; the device state is unknown."""


class ProtocolError(DeviceError):
    """An answer that does not fit the protocol; use DeviceTimeoutError for silence."""


class LinkLostError(DeviceError):
    """A device that cannot be reached any more; `position` or a move tries again."""


class ReferenceLostError(DeviceError):
    """A stage whose counts no longer tell its place: home it, or look at it."""


class ReplayError(BifocusError):
    """A replay past its recording's end, or another way; drivers never retry it."""


class CalibrationError(BifocusError):
    """Measurements that do not support a calibrated value."""


class BlankSlideError(BifocusError):
    """A region without enough texture to focus on."""


class ScanStoppedError(BifocusError):
    """A scan that was told to stop; what it captured is kept, and it can go on."""


class EngineError(BifocusError):
    """A fuser or engine that is missing, does not match, or failed."""


class EngineLostError(EngineError):
    """An engine that fails at work: memory, GPU or server are gone; another may do."""


class SlideFileError(BifocusError):
    """An output that cannot be written, or a slide file that cannot be read."""
