"""The records that travel from plan to slide: frozen, and with units in their names.

Frames of reference, never mixed: `stage_um` (machine), `slide_um` (glass) and
`mosaic_px` (picture). x points right and y down in the picture; z up is away from the
slide. Images are (rows, columns[, channels]), 8-bit RGB unless a record says otherwise.
"""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from bifocus.calibrated_optics import CalibratedOptics
from bifocus.errors import ConfigError

UInt8Image = npt.NDArray[np.uint8]
FloatImage = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePosition:
    """A point in the machine's frame, in micrometres."""

    x_um: float
    y_um: float
    z_um: float

    def __post_init__(self) -> None:
        """Refuse NaN and infinity, which would move glass to nowhere."""
        if not all(map(math.isfinite, (self.x_um, self.y_um, self.z_um))):
            msg = f"stage position must be finite, got {self}"
            raise ConfigError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveReceipt:
    """Proof of one finished move: where it was sent, what was reported, and when.

    `settled_s` is when motion *and* ringing had ended; a fresh frame begins after it.
    """

    commanded: StagePosition
    reported: StagePosition
    start_s: float
    end_s: float
    settled_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One exposure: HxWx3 or HxW uint8 pixels, its times, pose and running number."""

    pixels: UInt8Image
    exposure_start_s: float
    exposure_end_s: float
    pose: StagePosition
    sequence_number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TileVisit:
    """One planned tile: its grid cell and the stage target of its centre."""

    row: int
    column: int
    target: StagePosition

    @property
    def name(self) -> str:
        """Stable name used for files and log lines, such as `r003_c012`."""
        return f"r{self.row:03d}_c{self.column:03d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FocusPair:
    """The two shots of a tile in physical order: `minus` at F-dD, `plus` at F+dD.

    `focus_um` is F in the stage frame, `half_spacing_um` is dD > 0.
    """

    minus: Frame
    plus: Frame
    focus_um: float
    half_spacing_um: float

    def __post_init__(self) -> None:
        """Refuse shots of different shape and a half-spacing that is not positive."""
        if self.minus.pixels.shape != self.plus.pixels.shape:
            msg = (
                "the two shots differ in size: "
                f"{self.minus.pixels.shape} and {self.plus.pixels.shape}"
            )
            raise ConfigError(msg)
        if not (math.isfinite(self.half_spacing_um) and self.half_spacing_um > 0):
            msg = f"half_spacing_um must be positive, got {self.half_spacing_um}"
            raise ConfigError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class FocalOffset:
    """Where the tissue's best focus lies, relative to F, and how sure we are.

    Attributes
    ----------
    offset_um
        Best focus minus F; positive means that the plus shot is the nearer one.
    sd_um
        Standard uncertainty of `offset_um`.
    confidence
        0 (blank glass, or nothing fits) to 1; under 0.2 the estimate teaches nothing.
    """

    offset_um: float
    sd_um: float
    confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FusedTile:
    """The in-focus tile made from a pair, HxWx3 uint8.

    `quality` is 0..1: how well the result, blurred again, explains both shots.
    """

    pixels: UInt8Image
    offset: FocalOffset
    quality: float
    seconds: float
    sharper_is_plus: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedTile:
    """A tile with its place in the mosaic: top-left corner, sub-pixel, in mosaic_px."""

    row: int
    column: int
    x_px: float
    y_px: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A calibrated value with its standard uncertainty (k = 1) and how it was got."""

    value: float
    standard_uncertainty: float
    method: str
    unit: str = "um"

    @property
    def text(self) -> str:
        """Value and expanded uncertainty (k = 2), for a person.

        Examples
        --------
        >>> Measured(value=1.5, standard_uncertainty=0.01, method="").text
        '1.5 +- 0.02 um (k = 2)'
        """
        expanded = 2 * self.standard_uncertainty
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.value:.6g} +- {expanded:.2g}{unit} (k = 2)"


@dataclass(frozen=True, slots=True, kw_only=True)
class FlatField:
    """Illumination over the field, per colour channel, as a smooth surface.

    `coefficients` has shape (3, 6) or (3, 15): log gain = c . [1, x, y, x^2, x y, y^2]
    with x and y running from -1 to 1 across the columns and rows; fifteen go on as in
    `bifocus.illumination.quartic_columns`. `glass_fraction` says how much of the field
    was clear glass when it was measured.
    """

    coefficients: tuple[tuple[float, ...], ...]
    glass_fraction: float

    def __post_init__(self) -> None:
        """Refuse another number of coefficients, which would be another surface."""
        if [len(row) for row in self.coefficients] not in ([6] * 3, [15] * 3):
            msg = (
                "a flat field has 6 or 15 coefficients for each of 3 colours, got "
                f"{[len(row) for row in self.coefficients]}"
            )
            raise ConfigError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstrumentProfile:
    """What calibration learned about one instrument, bound to that instrument.

    Attributes
    ----------
    identity
        Parts and optics, as the devices report them.
    raw_sha256
        Digest of the pixels that all steps have seen.
    focus_um, focus_x_um, focus_y_um
        Best focus, and the place at which it was found, in the stage frame.
    half_spacing_um
        dD as the stage achieves it, in true um as far as they are known.
    optics
        What fusion must know of the objective and the light; None if not measured.
    curve
        `z_um` and `sharpness` of the last stack at that place.
    values
        Every value of every step, under its public key.
    facts
        By step, what else it found out: plain JSON values.
    skipped
        Steps that were left out, and why.
    warnings
        What a technician should know although calibration has passed.
    steps
        When each step was measured, UTC.
    """

    identity: dict[str, str]
    created_utc: str
    software_version: str
    raw_sha256: str
    focus_um: Measured
    focus_x_um: float
    focus_y_um: float
    half_spacing_um: Measured
    flat_field: FlatField | None
    simulated: bool
    optics: CalibratedOptics | None = None
    curve: dict[str, Any] = field(default_factory=dict)
    values: dict[str, Measured] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    steps: dict[str, str] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """SHA-256 of the whole content, the same before and after it was in a file."""
        text = json.dumps(_canonical(asdict(self)), sort_keys=True, allow_nan=False)
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    @property
    def commanded_spacing_um(self) -> float:
        """What the stage is to be told so that it achieves `half_spacing_um`."""
        told = self.values.get("half_spacing_commanded_um", self.half_spacing_um)
        return told.value

    @property
    def stage_spacing_um(self) -> float:
        """The same dD as the stage counts: what offsets and `optics` are counted in."""
        return self.values.get("half_spacing_stage_um", self.half_spacing_um).value

    def summary(self) -> dict[str, str]:
        """Return what a slide should tell about its calibration, as short texts."""
        names = ("pixel_um", "rotation_mrad", "backlash_z_um", "na", "tilt_mrad")
        chosen = {"focus_um": self.focus_um, "half_spacing_um": self.half_spacing_um}
        chosen |= {name: self.values[name] for name in names if name in self.values}
        return {
            **{name: measured.text for name, measured in chosen.items()},
            "profile_created_utc": self.created_utc,
            "profile_sha256": self.sha256,
            "profile_raw_sha256": self.raw_sha256,
            "calibration_skipped": ", ".join(self.skipped) or "nothing",
        }


def _canonical(value: object) -> object:
    """Return the value with whole numbers as floats, which a file may not tell."""
    if isinstance(value, dict):
        return {key: _canonical(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(inner) for inner in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value
