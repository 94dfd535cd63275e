"""Evaluation pairs from focal stacks in files: any folder of z-stacks.

A stack is a folder whose picture files carry their height as a signed number with a
unit, such as `z-1.5um.png`, `field3_+500nm.jpg` or `tile_z0um.tif`. Each folder below
the root that holds such files is one stack; the first folder below the root names the
slide. The in-focus plane is the one with the largest Brenner gradient (arXiv
2003.06630), whatever the names say, and all offsets are counted from it.

Files that cannot be used are named, skipped and counted, or are an error with `strict`.
"""

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from bifocus.errors import ConfigError, ImageFileError
from bifocus.focal_offset import PairOptics
from bifocus.model.evaluation_pair import EvaluationPair
from bifocus.model.focal_stack import (
    PATCH_PX,
    LoadedStack,
    choose_planes,
    cut_patches,
    draw_offsets_um,
    is_focus_inside,
    refocus,
)
from bifocus.records import UInt8Image
from bifocus.tone import ToneCurve

logger = logging.getLogger(__name__)

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"})
_HEIGHT = re.compile(r"([+-]?\d+(?:\.\d+)?) ?(nm|um|µm|μm)(?![a-zA-Z])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """One picture of a stack: its file and the height that its name states."""

    z_um: float
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class FocalStack:
    """The planes of one field, ascending, at least three."""

    name: str
    slide_id: str
    source: str
    planes: tuple[Plane, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedFile:
    """A file or stack that was left out, and why."""

    path: Path
    reason: str


@dataclass(slots=True, kw_only=True)
class SkipLog:
    """Collects what was skipped; with `is_strict` the first one is an error."""

    is_strict: bool = False
    files: list[SkippedFile] = field(default_factory=list)

    def skip(self, path: Path, reason: str) -> None:
        """Note a file once, or raise ImageFileError naming it."""
        if self.is_strict:
            msg = f"{path}: {reason}; leave out --strict to skip such files"
            raise ImageFileError(msg)
        if all(skipped.path != path for skipped in self.files):
            logger.warning("skipped %s: %s", path, reason)
            self.files.append(SkippedFile(path=path, reason=reason))

    @property
    def count(self) -> int:
        """Number of files skipped."""
        return len(self.files)


def find_zstacks(root: Path, log: SkipLog) -> list[FocalStack]:
    """Return the stacks below a folder, sorted by name; opens no picture.

    Raises
    ------
    ConfigError
        If there is no folder, or no stack in it.
    """
    if not root.is_dir():
        msg = f"{root} is not a folder; give the folder that holds the z-stacks"
        raise ConfigError(msg)
    folders = sorted({path.parent for path in root.rglob("*") if is_picture(path)})
    stacks = []
    for folder in folders:
        parts = folder.relative_to(root).parts
        stack = gather_stack(
            folder,
            parse=height_in_name_um,
            slide_id=parts[0] if parts else root.name,
            source=root.name,
            log=log,
        )
        if stack is not None:
            stacks.append(stack)
    check_not_empty(stacks, root, "pictures named like z-0.5um.png", log)
    return stacks


def height_in_name_um(name: str) -> float | None:
    """Return the last signed height in a file's stem, in um; None if there is none.

    Examples
    --------
    >>> height_in_name_um("field2_z-1.5um"), height_in_name_um("a_+500nm")
    (-1.5, 0.5)
    """
    found = _HEIGHT.findall(name)
    if not found:
        return None
    value, unit = found[-1]
    return float(value) / 1000 if unit == "nm" else float(value)


def gather_stack(
    folder: Path,
    *,
    parse: Callable[[str], float | None],
    slide_id: str,
    source: str,
    log: SkipLog,
    paths: Sequence[Path] | None = None,
) -> FocalStack | None:
    """Return the stack of a folder's files, or None (and a note) if it is too short."""
    planes: dict[float, Plane] = {}
    for path in sorted(paths if paths is not None else folder.iterdir()):
        if not is_picture(path):
            continue
        z_um = parse(path.stem)
        if z_um is None:
            log.skip(path, "its name does not state a height")
        elif z_um in planes:
            other = planes[z_um].path.name
            log.skip(path, f"states the same height as {other}: {z_um:g} um")
        else:
            planes[z_um] = Plane(z_um=z_um, path=path)
    if not planes:
        return None
    if len(planes) < 3:
        log.skip(folder, f"{len(planes)} planes; a pair and its truth need 3")
        return None
    name = folder.name if paths is None else f"{folder.name}/{paths[0].stem}"
    ordered = tuple(planes[z_um] for z_um in sorted(planes))
    return FocalStack(name=name, slide_id=slide_id, source=source, planes=ordered)


def load_stack(
    stack: FocalStack,
    log: SkipLog,
    prepare: Callable[[UInt8Image], UInt8Image] | None = None,
) -> LoadedStack | None:
    """Read the planes of a stack; None (and notes) if fewer than three can be used.

    `prepare` bins or cuts each picture after reading. A picture of another size than
    most of the stack is mislabelled and skipped.
    """
    read: list[tuple[Plane, UInt8Image]] = []
    for plane in stack.planes:
        try:
            picture = read_picture(plane.path)
        except ImageFileError as error:
            log.skip(plane.path, str(error).removeprefix(f"{plane.path}: "))
            continue
        read.append((plane, picture if prepare is None else prepare(picture)))
    shapes = [picture.shape for _, picture in read]
    usual = max(set(shapes), key=shapes.count) if shapes else None
    for plane, picture in read:
        if picture.shape != usual:
            log.skip(plane.path, f"size {picture.shape} in a stack of {usual}")
    kept = [(plane, picture) for plane, picture in read if picture.shape == usual]
    folder = stack.planes[0].path.parent
    if len(kept) < 3:
        log.skip(folder, f"only {len(kept)} planes can be read")
        return None
    return refocus(
        LoadedStack(
            z_um=np.array([plane.z_um for plane, _ in kept]),
            pictures=tuple(picture for _, picture in kept),
            focus_index=0,
            slide_id=stack.slide_id,
            source=stack.source,
        )
    )


def read_picture(path: Path) -> UInt8Image:
    """Return an RGB picture.

    Raises
    ------
    ImageFileError
        If the file is missing, truncated, or no picture.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"), dtype=np.uint8)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = "no picture" if "identify" in str(error) else str(error)
        msg = f"{path}: cannot be read ({reason})"
        raise ImageFileError(msg) from error


def check_not_empty(
    stacks: Sequence[FocalStack], root: Path, expected: str, log: SkipLog
) -> None:
    """Raise ConfigError, naming what was expected, if a data set has no stack."""
    if not stacks:
        msg = (
            f"{root}: no focal stack found ({log.count} files skipped); "
            f"expected {expected}"
        )
        raise ConfigError(msg)


def is_picture(path: Path) -> bool:
    """Return whether a path is a picture file by its name."""
    return path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".")


@dataclass(frozen=True, slots=True, kw_only=True)
class StackPairs:
    """A `PairSource` over stacks: seeded Gaussian n, or each of a list of offsets.

    Attributes
    ----------
    offsets_um
        Offsets that each patch is shown at; empty draws one n ~ N(0, 1) per patch.
    optics
        What the data set was taken with; its half-spacing is the one wanted, pairs
        carry their own.
    patch_px
        Side of the patches, None for whole pictures.
    """

    stacks: Sequence[FocalStack]
    optics: PairOptics
    log: SkipLog
    tone_curve: ToneCurve = "srgb"
    offsets_um: tuple[float, ...] = ()
    patch_px: int | None = PATCH_PX
    seed: int = 0
    prepare: Callable[[UInt8Image], UInt8Image] | None = None

    def __iter__(self) -> Iterator[EvaluationPair]:
        """Yield the pairs, reading one stack at a time."""
        rng = np.random.default_rng(self.seed)
        n_pairs = 0
        for stack in self.stacks:
            loaded = load_stack(stack, self.log, self.prepare)
            if loaded is None:
                continue
            patches = [loaded]
            if self.patch_px is not None:
                patches = list(cut_patches(loaded, self.patch_px))
            drawn = draw_offsets_um(rng, len(patches))
            for patch, offset_um in zip(patches, drawn, strict=True):
                if not is_focus_inside(patch):
                    continue
                for pair in self._pairs(patch, self.offsets_um or (float(offset_um),)):
                    n_pairs += 1
                    yield pair
        if n_pairs == 0:
            msg = (
                f"none of {len(self.stacks)} stacks gives a pair at half-spacing "
                f"{self.optics.half_spacing_um} um ({self.log.count} files skipped)"
            )
            raise ConfigError(msg)

    def _pairs(
        self, patch: LoadedStack, offsets_um: Sequence[float]
    ) -> Iterator[EvaluationPair]:
        for wanted_um in offsets_um:
            chosen = choose_planes(
                patch.z_um,
                offset_um=wanted_um,
                half_spacing_um=self.optics.half_spacing_um,
            )
            if chosen is None:
                continue
            spacing_um = round(chosen.half_spacing_um, 6)
            yield EvaluationPair(
                minus=patch.pictures[chosen.minus],
                plus=patch.pictures[chosen.plus],
                truth=patch.pictures[patch.focus_index],
                optics=replace(self.optics, half_spacing_um=spacing_um),
                offset_um=round(chosen.offset_um, 6),
                half_spacing_um=spacing_um,
                slide_id=patch.slide_id,
                source=patch.source,
                tone_curve=self.tone_curve,
            )
