"""What one calibration step measures, and what it is given to do so.

A step is a function `(bench, before) -> StepResult`. It knows devices and numbers only;
files, order, resuming and reports belong to the procedure, for which all steps are
alike.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from bifocus.clock import Clock
from bifocus.config import Instrument
from bifocus.hal.devices import Camera, Stage
from bifocus.records import Measured, UInt8Image

Region = tuple[float, float, float, float]
"""x, y of the top-left corner, width and height, in stage micrometres."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """An open instrument and the region of the slide that may be used."""

    stage: Stage
    camera: Camera
    clock: Clock
    config: Instrument
    region_um: Region


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line or cloud of points of a plot; `u` is a standard uncertainty of y."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    u: tuple[float, ...] | None = None
    style: Literal["line", "points"] = "points"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A plot of the report; `marks` are vertical lines: what they say, and x."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    marks: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What a step found out.

    Attributes
    ----------
    name
        The step's name, as `calibrate --only` takes it.
    values
        Measured values under their public keys, such as `focus_um`.
    facts
        Plain JSON values that later steps and the scan need, such as a fitted light.
    plots, pictures
        For the report; pictures are (rows, columns, 3) uint8, at most 512 px a side.
    warnings
        What a technician should know although the step has passed.
    raw_sha256
        Digest of the pixels that the step has seen.
    """

    name: str
    values: Mapping[str, Measured]
    facts: Mapping[str, Any] = field(default_factory=dict)
    plots: tuple[Plot, ...] = ()
    pictures: Mapping[str, UInt8Image] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    raw_sha256: str = ""


class Step(Protocol):
    """A calibration step.

    Raises
    ------
    CalibrationError, BlankSlideError
        What cannot be measured, and what to do about it.
    DeviceError
        If stage or camera fail.
    """

    def __call__(self, bench: Bench, before: Mapping[str, StepResult]) -> StepResult:
        """Measure; `before` holds the results of the steps done so far, by name."""
        ...
