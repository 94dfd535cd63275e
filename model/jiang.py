"""The data set of Jiang et al. 2018 as published: focal stacks in incoherent light.

S. Jiang et al., Biomed. Opt. Express 9 (2018), 1601-1612. The folders are

    incoherent_RGBchannels/
      train_incoherent_RGBChannels/s{slide}_l{location}/Seg{n}_defocus{nm}.jpg
      testRawData_incoherent_sameProtocol/s{slide}_l{location}/defocus{nm}.jpg
      testRawData_incoherent_diffProtocol/s{slide}_l{location}/defocus{nm}.jpg

with both spellings, RGBchannels and RGBChannels. Heights are signed whole nanometres;
stacks need not hold 0, may miss planes and may be uneven, so the focus is looked for,
not read from a name (`bifocus.model.zstack_folder`). Training files are patches of
224x224, one stack per Seg; test frames of 2448x2048 are binned 2x2 and cut into such.
"""

import re
from collections import defaultdict
from pathlib import Path
from typing import Literal

import numpy as np

from bifocus.errors import ConfigError
from bifocus.focal_offset import PairOptics
from bifocus.model.zstack_folder import (
    FocalStack,
    SkipLog,
    StackPairs,
    check_not_empty,
    gather_stack,
    is_picture,
)
from bifocus.records import UInt8Image

JiangPart = Literal["train", "same", "different"]

_FOLDERS: dict[JiangPart, str] = {
    "train": "train_incoherent_rgbchannels",
    "same": "testrawdata_incoherent_sameprotocol",
    "different": "testrawdata_incoherent_diffprotocol",
}
RAW_SHAPE = (2048, 2448)
_LOCATION = re.compile(r"s(\d+)_l(\d+)", re.IGNORECASE)
_FILE = re.compile(r"(?:Seg(\d+)_)?defocus([+-]?\d+)", re.IGNORECASE)

# Nikon 20x / 0.75 and camera pixels of 3.45 um, so 0.1725 um at the slide and twice
# that after binning: recalled from the paper, so pass your own if you know better.
JIANG_OPTICS = PairOptics(na=0.75, pixel_um=0.345, half_spacing_um=0.5)


def find_jiang_stacks(root: Path, part: JiangPart, log: SkipLog) -> list[FocalStack]:
    """Return the stacks of one part, sorted by slide, location and Seg.

    Parameters
    ----------
    root
        `incoherent_RGBchannels`, the folder that holds it, or the part itself.
    part
        `train`, or the test slides of the `same` or a `different` staining protocol.
    log
        Takes the files that do not fit; see `zstack_folder.SkipLog`.

    Raises
    ------
    ConfigError
        If the part is absent or holds no stack.
    ImageFileError
        On the first unusable file, if the log is strict.
    """
    folder = _part_folder(root, part)
    stacks: list[FocalStack] = []
    for location in sorted(path for path in folder.iterdir() if path.is_dir()):
        matched = _LOCATION.fullmatch(location.name)
        if matched is None:
            log.skip(location, "the folder is not named s{slide}_l{location}")
            continue
        stacks += _location_stacks(location, f"s{matched[1]}", part, log)
    check_not_empty(stacks, folder, "s1_l1/defocus-500.jpg or Seg1_defocus-500", log)
    return stacks


def jiang_pairs(
    root: Path,
    part: JiangPart,
    *,
    optics: PairOptics = JIANG_OPTICS,
    offsets_um: tuple[float, ...] = (),
    is_strict: bool = False,
    seed: int = 0,
) -> StackPairs:
    """Return the pairs of one part as a `PairSource`; parameters as in `StackPairs`."""
    log = SkipLog(is_strict=is_strict)
    return StackPairs(
        stacks=find_jiang_stacks(root, part, log),
        optics=optics,
        log=log,
        offsets_um=offsets_um,
        seed=seed,
        prepare=bin_raw_frame,
    )


def bin_raw_frame(picture: UInt8Image) -> UInt8Image:
    """Return a 2448x2048 frame binned to 1224x1024; any other picture as it is."""
    if picture.shape[:2] != RAW_SHAPE:
        return picture
    height, width = RAW_SHAPE
    cells = picture.reshape(height // 2, 2, width // 2, 2, 3).astype(np.uint16)
    summed = cells.sum(axis=(1, 3), dtype=np.uint16)
    return np.asarray((summed + 2) // 4, dtype=np.uint8)


def defocus_um(stem: str) -> float | None:
    """Return the height a file's stem states, in um; None if it is no such name.

    Examples
    --------
    >>> defocus_um("Seg12_defocus-1550"), defocus_um("defocus500"), defocus_um("d5")
    (-1.55, 0.5, None)
    """
    matched = _FILE.fullmatch(stem)
    return int(matched[2]) / 1000 if matched else None


def _location_stacks(
    location: Path, slide_id: str, part: JiangPart, log: SkipLog
) -> list[FocalStack]:
    by_segment: dict[int, list[Path]] = defaultdict(list)
    for path in sorted(location.iterdir()):
        if not is_picture(path):
            continue
        matched = _FILE.fullmatch(path.stem)
        if matched is None:
            log.skip(path, "the file is not named [Seg{n}_]defocus{nm}")
        else:
            by_segment[int(matched[1] or 0)].append(path)
    stacks = [
        gather_stack(
            location,
            parse=defocus_um,
            slide_id=slide_id,
            source=f"jiang-{part}",
            log=log,
            paths=paths,
        )
        for _, paths in sorted(by_segment.items())
    ]
    return [stack for stack in stacks if stack is not None]


def _part_folder(root: Path, part: JiangPart) -> Path:
    if not root.is_dir():
        msg = f"{root} is not a folder; give the folder incoherent_RGBchannels"
        raise ConfigError(msg)
    wanted = _FOLDERS[part]
    candidates = [root, *sorted(root.glob("*")), *sorted(root.glob("*/*"))]
    for folder in candidates:
        if folder.name.lower() == wanted and folder.is_dir():
            return folder
    msg = (
        f"{root}: no folder '{wanted}' (in any case of letters); "
        "give incoherent_RGBchannels as published by Jiang et al."
    )
    raise ConfigError(msg)
