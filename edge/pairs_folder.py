"""Fuse image pairs from files: `NAME_a.png` (F-dD) and `NAME_b.png` (F+dD) in a folder.

`pairs.json` beside them holds the optics: at least `na`, `pixel_um`, `half_spacing_um`
and `wavelengths_um` (R, G, B); also `refractive_index` and `tone_curve` if known. Other
keys are left alone, since other programs may keep theirs there.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from bifocus.config_model import parse_model
from bifocus.edge.fusers import Fuser
from bifocus.edge.report import write_json_atomic
from bifocus.edge.scan_folder import write_png
from bifocus.errors import ConfigError, ImageFileError, SlideFileError
from bifocus.focal_offset import PairOptics
from bifocus.physics_fusion import MIN_SIDE_PX, measure_pair
from bifocus.records import FusedTile, UInt8Image
from bifocus.tone import ToneCurve
from bifocus.tone_choice import guess_tone_curve

# Pairs looked at to guess the tone curve.
_GUESS_PAIRS = 8

Progress = Callable[[int, int], None]
# Pillow's names of the kinds that people have and fusion has not.
_KINDS = {
    "1": "black and white",
    "L": "grey",
    "LA": "grey with transparency",
    "I;16": "16-bit grey",
    "P": "a palette of colours",
    "RGBA": "RGB with transparency",
    "CMYK": "printing inks",
}
_Wavelength = Annotated[float, Field(ge=0.3, le=1.2)]


class PairsDescription(BaseModel):
    """The contents of `pairs.json` that fusion needs."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    na: Annotated[float, Field(gt=0, lt=1.6)]
    pixel_um: Annotated[float, Field(gt=0, le=20)]
    half_spacing_um: Annotated[float, Field(gt=0, le=20)]
    wavelengths_um: tuple[_Wavelength, _Wavelength, _Wavelength]
    refractive_index: Annotated[float, Field(ge=1, le=1.7, validate_default=True)] = 1.0
    tone_curve: Literal["auto", "linear", "srgb"] = "auto"

    @field_validator("refractive_index")
    @classmethod
    def _above_na(cls, index: float, info: ValidationInfo) -> float:
        if index <= info.data.get("na", 0.0):
            msg = f"it must be above na ({info.data['na']:g})"
            raise ValueError(msg)
        return index

    def optics(self) -> PairOptics:
        """Return the optics of the pairs."""
        return PairOptics(
            na=self.na,
            pixel_um=self.pixel_um,
            half_spacing_um=self.half_spacing_um,
            wavelengths_um=self.wavelengths_um,
            refractive_index=self.refractive_index,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedPair:
    """Two image files of one field."""

    name: str
    minus: Path
    plus: Path

    def read(self) -> tuple[UInt8Image, UInt8Image]:
        """Return both shots.

        Raises
        ------
        ImageFileError
            If one is missing, damaged, too small or not 8-bit RGB, or they differ in
        size.
        """
        minus, plus = read_rgb(self.minus), read_rgb(self.plus)
        if minus.shape != plus.shape:
            msg = (
                f"{self.minus} is {minus.shape[1]}x{minus.shape[0]} px, {self.plus} is "
                f"{plus.shape[1]}x{plus.shape[0]} px; both shots must show one field "
                "at one size"
            )
            raise ImageFileError(msg)
        if min(minus.shape[:2]) < MIN_SIDE_PX:
            msg = (
                f"{self.minus} is {minus.shape[1]}x{minus.shape[0]} px; both sides "
                f"must be at least {MIN_SIDE_PX} px"
            )
            raise ImageFileError(msg)
        return minus, plus


def read_description(path: Path) -> PairsDescription:
    """Read `pairs.json`.

    Raises
    ------
    ConfigError
        If it is missing, not JSON, or lacks or misstates a value.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        msg = f"{path}: cannot read it: {error.strerror}; it must hold na, pixel_um, "
        msg += "half_spacing_um and wavelengths_um"
        raise ConfigError(msg) from error
    except ValueError as error:
        msg = f"{path}: not JSON: {error}"
        raise ConfigError(msg) from error
    return parse_model(PairsDescription, document, source=str(path))


def find_pairs(folder: Path) -> list[NamedPair]:
    """Return the pairs of a folder, by name.

    Raises
    ------
    ImageFileError
        If there is none, or a shot lacks its partner.
    """
    ends = {"a": "_a.png", "b": "_b.png"}
    names = {
        key: {path.name[: -len(end)] for path in folder.glob(f"*{end}")}
        for key, end in ends.items()
    }
    alone = sorted(names["a"] ^ names["b"])
    if alone:
        missing = "_b" if alone[0] in names["a"] else "_a"
        msg = f"{folder / (alone[0] + missing + '.png')}: missing; its partner is there"
        raise ImageFileError(msg)
    if not names["a"]:
        msg = f"{folder}: no pairs; expected NAME_a.png and NAME_b.png"
        raise ImageFileError(msg)
    return [
        NamedPair(
            name=name, minus=folder / f"{name}_a.png", plus=folder / f"{name}_b.png"
        )
        for name in sorted(names["a"])
    ]


def read_rgb(path: Path) -> UInt8Image:
    """Read an 8-bit RGB picture.

    Raises
    ------
    ImageFileError
        If it is missing, damaged, or of another kind, saying which.
    """
    try:
        with Image.open(path) as image:
            mode, size = image.mode, image.size
            is_deep = _is_deep(image)
            pixels = np.asarray(image)
    except UnidentifiedImageError as error:
        msg = f"{path}: not a picture of a known kind, or damaged"
        raise ImageFileError(msg) from error
    except SyntaxError as error:  # Pillow's word for a broken PNG
        msg = f"{path}: the picture is damaged: {error}"
        raise ImageFileError(msg) from error
    except OSError as error:
        reason = error.strerror or str(error)
        msg = f"{path}: cannot read the picture: {reason}"
        raise ImageFileError(msg) from error
    except Image.DecompressionBombError as error:
        msg = f"{path}: {error}; cut it into tiles first"
        raise ImageFileError(msg) from error
    if mode != "RGB" or is_deep:
        kind = "16-bit RGB" if mode == "RGB" else _KINDS.get(mode, f"kind '{mode}'")
        msg = (
            f"{path}: the picture ({size[0]}x{size[1]} px) is {kind}; expected 8-bit "
            "RGB without transparency: convert both shots in the same way first"
        )
        raise ImageFileError(msg)
    return np.ascontiguousarray(pixels, dtype=np.uint8)


def _is_deep(image: Image.Image) -> bool:
    """Whether the file holds 16 bits a colour, which Pillow would cut to 8 silently.

    Look before the pixels are loaded: the raw mode, such as `RGB;16B`, is gone then.
    """
    return any("16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def choose_tone_curve(
    wanted: Literal["auto", "linear", "srgb"],
    pairs: list[NamedPair],
) -> ToneCurve:
    """Return the wanted tone curve, or the one that suits the first pairs better."""
    if wanted != "auto":
        return wanted
    return guess_tone_curve(pair.read() for pair in pairs[:_GUESS_PAIRS])


def fuse_folder(
    folder: Path, out: Path, fuser: Fuser, progress: Progress | None = None
) -> dict[str, Any]:
    """Fuse every pair of `folder` into `out/NAME.png`, and write `out/fuse.json`.

    One pair is in memory at a time.

    Returns
    -------
    dict
        The contents of `fuse.json`.

    Raises
    ------
    ConfigError, ImageFileError
        If the description or a pair is unusable; pictures made so far stay.
    EngineError
        If the fuser is not made for such pairs, or fails.
    SlideFileError
        If the output cannot be written.
    """
    if not folder.is_dir():
        msg = f"{folder}: no such folder of pairs"
        raise ConfigError(msg)
    description = read_description(folder / "pairs.json")
    pairs = find_pairs(folder)
    make_folder(out)
    # An older list must not stand beside newer pictures if this run fails.
    _remove(out / "fuse.json")
    optics = description.optics()
    fuser.check_optics(optics)
    tone_curve = choose_tone_curve(description.tone_curve, pairs)
    entries = {}
    for number, pair in enumerate(pairs):
        tile = fuse_pair(pair, optics, tone_curve, fuser)
        write_png(out / f"{pair.name}.png", tile.pixels)
        entries[pair.name] = describe_tile(tile, fuser)
        if progress is not None:
            progress(number + 1, len(pairs))
    report = {
        "model": fuser.model,
        "engine": fuser.engine,
        "tone_curve": tone_curve,
        "faults": list(fuser.faults),
        "pairs": entries,
    }
    write_json_atomic(out / "fuse.json", report)
    return report


def fuse_files(
    pair: NamedPair, out: Path, description: PairsDescription, fuser: Fuser
) -> dict[str, Any]:
    """Fuse one pair of files into the picture `out`.

    Returns
    -------
    dict
        The pair's entry as in `fuse.json`, with the tone curve that was used.

    Raises
    ------
    ConfigError, ImageFileError
        If the picture's name or a shot is unusable.
    SlideFileError
        If the picture cannot be written.
    """
    _check_picture_name(out, pair)
    optics = description.optics()
    tone_curve = choose_tone_curve(description.tone_curve, [pair])
    tile = fuse_pair(pair, optics, tone_curve, fuser)
    make_folder(out.parent)
    write_png(out, tile.pixels)
    return {**describe_tile(tile, fuser), "tone_curve": tone_curve}


def fuse_pair(
    pair: NamedPair, optics: PairOptics, tone_curve: ToneCurve, fuser: Fuser
) -> FusedTile:
    """Read and fuse one pair; an unusable one is named in the error.

    Raises
    ------
    ImageFileError
        If a picture cannot be read or fused.
    """
    minus, plus = pair.read()
    try:
        measured = measure_pair(minus, plus, optics, tone_curve=tone_curve)
    except ImageFileError as error:
        msg = f"{pair.minus} and {pair.plus}: {error}"
        raise ImageFileError(msg) from error
    return fuser.fuse(measured)


def describe_tile(tile: FusedTile, fuser: Fuser) -> dict[str, Any]:
    """Return a pair's entry in `fuse.json`."""
    return {
        "offset_um": tile.offset.offset_um,
        "sd_um": tile.offset.sd_um,
        "confidence": tile.offset.confidence,
        "quality": tile.quality,
        "seconds": tile.seconds,
        "model": fuser.model,
    }


def make_folder(path: Path) -> None:
    """Make an output folder.

    Raises
    ------
    SlideFileError
        If it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"{path}: cannot make the output folder: {error.strerror}"
        raise SlideFileError(msg) from error


def _check_picture_name(out: Path, pair: NamedPair) -> None:
    if out.is_dir():
        msg = f"{out}: is a folder; name a picture in it, such as {out / 'fused.png'}"
        raise ConfigError(msg)
    if out.suffix.lower() not in ("", ".png"):
        msg = f"{out}: the picture is written as PNG; name it {out.with_suffix('.png')}"
        raise ConfigError(msg)
    if out.resolve() in (pair.minus.resolve(), pair.plus.resolve()):
        msg = f"{out}: is one of the shots; choose another name for the picture"
        raise ConfigError(msg)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        msg = f"{path}: cannot replace it: {error.strerror}"
        raise SlideFileError(msg) from error
