"""The frozen evaluation sets: which tissue, which offsets, which light, which seed.

Two conditions at half-spacing 0.75 um, n ~ N(0, 1) um, NA 0.75 and 0.25 um pixels:
partially coherent light on level tissue, and incoherent light on tissue with a relief
of +-0.4 um. The tissue comes from the test slides of `bifocus.model.texture_files`:
neither training nor the choice of a checkpoint has seen them.
Changing anything here makes older results incomparable: raise `SET_VERSION` with it.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.special import ndtri

from bifocus.errors import ConfigError, ImageFileError
from bifocus.focal_offset import PairOptics
from bifocus.model.evaluation_optics import EvaluationOptics, expose, render_planes
from bifocus.model.evaluation_pair import EvaluationPair
from bifocus.model.texture_files import (
    Split,
    TextureFile,
    compute_data_hash,
    find_data_dir,
    list_textures,
)
from bifocus.records import UInt8Image

Float64 = npt.NDArray[np.float64]

SET_VERSION = 3
SEED = 20260  # of everything frozen here
TILE_PX = 224
HALF_SPACING_UM = 0.75
# Rendered with this border, then cut: pictures wrap around when they are rendered.
BORDER_PX = 32
# Offsets beyond this are drawn to the edge, as in the first trials (network.md).
_LARGEST_OFFSET_UM = 2.5
# Crops flatter than this, in grey levels, are glass or a blank corner.
_LEAST_TEXTURE = 15.0

CONDITIONS = {
    "partially coherent": EvaluationOptics(
        condenser=0.6, object_phase_rad=0.15, spherical_waves=0.05, coma_waves=0.03
    ),
    "incoherent relief": EvaluationOptics(
        paraxial=True, spherical_waves=-0.03, relief_um=0.4
    ),
}

HELD_OUT: tuple[Split, ...] = ("test",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Texture:
    """A sharp picture of tissue and the slide that it comes from."""

    pixels: UInt8Image
    slide_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedPairs:
    """A `PairSource`: seeded pairs of one condition.

    Attributes
    ----------
    textures
        Sharp tissue; taken in turn.
    offsets_um
        One pair for each.
    """

    name: str
    optics: EvaluationOptics
    textures: Sequence[Texture]
    offsets_um: tuple[float, ...]
    half_spacing_um: float = HALF_SPACING_UM
    seed: int = SEED
    tile_px: int = TILE_PX

    def __iter__(self) -> Iterator[EvaluationPair]:
        """Yield the pairs, each from its own seed."""
        for number, offset_um in enumerate(self.offsets_um):
            texture = self.textures[number % len(self.textures)]
            yield self._pair(texture, offset_um, number)

    def _pair(self, texture: Texture, offset_um: float, number: int) -> EvaluationPair:
        rng = np.random.default_rng([self.seed, number])
        side = self.tile_px + 2 * BORDER_PX
        crop = textured_crop(texture, side, rng).astype(np.float64)
        transmission = np.clip(crop / np.percentile(crop, 99.5), 0, 1)
        relief_um = smooth_relief_um(side, self.optics.relief_um, rng)
        planes_um = (-self.half_spacing_um, self.half_spacing_um)
        light = render_planes(
            transmission, offset_um + relief_um, planes_um, self.optics
        )
        box = (slice(BORDER_PX, -BORDER_PX),) * 2
        shots = [expose(light[i][box], self.optics, rng) for i in range(2)]
        return EvaluationPair(
            minus=shots[0],
            plus=shots[1],
            truth=expose(light[2][box], self.optics, None),
            optics=PairOptics(
                na=self.optics.na,
                pixel_um=self.optics.pixel_um,
                half_spacing_um=self.half_spacing_um,
                wavelengths_um=self.optics.wavelengths_um,
            ),
            offset_um=offset_um,
            half_spacing_um=self.half_spacing_um,
            slide_id=texture.slide_id,
            source=self.name,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinedPairs:
    """A `PairSource` made of several, one after the other."""

    parts: Sequence[SimulatedPairs]

    def __iter__(self) -> Iterator[EvaluationPair]:
        """Yield the pairs of each part."""
        for part in self.parts:
            yield from part

    def __len__(self) -> int:
        """Return the number of pairs."""
        return sum(len(part.offsets_um) for part in self.parts)


def frozen_set(
    textures: Sequence[Texture], pairs_per_condition: int, tile_px: int = TILE_PX
) -> JoinedPairs:
    """Return both conditions; offsets are the quantiles of N(0, 1), in seeded order.

    Quantiles instead of draws make a small set stand for the whole distribution.
    """
    share = (np.arange(pairs_per_condition) + 0.5) / pairs_per_condition
    quantiles_um = np.clip(ndtri(share), -_LARGEST_OFFSET_UM, _LARGEST_OFFSET_UM)
    order = np.random.default_rng(SEED).permutation(pairs_per_condition)
    offsets_um = tuple(round(float(offset_um), 4) for offset_um in quantiles_um[order])
    return JoinedPairs(
        parts=[
            SimulatedPairs(
                name=name,
                optics=optics,
                textures=textures,
                offsets_um=offsets_um,
                seed=SEED + number,
                tile_px=tile_px,
            )
            for number, (name, optics) in enumerate(CONDITIONS.items())
        ]
    )


def grid_set(
    textures: Sequence[Texture],
    *,
    offsets_um: Sequence[float] = (-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0),
    half_spacings_um: Sequence[float] = (0.5, 0.75, 1.0),
    pairs_per_cell: int = 10,
) -> JoinedPairs:
    """Return the grid over focal offset and half-spacing, both conditions.

    Cell by cell the same crops are shown, so that cells can be compared.
    """
    repeated = tuple(float(n) for n in np.repeat(offsets_um, pairs_per_cell))
    parts = []
    for number, (name, optics) in enumerate(CONDITIONS.items()):
        for half_spacing_um in half_spacings_um:
            parts.append(
                SimulatedPairs(
                    name=name,
                    optics=optics,
                    textures=textures,
                    offsets_um=repeated,
                    half_spacing_um=half_spacing_um,
                    seed=SEED + 10 + number,
                )
            )
    return JoinedPairs(parts=parts)


def describe_conditions() -> dict[str, dict[str, Any]]:
    """Return the optics of each condition, for the table beside the results."""
    return {name: asdict(optics) for name, optics in CONDITIONS.items()}


def held_out_textures(data_dir: Path) -> tuple[list[Texture], str]:
    """Return the tissue of the slides outside training, slides taking turns; its hash.

    Raises
    ------
    ConfigError
        If the folder holds none of it.
    """
    files = [file for split in HELD_OUT for file in list_textures(data_dir, split)]
    by_slide: dict[str, list[TextureFile]] = {}
    for file in files:
        by_slide.setdefault(file.slide, []).append(file)
    textures = []
    for turn in range(max(len(members) for members in by_slide.values())):
        for slide_id, members in by_slide.items():
            if turn < len(members):
                pixels = _read(members[turn].path, members[turn].scale)
                textures.append(Texture(pixels=pixels, slide_id=slide_id))
    return textures, compute_data_hash(tuple(files))


def folder_textures(folder: Path) -> list[Texture]:
    """Return all pictures of a folder as textures; its first level names the slide."""
    textures = []
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in {".png", ".jpg", ".jpeg", ".tif", ".tiff"}:
            parts = path.relative_to(folder).with_suffix("").parts
            textures.append(Texture(pixels=_read(path), slide_id=parts[0]))
    if not textures:
        msg = f"{folder}: no PNG, JPEG or TIFF pictures in it"
        raise ConfigError(msg)
    return textures


def default_textures() -> tuple[list[Texture], str]:
    """Return the held-out tissue where it exists, else procedural tissue; and which."""
    try:
        textures, data_hash = held_out_textures(find_data_dir())
    except ConfigError:
        if os.environ.get("BIFOCUS_DATA"):
            raise
        return procedural_textures(8), "procedural tissue: no real slides found"
    return textures, f"held-out slides, sha256 {data_hash[:16]}"


def procedural_textures(count: int, side: int = 400) -> list[Texture]:
    """Return seeded H&E-like pictures: fibres and nuclei, for want of real tissue."""
    textures = []
    for number in range(count):
        rng = np.random.default_rng([SEED, 77, number])
        fibres = gaussian_filter(rng.normal(size=(side, side)), (0.8, 4.0))
        fine = gaussian_filter(rng.normal(size=(side, side)), 0.8)
        points = rng.random((side, side)) < 1 / 700
        nuclei = np.clip(9 * gaussian_filter(40.0 * points, 4.0), 0, 1)
        eosin = np.clip(0.45 + 0.6 * fibres + 0.1 * fine, 0.02, None)
        chromatin = nuclei * np.clip(0.8 + 0.6 * fine, 0.1, None)
        # Absorption of haematoxylin and eosin: A. Ruifrok and D. Johnston, 2001.
        density = chromatin[..., None] * np.array([0.65, 0.70, 0.29])
        density = density + eosin[..., None] * np.array([0.07, 0.99, 0.11])
        pixels = np.rint(255 * np.exp(-density)).astype(np.uint8)
        textures.append(Texture(pixels=pixels, slide_id=f"procedural {number}"))
    return textures


def textured_crop(
    texture: Texture, side: int, rng: np.random.Generator, tries: int = 12
) -> UInt8Image:
    """Return a square crop with detail, or the best of some tries."""
    height, width = texture.pixels.shape[:2]
    if min(height, width) < side:
        msg = f"{texture.slide_id}: {width}x{height} px; both must be >= {side}"
        raise ImageFileError(msg)
    best, best_sd = texture.pixels[:side, :side], -1.0
    for _ in range(tries):
        top, left = (int(rng.integers(length - side + 1)) for length in (height, width))
        crop = texture.pixels[top : top + side, left : left + side]
        if crop.std() > best_sd:
            best, best_sd = crop, float(crop.std())
        if best_sd >= _LEAST_TEXTURE:
            break
    return best


def smooth_relief_um(
    side: int, amplitude_um: float, rng: np.random.Generator
) -> Float64:
    """Return a smooth height map of zero mean that reaches `amplitude_um`."""
    if amplitude_um == 0:
        return np.zeros((side, side))
    relief = gaussian_filter(rng.normal(size=(side, side)), side / 6, mode="wrap")
    relief -= relief.mean()
    scaled: Float64 = amplitude_um * relief / np.abs(relief).max()
    return scaled


def _read(path: Path, scale: float = 1.0) -> UInt8Image:
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"), dtype=np.uint8)
    except OSError as error:
        msg = f"{path}: cannot be read ({error})"
        raise ImageFileError(msg) from error
    if scale == 1:
        return pixels
    size = (round(pixels.shape[1] * scale), round(pixels.shape[0] * scale))
    shrunk = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return np.asarray(shrunk, dtype=np.uint8)
