"""Write and read `profile.yaml`: what calibration learned, bound to one instrument."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field

from bifocus.config_model import Finite, Model, NonNegative, parse_model
from bifocus.errors import ConfigError, SlideFileError
from bifocus.records import FlatField, InstrumentProfile, Measured
from bifocus.whole_file import write_whole


class _MeasuredModel(Model):
    value: Finite
    standard_uncertainty: NonNegative
    method: str
    unit: str = "um"


_Quadratic = tuple[Finite, Finite, Finite, Finite, Finite, Finite]


class _FlatFieldModel(Model):
    coefficients: tuple[_Quadratic, _Quadratic, _Quadratic]
    glass_fraction: Annotated[float, Field(ge=0, le=1)]


class _ProfileModel(Model):
    version: Literal[1]
    identity: dict[str, str]
    created_utc: str
    software_version: str
    raw_sha256: str
    simulated: bool
    focus_um: _MeasuredModel
    focus_x_um: Finite
    focus_y_um: Finite
    half_spacing_um: _MeasuredModel
    flat_field: _FlatFieldModel | None
    curve: dict[str, list[Finite]]


def write_profile(path: Path, profile: InstrumentProfile) -> None:
    """Write a profile, whole or not at all.

    Raises
    ------
    SlideFileError
        If the folder cannot be written.
    """
    document = {"version": 1, **asdict(profile)}
    if profile.flat_field is not None:
        rows = [list(row) for row in profile.flat_field.coefficients]
        document["flat_field"]["coefficients"] = rows
    text = "# Written by `bifocus calibrate`; measured values, not settings.\n"
    text += yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"{path.parent}: cannot make the folder: {error.strerror}"
        raise SlideFileError(msg) from error
    write_whole(path, text)


def read_profile(path: Path) -> InstrumentProfile:
    """Read and check a profile.

    Raises
    ------
    ConfigError
        If the file is missing or breaks the schema.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        msg = f"{path}: cannot read the profile: {error}; run `bifocus calibrate`"
        raise ConfigError(msg) from error
    model = parse_model(_ProfileModel, document, source=str(path))
    fields = model.model_dump(exclude={"version"})
    flat_field = fields.pop("flat_field")
    return InstrumentProfile(
        **{
            **fields,
            "focus_um": Measured(**fields["focus_um"]),
            "half_spacing_um": Measured(**fields["half_spacing_um"]),
            "flat_field": FlatField(**flat_field) if flat_field else None,
        }
    )


def check_identity(profile: InstrumentProfile, identity: dict[str, str]) -> None:
    """Refuse a profile of other hardware.

    Raises
    ------
    ConfigError
        Naming each property that differs, with both values.
    """
    names = sorted(set(profile.identity) | set(identity))
    differing = [
        f"{name}: profile '{profile.identity.get(name, '-')}', "
        f"instrument '{identity.get(name, '-')}'"
        for name in names
        if profile.identity.get(name) != identity.get(name)
    ]
    if differing:
        msg = (
            "the profile belongs to another instrument; run `bifocus calibrate`:\n  "
            + "\n  ".join(differing)
        )
        raise ConfigError(msg)
