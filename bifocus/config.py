"""The instrument file: YAML read safely into frozen models, unknown keys refused.

Every number has a range and carries its unit in its name. Results of calibration live
apart, in the profile (`bifocus.calib.profile_file`).
"""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, model_validator

from bifocus.camera_config import CameraConfig
from bifocus.config_model import Finite, Model, NonNegative, Positive, parse_model
from bifocus.errors import ConfigError
from bifocus.stage_config import AnyStage


class Optics(Model):
    """The objective and the light, as far as focus depends on them.

    The true pixel lies within +-`pixel_tolerance` (a share) of `pixel_um`: a maker's
    magnification is good to about a percent, a printed tube to a few.
    """

    objective: str = "unnamed"
    magnification: Annotated[float, Field(gt=0, le=200)] = 20.0
    na: Annotated[float, Field(gt=0, lt=1.6)]
    pixel_um: Annotated[float, Field(gt=0, le=20)]
    pixel_tolerance: Annotated[float, Field(gt=0, le=0.2)] = 0.01
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


class VirtualOptics(Model):
    """What the virtual instrument's optics truly are: the hidden truth.

    What is left out is as the rest of the file says: `optics:`, and
    `virtual_slide.spherical_waves`. With a condenser below 1 the light is partially
    coherent, and tissue has `phase_ratio` of phase for each unit of absorption; see
    `bifocus.transfer.Light`. The camera is turned by `rotation_mrad` against the stage,
    from x towards y, and `mirror` turns its picture over left to right, top to bottom.
    """

    pixel_um: Annotated[float, Field(gt=0, le=20)] | None = None
    rotation_mrad: Annotated[float, Field(ge=-1600, le=1600)] = 0.0
    mirror: tuple[bool, bool] = (False, False)
    na: Annotated[float, Field(gt=0, lt=1.6)] | None = None
    spherical_waves: Annotated[float, Field(ge=-2, le=2)] | None = None
    condenser: Annotated[float, Field(ge=0.05, le=1)] | None = None
    phase_ratio: Annotated[float, Field(ge=-3, le=3)] = 0.0


EngineName = Literal["auto", "physics", "onnxruntime", "openvino", "tensorrt", "server"]


class Scan(Model):
    """What a scan does when the command line does not say otherwise."""

    region_um: tuple[Finite, Finite, Positive, Positive] | None = None
    overlap: Annotated[float, Field(ge=0.02, le=0.5)] = 0.12
    half_spacing_um: Annotated[float, Field(gt=0, le=20)] = 0.75
    z_order: Literal["auto", "up", "serpentine"] = "auto"
    disk_reserve_mb: Annotated[float, Field(ge=1, le=1e6)] = 200.0
    disk_wait_s: Annotated[float, Field(ge=0, le=1e6)] = 600.0
    stack_planes: Annotated[int, Field(ge=5, le=201)] = 21
    stack_step_um: Annotated[float, Field(gt=0, le=20)] = 0.5
    jpeg_quality: Annotated[int, Field(ge=50, le=100)] = 90
    jpeg_subsampling: Literal["420", "444"] = "444"
    slide_layout: Literal["hybrid", "subifd", "chain"] = "hybrid"
    slide_codec: Literal["jpeg", "lossless"] = "jpeg"
    label: str | None = None
    engine: EngineName = "auto"
    on_engine_failure: Literal["stop", "next"] = "stop"
    server: Annotated[str, Field(pattern=r"^[\w.:\[\]-]+:\d+$")] | None = None
    server_deadline_s: Annotated[float, Field(ge=0.01, le=600)] = 10.0


class Graticule(Model):
    """The loaded slide is a target of crossed lines; `u_um` is k = 1, of its pitch."""

    pitch_um: Annotated[float, Field(ge=0.5, le=1000)]
    u_um: Annotated[float, Field(ge=0, le=10)]


class Calibration(Model):
    """How the first tile's focus is searched, and what lengths across it are known.

    On tissue, only the product of pixel size and stage scale shows. `length_source`
    says which of the two is trusted: the pixel, to `optics.pixel_tolerance`, or the
    stage, to `stage_tolerance`. A graticule goes before both. The error of a screw
    repeats with every motor turn, `motor_turn_um` of x and y.

    `choose_half_spacing: auto` takes the dD that is predicted to be best for tiles
    whose focus lies `focal_spread_um` (standard deviation) beside F. No picture shows a
    known length along z: the drive's own um are trusted to `z_tolerance`.

    `blank_field_um` is a place of clear glass for the flat field, where the region has
    too little; `dark_frame` a picture taken without light, from the file's folder.
    """

    z_start_um: Finite | None = None
    coarse_range_um: Positive = 24.0
    coarse_step_um: Positive | None = None
    fine_step_um: Positive | None = None
    repeats: Annotated[int, Field(ge=1, le=20)] = 5
    choose_half_spacing: Literal["configured", "auto"] = "configured"
    focal_spread_um: Annotated[float, Field(gt=0, le=20)] = 1.0
    z_tolerance: Annotated[float, Field(ge=0, le=0.2)] = 0.05
    graticule: Graticule | None = None
    length_source: Literal["pixel", "stage"] = "pixel"
    stage_tolerance: Annotated[float, Field(gt=0, le=0.2)] = 0.01
    motor_turn_um: tuple[Positive, Positive] | None = None
    blank_field_um: tuple[Finite, Finite] | None = None
    dark_frame: Path | None = None


class Instrument(Model):
    """One whole instrument, as `instrument.yaml` describes it."""

    version: Literal[1]
    name: Annotated[str, Field(min_length=1)]
    seed: Annotated[int, Field(ge=0)] = 0
    clock: Literal["real", "virtual"] = "real"
    optics: Optics
    stage: AnyStage = Field(discriminator="kind")
    camera: CameraConfig
    virtual_slide: VirtualSlide | None = None
    virtual_optics: VirtualOptics = VirtualOptics()
    scan: Scan = Scan()
    calibration: Calibration = Calibration()

    @model_validator(mode="after")
    def _slide_for_virtual(self) -> "Instrument":
        if self.camera.needs_virtual_slide and self.virtual_slide is None:
            msg = "a virtual camera needs a `virtual_slide:` section to look at"
            raise ValueError(msg)
        return self

    @property
    def is_simulated(self) -> bool:
        """Whether any device is virtual; stamped into every output."""
        return self.stage.is_simulated or self.camera.is_simulated


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
    return _with_absolute_paths(
        parse_model(Instrument, document, source=str(path)), path.absolute().parent
    )


def _with_absolute_paths(config: Instrument, base_dir: Path) -> Instrument:
    """Let paths start at the file's folder, wherever the program runs."""
    dark_frame = config.calibration.dark_frame
    if dark_frame is None:
        return config
    found = {"dark_frame": base_dir / dark_frame}
    calibration = config.calibration.model_copy(update=found)
    return config.model_copy(update={"calibration": calibration})
