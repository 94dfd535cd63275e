"""What an exported engine says of itself, in a JSON file beside it.

`base.onnx` has `base.onnx.manifest.json`: the hashes of its files, the pictures it
takes, the sizes and optics it is made for, and how far its pixels are from those of the
network it was made from. An engine is read through `read_checked`, so that not one byte
that differs from the manifest is ever given to a runtime.
"""

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import Field, field_validator

from bifocus.config_model import Model, NonNegative, Positive, parse_model
from bifocus.errors import ConfigError, EngineError
from bifocus.whole_file import write_whole

SUFFIX = ".manifest.json"
EngineKind = Literal["onnx", "openvino", "tensorrt", "triton"]
Precision = Literal["fp32", "fp16", "int8"]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Side = Annotated[int, Field(ge=1, le=65536)]
PositiveRange = tuple[Positive, Positive]


class TensorSpec(Model):
    """One input or output: `layout` names its axes, as NHWC.

    A table of the optics has its `shape` stated and the layout "table", a number that
    the graph gives beside its picture the layout "number"; see
    `bifocus.optics_inputs`.
    """

    name: str
    dtype: Literal["uint8", "float32", "float16", "int64", "int32"]
    layout: str
    shape: tuple[int, ...] | None = None


class TrainedRanges(Model):
    """The instruments that the network has seen in training.

    Half-spacing and pixel are stated at `reference_na`: at another NA they scale with
    the depth of field, (reference_na / na)^2, and the resolution, reference_na / na.
    """

    na: PositiveRange
    half_spacing_um: PositiveRange
    pixel_um: PositiveRange
    reference_na: Positive


class ParityTolerance(Model):
    """How far an engine may be from its reference.

    `differing` is a share of the pixel values, `max` in grey levels; `psnr_db` is a
    floor. `offset_um` is stated where physics is inside the graph.
    """

    max: NonNegative
    differing: Annotated[float, Field(ge=0, le=1)]
    psnr_db: NonNegative
    offset_um: NonNegative | None = None


class ParityReport(Model):
    """An engine's pixels against a reference's on the same pictures.

    Attributes
    ----------
    subject, against
        What was compared, and with what: "ONNX Runtime 1.31.1, CPU", "PyTorch fp32".
    pictures
        What both were given: "test pair", "random".
    device
        Where the subject ran.
    psnr_db
        Between the two, not to a truth. Of equal pictures, that of one value that
        differs by one level: the most that so many values can tell.
    differing
        Share of the 8-bit values that differ.
    max
        Largest difference in grey levels.
    nan
        Values that were NaN or infinite before they became bytes, where they can be
        seen.
    offset_um
        How far the focal offset is from the reference's, where physics is inside.
    """

    subject: str
    against: str
    pictures: str
    device: str
    psnr_db: NonNegative
    differing: Annotated[float, Field(ge=0, le=1)]
    max: NonNegative
    nan: Annotated[int, Field(ge=0)]
    offset_um: NonNegative | None = None
    tolerance: ParityTolerance
    passed: bool


class EngineManifest(Model):
    """Everything a loader must know before it gives a file to a runtime.

    Attributes
    ----------
    files
        SHA-256 of each file, by path relative to the manifest's folder; the first one
        is what the runtime opens.
    network, config
        Name in the registry, and the shape as JSON text.
    batch, height_px, width_px
        Fixed sizes; None where the graph takes any.
    stride_px, halo_px
        Tiles start at multiples of the stride, and need this margin on each side to
        give the pixels of the whole picture.
    physics
        `input`: the graph takes the physics image; `inside`: it makes it; `none`: the
        network has no use for it.
    int8_runtime
        Whose form of INT8 a graph has: each runtime fuses another; None if not INT8.
    trained
        None if the checkpoint does not tell.
    source, source_sha256
        The checkpoint's file name and hash.
    data_hashes
        Of the tissue it was trained on.
    test_pair
        Name, in `files`, of the pictures on which anyone can repeat the parity check.
    parity
        One report for each runtime and set of pictures.
    verified
        Whether the engine has passed on the device it was built for.
    audit
        What the graph or engine was found to be made of, as "Conv float16": 21.
    built_with, built_from_sha256
        For a built engine: versions and device, and the graph it was built from.
    never_run_on
        Hardware that the file is meant for and has not been tried on.
    """

    schema_version: Literal[1] = 1
    files: dict[str, Sha256] = Field(min_length=1)
    network: str
    config: str
    kind: EngineKind
    precision: Precision
    inputs: tuple[TensorSpec, ...] = Field(min_length=1)
    outputs: tuple[TensorSpec, ...] = Field(min_length=1)
    batch: Side | None
    height_px: Side | None
    width_px: Side | None
    stride_px: Side
    halo_px: Side
    physics: Literal["input", "inside", "none"]
    int8_runtime: Literal["onnxruntime", "openvino", "tensorrt"] | None = None
    trained: TrainedRanges | None
    source: str
    source_sha256: Sha256
    data_hashes: tuple[str, ...]
    bifocus_version: str
    opset: Annotated[int, Field(ge=1)]
    test_pair: str | None
    parity: tuple[ParityReport, ...]
    verified: bool
    audit: dict[str, int] = Field(default_factory=dict)
    built_with: dict[str, str] = Field(default_factory=dict)
    built_from_sha256: Sha256 | None = None
    never_run_on: tuple[str, ...] = ()

    @field_validator("files")
    @classmethod
    def _stay_inside(cls, files: dict[str, str]) -> dict[str, str]:
        for name in files:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts:
                msg = f"'{name}' leaves the manifest's folder"
                raise ValueError(msg)
        return files

    @property
    def main_file(self) -> str:
        """The file that the runtime opens."""
        return next(iter(self.files))

    @property
    def export_command(self) -> str:
        """The command that makes the files again."""
        size = ""
        if self.height_px is not None and self.width_px is not None:
            size = f" --tile {self.height_px} {self.width_px}"
        form = ""
        if self.kind == "onnx" and self.int8_runtime is not None:
            form = f" --runtime {self.int8_runtime}"
        if self.physics == "inside":
            form += " --whole"
        return (
            f"bifocus export {self.source} -o DIR --to {self.kind} "
            f"--precision {self.precision}{size}{form}"
        )


def manifest_path(file: Path) -> Path:
    """Return where the manifest of an engine's file lies: beside it."""
    return file.with_name(file.name + SUFFIX)


def write_manifest(manifest: EngineManifest, path: Path) -> None:
    """Write it whole or not at all.

    Raises
    ------
    SlideFileError
        If the disk refuses; an older file is kept.
    """
    text = json.dumps(manifest.model_dump(mode="json"), indent=1, allow_nan=False)
    write_whole(path, text + "\n")


def load_manifest(path: Path) -> EngineManifest:
    """Read the manifest at `path`, or the one beside the engine file at `path`.

    Raises
    ------
    EngineError
        If there is none, or it is damaged, or of another version.
    """
    path = path if path.name.endswith(SUFFIX) else manifest_path(path)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return parse_model(EngineManifest, document, source=str(path))
    except FileNotFoundError as error:
        msg = (
            f"{path}: no such manifest; an engine without one is not loaded: make both "
            "again with bifocus export"
        )
        raise EngineError(msg) from error
    except (OSError, ValueError, ConfigError) as error:
        msg = f"{path}: not a manifest of this version ({error}); export the model anew"
        raise EngineError(msg) from error


def read_checked(manifest: EngineManifest, folder: Path, name: str) -> bytes:
    """Return the bytes of one of the manifest's files, if they are the ones it names.

    Raises
    ------
    EngineError
        If the file is missing or differs; the text holds the command that mends it.
    """
    expected = manifest.files.get(name)
    if expected is None:
        msg = f"{folder}: the manifest has no file '{name}'"
        raise EngineError(msg)
    path = folder / name
    try:
        content = path.read_bytes()
    except OSError as error:
        msg = f"{path}: {error.strerror or error}; mend: {manifest.export_command}"
        raise EngineError(msg) from error
    measured = hashlib.sha256(content).hexdigest()
    if measured != expected:
        msg = (
            f"{path}: its SHA-256 is {measured}, the manifest says {expected}; it was "
            f"changed or cut short. Mend: {manifest.export_command}"
        )
        raise EngineError(msg)
    return content


def check_files(manifest: EngineManifest, folder: Path) -> None:
    """Refuse an engine with a missing or changed file; errors as `read_checked`."""
    for name in manifest.files:
        read_checked(manifest, folder, name)


def check_verified(manifest: EngineManifest) -> None:
    """Refuse an engine that has not passed its parity gate.

    Raises
    ------
    EngineError
        If it is unverified.
    """
    if not manifest.verified:
        failed = [report.subject for report in manifest.parity if not report.passed]
        what = f"failed in {failed[0]}" if failed else "not been passed yet"
        msg = (
            f"{manifest.main_file}: unverified, its parity check has {what}; on the "
            f"device that is to run it: {manifest.export_command}"
        )
        raise EngineError(msg)


def check_trained_range(
    manifest: EngineManifest, *, na: float, pixel_um: float, half_spacing_um: float
) -> None:
    """Refuse an instrument that the network has not been trained for.

    Raises
    ------
    EngineError
        If a value lies outside; it names the value, the range and the way out.
    """
    trained = manifest.trained
    if trained is None:
        return
    zoom = trained.reference_na / na
    values = {
        "na": (na, trained.na, 1.0),
        "pixel_um": (pixel_um, trained.pixel_um, zoom),
        "half_spacing_um": (half_spacing_um, trained.half_spacing_um, zoom**2),
    }
    for key, (value, (low, high), scale) in values.items():
        # A thousandth of slack: both were rounded when they were written.
        if not 0.999 * low * scale <= value <= 1.001 * high * scale:
            msg = (
                f"{manifest.network}: {key} is {value:g}, trained for "
                f"{low * scale:.3g} to {high * scale:.3g}; take --model physics"
            )
            raise EngineError(msg)


def check_size(manifest: EngineManifest, height_px: int, width_px: int) -> None:
    """Refuse a tile that a graph of fixed size does not take.

    Raises
    ------
    EngineError
        If a side differs; it names the legal size.
    """
    wanted = (manifest.height_px or height_px, manifest.width_px or width_px)
    if wanted != (height_px, width_px):
        msg = (
            f"{manifest.main_file}: made for tiles of {wanted[1]}x{wanted[0]} px, got "
            f"{width_px}x{height_px}; mend: {manifest.export_command}"
        )
        raise EngineError(msg)


def hash_files(folder: Path, names: tuple[str, ...]) -> dict[str, str]:
    """Return the SHA-256 of each file, by name.

    Raises
    ------
    EngineError
        If one cannot be read.
    """
    try:
        return {
            name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
            for name in names
        }
    except OSError as error:
        msg = f"{error.filename}: {error.strerror or error}"
        raise EngineError(msg) from error
