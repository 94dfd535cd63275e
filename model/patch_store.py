"""A folder of rendered training patches: made once, read as memory maps.

    python -m bifocus.model.patch_store OUT --n 3000

`store.json` says how the patches were made; `minus.npy`, `plus.npy`, `physics.npy`,
`remainder.npy` (what rounding took from the physics image, `bifocus.tone`) and
`truth.npy` hold uint8 (n, side, side, 3); `done.npy` marks the finished ones, so that
an interrupted run continues, and training may begin on a store that still grows;
`specs.jsonl` lists each finished patch with its slide. Every patch depends on the seed
and its number alone, whatever the number of processes.
"""

import argparse
import functools
import json
import logging
import multiprocessing
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bifocus.errors import BifocusError, ConfigError, EngineError
from bifocus.model import coherent, incoherent
from bifocus.model.pair_drawing import draw_instrument, draw_pair_spec
from bifocus.model.pair_mix import MIXES, PairMix
from bifocus.model.pair_spec import PairSpec, pair_spec_from_json
from bifocus.model.shot_camera import StoredPair, cut_pair, store_pair
from bifocus.model.texture_files import (
    Split,
    TextureFile,
    compute_data_hash,
    find_data_dir,
    list_textures,
)
from bifocus.model.textures import draw_texture
from bifocus.physics_fusion import fuse_two_shots
from bifocus.records import UInt8Image

logger = logging.getLogger(__name__)

FORMAT_VERSION = 2
IMAGE_NAMES = ("minus", "plus", "physics", "remainder", "truth")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRequest:
    """What to render; equal requests give equal stores, byte by byte.

    `margin_px` is rendered on each side and cut off: it keeps the periodic field and
    the filter's border out. With `has_border` it is cut before the pair is fused. Such
    a patch is a whole tile, whose physics image is worse along its sides, where blur
    brought in what lies beyond; train on it uncut. One instrument (see `pair_spec`)
    makes `per_instrument` patches in a row, which shares the physics fuser's tables.
    """

    n: int
    split: Split = "train"
    mix: str = "training"
    seed: int = 0
    patch_px: int = 160
    margin_px: int = 32
    has_border: bool = False
    per_instrument: int = 25

    def __post_init__(self) -> None:
        """Refuse sizes that cannot be rendered."""
        if self.n < 1 or self.per_instrument < 1 or self.patch_px < 32:
            msg = "a store needs n >= 1, per_instrument >= 1 and patch_px >= 32"
            raise ConfigError(msg)
        if self.mix not in MIXES:
            msg = f"unknown mix '{self.mix}'; known: {', '.join(MIXES)}"
            raise ConfigError(msg)
        fused_px = self.patch_px + (0 if self.has_border else 2 * self.margin_px)
        if fused_px < 64:
            msg = "the physics fuser needs 64 px: patch_px, and the margins if not cut"
            raise ConfigError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """One rendered patch: five uint8 images, its record and its slide."""

    minus: UInt8Image
    plus: UInt8Image
    physics: UInt8Image
    remainder: UInt8Image
    truth: UInt8Image
    spec: PairSpec
    slide: str
    is_plus_sharper: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchStore:
    """A store that is open for reading; `images` maps names to memory maps."""

    folder: Path
    request: StoreRequest
    data_hash: str
    images: dict[str, npt.NDArray[np.uint8]]

    def read_finished(self) -> npt.NDArray[np.int64]:
        """Return the numbers of the patches that are finished by now."""
        return np.flatnonzero(np.load(self.folder / "done.npy"))

    def read_records(self) -> dict[int, dict[str, Any]]:
        """Return `specs.jsonl` by number: spec, slide, and which shot is sharper."""
        path = self.folder / "specs.jsonl"
        records: dict[int, dict[str, Any]] = {}
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue  # the last line of a run that was killed
            records[int(record["number"])] = record
        return records

    def read_specs(self) -> dict[int, PairSpec]:
        """Return the record of each finished patch by number."""
        return {
            number: pair_spec_from_json(record["spec"])
            for number, record in self.read_records().items()
        }


def render_patch(
    request: StoreRequest,
    number: int,
    files: tuple[TextureFile, ...],
    *,
    device: str = "cpu",
) -> Patch:
    """Render, store and fuse one patch; depends on the request and number alone."""
    mix: PairMix = MIXES[request.mix]
    group = number // request.per_instrument
    # The third number keeps the two families of seeds apart.
    nominal = draw_instrument(mix, np.random.default_rng([request.seed, group, 1]))
    rng = np.random.default_rng([request.seed, number, 0])
    spec = draw_pair_spec(mix, nominal, rng)
    side_px = request.patch_px + 2 * request.margin_px
    texture, file = draw_texture(files, spec, side_px, rng)
    code = coherent if spec.imaging == "coherent" else incoherent
    pair: StoredPair = store_pair(code.render(texture, spec, device=device), spec)
    kept = slice(request.margin_px, request.margin_px + request.patch_px)
    if request.has_border:
        pair, kept = cut_pair(pair, kept), slice(None)
    fused = fuse_two_shots(
        pair.minus,
        pair.plus,
        nominal,
        tone_curve=spec.tone_curve,
        colours="together",
    )
    return Patch(
        minus=pair.minus[kept, kept],
        plus=pair.plus[kept, kept],
        physics=fused.pixels[kept, kept],
        remainder=fused.remainder()[kept, kept],
        truth=pair.truth[kept, kept],
        spec=spec,
        slide=file.slide,
        is_plus_sharper=pair.is_plus_sharper,
    )


def build_store(
    folder: Path,
    request: StoreRequest,
    *,
    data_dir: Path | None = None,
    n_processes: int = 1,
    device: str = "cpu",
) -> PatchStore:
    """Render what is missing of a store.

    Parameters
    ----------
    folder
        Made if absent; continued if it holds the same request, refused otherwise.
    request
        What to render.
    data_dir
        Tissue images; by default `find_data_dir()`.
    n_processes
        Processes that render, each with one thread; 1 renders in this one.
    device
        Torch device of the image formation.

    Returns
    -------
    PatchStore
        Open for reading, every patch finished.

    Raises
    ------
    ConfigError
        If the folder holds another store, or there is no tissue.
    EngineError
        If the disk is full.
    """
    files = list_textures(data_dir or find_data_dir(), request.split)
    data_hash = compute_data_hash(files)
    try:
        _prepare(folder, request, data_hash)
        missing = np.flatnonzero(~np.load(folder / "done.npy"))
        groups = np.unique(missing // request.per_instrument).tolist()
        work = functools.partial(_render_group, folder, request, files, device)
        logger.info("%s: %d of %d patches to render", folder, missing.size, request.n)
        if n_processes == 1:
            results = map(work, groups)
            _collect(folder, results)
        else:
            context = multiprocessing.get_context("spawn")
            with context.Pool(n_processes, initializer=_use_one_thread) as pool:
                _collect(folder, pool.imap_unordered(work, groups))
    except OSError as error:
        msg = f"{folder}: cannot write patches: {error.strerror or error}"
        raise EngineError(msg) from error
    return open_store(folder)


def open_store(folder: Path) -> PatchStore:
    """Open a finished or growing store.

    Raises
    ------
    ConfigError
        If it is no store, or its arrays do not fit its description.
    """
    try:
        head = json.loads((folder / "store.json").read_text(encoding="utf-8"))
        if head["version"] != FORMAT_VERSION:
            msg = (
                f"{folder}: store version {head['version']}, expected "
                f"{FORMAT_VERSION}; render it again"
            )
            raise ConfigError(msg)
        request = StoreRequest(**head["request"])
        images = {
            name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in IMAGE_NAMES
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"{folder}: not a store of patches: {error}"
        raise ConfigError(msg) from error
    for name, array in images.items():
        if array.shape != _shape(request) or array.dtype != np.uint8:
            msg = f"{folder}: {name}.npy is {array.dtype} {array.shape}"
            raise ConfigError(msg)
    return PatchStore(
        folder=folder, request=request, data_hash=head["data_hash"], images=images
    )


def _shape(request: StoreRequest) -> tuple[int, int, int, int]:
    return (request.n, request.patch_px, request.patch_px, 3)


def _prepare(folder: Path, request: StoreRequest, data_hash: str) -> None:
    """Make the folder and its empty arrays, or check that it continues this request."""
    head = {
        "version": FORMAT_VERSION,
        "request": asdict(request),
        "mix": asdict(MIXES[request.mix]),
        "data_hash": data_hash,
    }
    # Through JSON: tuples become the lists that a file holds.
    head = json.loads(json.dumps(head))
    path = folder / "store.json"
    if path.exists():
        if json.loads(path.read_text(encoding="utf-8")) != head:
            msg = (
                f"{folder} holds patches of another request, mix or data; name another"
            )
            raise ConfigError(msg)
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name in IMAGE_NAMES:
        empty: npt.NDArray[np.uint8] = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
            folder / f"{name}.npy", mode="w+", dtype=np.uint8, shape=_shape(request)
        )
        del empty  # closed: workers open it by themselves
    np.save(folder / "done.npy", np.zeros(request.n, dtype=bool))
    (folder / "specs.jsonl").touch()
    # Written last: a folder without it is begun anew.
    path.write_text(json.dumps(head, indent=1), encoding="utf-8")


def _render_group(
    folder: Path,
    request: StoreRequest,
    files: tuple[TextureFile, ...],
    device: str,
    group: int,
) -> list[dict[str, Any]]:
    """Render the patches of one instrument into the maps; return their records."""
    store = open_store(folder)
    first = group * request.per_instrument
    numbers = range(first, min(first + request.per_instrument, request.n))
    writable = {
        name: np.load(store.folder / f"{name}.npy", mmap_mode="r+")
        for name in IMAGE_NAMES
    }
    records = []
    for number in numbers:
        patch = render_patch(request, number, files, device=device)
        for name in IMAGE_NAMES:
            writable[name][number] = getattr(patch, name)
        records.append(
            {
                "number": number,
                "slide": patch.slide,
                "is_plus_sharper": patch.is_plus_sharper,
                "spec": patch.spec.to_json(),
            }
        )
    for array in writable.values():
        array.flush()
    return records


def _collect(folder: Path, results: Any) -> None:  # an iterator of lists of records
    """Mark patches as finished, after their pixels and records are on the disk."""
    path = folder / "specs.jsonl"
    if path.stat().st_size and not path.read_bytes().endswith(b"\n"):
        with path.open("a", encoding="utf-8") as stream:
            stream.write("\n")
    for records in results:
        with path.open("a", encoding="utf-8") as stream:
            stream.writelines(json.dumps(record) + "\n" for record in records)
        done = np.load(folder / "done.npy")
        done[[record["number"] for record in records]] = True
        partial = folder / "done.partial.npy"
        np.save(partial, done)
        partial.replace(folder / "done.npy")
        logger.info("%s: %d of %d patches", folder, int(done.sum()), done.size)


def _use_one_thread() -> None:
    torch.set_num_threads(1)


def main(arguments: list[str] | None = None) -> int:
    """Build a store from the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bifocus.model.patch_store", description=__doc__
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--n", type=int, default=3000)
    parser.add_argument("--split", default="train")
    parser.add_argument("--mix", default="training", choices=sorted(MIXES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--patch", type=int, default=160, dest="patch_px")
    parser.add_argument("--margin", type=int, default=32, dest="margin_px")
    parser.add_argument("--border", action="store_true", dest="has_border")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--data", type=Path, default=None)
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        request = StoreRequest(
            n=chosen.n,
            split=chosen.split,
            mix=chosen.mix,
            seed=chosen.seed,
            patch_px=chosen.patch_px,
            margin_px=chosen.margin_px,
            has_border=chosen.has_border,
        )
        build_store(
            chosen.folder,
            request,
            data_dir=chosen.data,
            n_processes=chosen.processes,
            device=chosen.device,
        )
    except BifocusError as error:
        logger.error("%s", error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
