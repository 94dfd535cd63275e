"""Write and read `profile.yaml`: what calibration learned, bound to one instrument.

The file carries the SHA-256 of its own content: it holds measured values, and an edited
one is refused. A profile that is replaced goes to `history/` beside it.
"""

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field

from bifocus.calibrated_optics import CalibratedOptics
from bifocus.config_model import Finite, Model, NonNegative, parse_model
from bifocus.errors import ConfigError, SlideFileError
from bifocus.records import FlatField, InstrumentProfile, Measured
from bifocus.whole_file import write_whole

VERSION = 2
_HISTORY = "history"


class _MeasuredModel(Model):
    value: Finite
    standard_uncertainty: NonNegative
    method: str
    unit: str = "um"


# Second or fourth order; `FlatField` refuses any other number of coefficients.
_Surface = Annotated[tuple[Finite, ...], Field(min_length=6, max_length=15)]


class _FlatFieldModel(Model):
    coefficients: tuple[_Surface, _Surface, _Surface]
    glass_fraction: Annotated[float, Field(ge=0, le=1)]


class _ProfileModel(Model):
    version: Literal[2]
    sha256: str
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
    optics: dict[str, Any] | None
    curve: dict[str, list[Finite]]
    values: dict[str, _MeasuredModel]
    facts: dict[str, Any]
    skipped: dict[str, str]
    warnings: tuple[str, ...]
    steps: dict[str, str]


def write_profile(path: Path, profile: InstrumentProfile) -> None:
    """Write a profile, whole or not at all; an older one is kept in `history/`.

    Raises
    ------
    SlideFileError
        If the folder cannot be written; an older profile is left as it was.
    """
    document = {"version": VERSION, "sha256": profile.sha256, **asdict(profile)}
    text = (
        "# Written by `bifocus calibrate`; measured values, not settings. An edited\n"
        "# file is refused.\n"
    )
    text += yaml.safe_dump(_plain(document), sort_keys=False, allow_unicode=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"{path.parent}: cannot make the folder: {error.strerror}"
        raise SlideFileError(msg) from error
    _keep_older(path, text)
    write_whole(path, text)


def read_profile(path: Path) -> InstrumentProfile:
    """Read and check a profile.

    Raises
    ------
    ConfigError
        If the file is missing, breaks the schema, is of an older version, or was
        changed since it was written.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        msg = f"{path}: cannot read the profile: {error}; run `bifocus calibrate`"
        raise ConfigError(msg) from error
    if isinstance(document, dict) and document.get("version") == 1:
        msg = (
            f"{path}: a profile of version 1, this program reads version {VERSION}: it "
            "lacks the optics, the mechanics and its own checksum; run "
            "`bifocus calibrate` again"
        )
        raise ConfigError(msg)
    model = parse_model(_ProfileModel, document, source=str(path))
    try:
        profile = _as_record(model)
    except ConfigError as error:
        msg = f"{path}: {error}"
        raise ConfigError(msg) from error
    if profile.sha256 != model.sha256:
        msg = (
            f"{path}: was changed after calibration: its content has SHA-256 "
            f"{profile.sha256[:12]}..., it says {model.sha256[:12]}...; values are "
            "measured, never edited: run `bifocus calibrate`, or take the file from "
            f"{path.parent / _HISTORY}"
        )
        raise ConfigError(msg)
    return profile


def _as_record(model: _ProfileModel) -> InstrumentProfile:
    fields = model.model_dump(exclude={"version", "sha256"})
    flat_field, optics = fields.pop("flat_field"), fields.pop("optics")
    values = {name: Measured(**value) for name, value in fields.pop("values").items()}
    return InstrumentProfile(
        **{
            **fields,
            "focus_um": Measured(**fields["focus_um"]),
            "half_spacing_um": Measured(**fields["half_spacing_um"]),
            "flat_field": FlatField(**flat_field) if flat_field else None,
            "optics": CalibratedOptics.from_dict(optics) if optics else None,
            "values": values,
        }
    )


def _keep_older(path: Path, text: str) -> None:
    """Copy a profile that is about to be replaced, named after its own content."""
    try:
        older = path.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        msg = f"{path}: cannot read the older profile: {error.strerror}"
        raise SlideFileError(msg) from error
    if older == text.encode("utf-8"):
        return
    folder = path.parent / _HISTORY
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        msg = f"{folder}: cannot make the folder: {error.strerror}; nothing is changed"
        raise SlideFileError(msg) from error
    write_whole(folder / f"{path.stem}-{_older_name(older)}.yaml", older)


def _older_name(content: bytes) -> str:
    """Return a name that no other profile has: its date and a digest of it."""
    date = "undated"
    for line in content.decode("utf-8", "replace").splitlines():
        key, _, value = line.partition(":")
        if key == "created_utc":
            date = "".join(c for c in value if c.isalnum() or c in "-+")
    return f"{date}-{hashlib.sha256(content).hexdigest()[:8]}"


def _plain(value: object) -> object:
    """Return the value without tuples, which safe YAML does not have."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value
