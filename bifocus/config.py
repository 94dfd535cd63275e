"""The instrument file: YAML read safely into frozen models, unknown keys refused.

Every number has a range and carries its unit in its name. Results of calibration live
apart, in the profile (`bifocus.calib.profile_file`).
"""

import difflib
import types
import typing
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bifocus.errors import ConfigError

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Range_um = tuple[Finite, Finite]


class Model(BaseModel):
    """Frozen model that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Optics(Model):
    """The objective and the light, as far as focus depends on them."""

    objective: str = "unnamed"
    magnification: Annotated[float, Field(gt=0, le=200)] = 20.0
    na: Annotated[float, Field(gt=0, lt=1.6)]
    pixel_um: Annotated[float, Field(gt=0, le=20)]
    wavelengths_um: tuple[
        Annotated[float, Field(ge=0.3, le=1.2)],
        Annotated[float, Field(ge=0.3, le=1.2)],
        Annotated[float, Field(ge=0.3, le=1.2)],
    ] = (0.62, 0.53, 0.46)
    refractive_index: Annotated[float, Field(ge=1.0, le=1.7)] = 1.0
    pupil: Literal["paraxial", "exact"] = "paraxial"
    tone_curve: Literal["linear", "srgb"] = "linear"

    @model_validator(mode="after")
    def _na_below_index(self) -> "Optics":
        if self.na >= self.refractive_index:
            msg = f"na {self.na} must be below refractive_index {self.refractive_index}"
            raise ValueError(msg)
        return self


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


class VirtualSlide(Model):
    """What lies under the virtual microscope: a tissue image on uneven glass.

    The height of best focus is `focus_um + tilt . (x, y) + relief`; the tissue has
    `layers` layers over `thickness_um` (paper Eqs. 2-3). `x_um, y_um` is the stage
    position of the tissue's top-left corner.
    """

    tissue: str = "demo"
    pixel_um: Annotated[float, Field(gt=0, le=20)] = 0.25
    x_um: Finite = 0.0
    y_um: Finite = 0.0
    focus_um: Finite = 0.0
    tilt_mrad: tuple[Finite, Finite] = (0.0, 0.0)
    relief_um: NonNegative = 0.0
    relief_period_um: Positive = 800.0
    thickness_um: NonNegative = 0.0
    layers: Annotated[int, Field(ge=1, le=16)] = 1
    chromatic_um: tuple[Finite, Finite, Finite] = (0.0, 0.0, 0.0)
    spherical_waves: Annotated[float, Field(ge=-2, le=2)] = 0.0
    beyond: Literal["glass", "mirror"] = "glass"


class Scan(Model):
    """What a scan does when the command line does not say otherwise."""

    region_um: tuple[Finite, Finite, Positive, Positive] | None = None
    overlap: Annotated[float, Field(ge=0.02, le=0.5)] = 0.12
    half_spacing_um: Annotated[float, Field(gt=0, le=20)] = 0.75
    stack_planes: Annotated[int, Field(ge=5, le=201)] = 21
    stack_step_um: Annotated[float, Field(gt=0, le=20)] = 0.5
    jpeg_quality: Annotated[int, Field(ge=50, le=100)] = 90
    jpeg_subsampling: Literal["420", "444"] = "444"


class Calibration(Model):
    """How the first tile's focus is searched."""

    z_start_um: Finite | None = None
    coarse_range_um: Positive = 24.0
    coarse_step_um: Positive | None = None
    fine_step_um: Positive | None = None
    repeats: Annotated[int, Field(ge=1, le=20)] = 2


class Instrument(Model):
    """One whole instrument, as `instrument.yaml` describes it."""

    version: Literal[1]
    name: Annotated[str, Field(min_length=1)]
    seed: Annotated[int, Field(ge=0)] = 0
    clock: Literal["real", "virtual"] = "real"
    optics: Optics
    stage: VirtualStageConfig
    camera: VirtualCameraConfig
    virtual_slide: VirtualSlide | None = None
    scan: Scan = Scan()
    calibration: Calibration = Calibration()

    @model_validator(mode="after")
    def _slide_for_virtual(self) -> "Instrument":
        if self.camera.kind == "virtual" and self.virtual_slide is None:
            msg = "a virtual camera needs a `virtual_slide:` section to look at"
            raise ValueError(msg)
        return self

    @property
    def is_simulated(self) -> bool:
        """Whether any device is virtual; stamped into every output."""
        return "virtual" in (self.stage.kind, self.camera.kind)


def load_instrument(path: Path) -> Instrument:
    """Read and check an instrument file.

    Parameters
    ----------
    path
        A YAML file.

    Returns
    -------
    Instrument
        The checked, frozen description.

    Raises
    ------
    ConfigError
        If the file is missing, is not YAML, or breaks the schema; the text names the
        file, each key, its range, and the nearest known key for a misspelt one.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"{path}: cannot read the instrument file: {error.strerror}"
        raise ConfigError(msg) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        msg = f"{path}: not a YAML file: {' '.join(str(error).split())}"
        raise ConfigError(msg) from error
    return parse_model(Instrument, document, source=str(path))


ModelT = typing.TypeVar("ModelT", bound=BaseModel)


def parse_model(model: type[ModelT], document: object, *, source: str) -> ModelT:
    """Check a parsed document against a model, with errors a person can act on.

    Raises
    ------
    ConfigError
        One line per problem, each naming `source` and the dotted key.
    """
    if not isinstance(document, dict):
        msg = f"{source}: expected a mapping of keys, found {type(document).__name__}"
        raise ConfigError(msg)
    try:
        return model.model_validate(document)
    except ValidationError as error:
        lines = [
            f"{source}: {_describe(model, dict(problem))}" for problem in error.errors()
        ]
        raise ConfigError("\n".join(lines)) from error


def _describe(model: type[BaseModel], problem: dict[str, typing.Any]) -> str:
    keys = [str(key) for key in problem["loc"]]
    dotted = ".".join(keys) or "(whole file)"
    if problem["type"] == "extra_forbidden":
        known = _known_keys(model, keys[:-1])
        nearest = difflib.get_close_matches(keys[-1], known, n=1, cutoff=0.0)
        return f"unknown key '{dotted}'; did you mean '{nearest[0]}'?"
    if problem["type"] == "missing":
        return f"key '{dotted}' is missing"
    return f"key '{dotted}': {problem['msg']}, got {problem['input']!r}"


def _known_keys(model: type[BaseModel], path: list[str]) -> list[str]:
    for key in path:
        if key not in model.model_fields:
            break
        inner = _inner_model(model.model_fields[key].annotation)
        if inner is None:
            break
        model = inner
    return list(model.model_fields)


def _inner_model(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if isinstance(annotation, types.UnionType):
        candidates = (_inner_model(item) for item in typing.get_args(annotation))
        return next((found for found in candidates if found is not None), None)
    return None
