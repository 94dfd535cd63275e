"""Fuse and stitch the captures of a scan anew, with another model or engine.

The raw pairs stay where they are: the new folder has a journal that points to them, and
a slide of its own. Pairs are fused in this process, or by any executor of
`concurrent.futures`: processes of this machine, or a Dask cluster's workers. A pair may
be fused twice there, when a worker is lost; the result is the same.
"""

import os
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace

from bifocus.config import Instrument
from bifocus.edge.capture import Waits
from bifocus.edge.capture_loop import Progress
from bifocus.edge.develop import Developer
from bifocus.edge.engine_chain import EngineChain
from bifocus.edge.engine_choice import EngineWish, choose_fuser
from bifocus.edge.fusers import Fuser
from bifocus.edge.journal import Journal, TileEntry, TileLine
from bifocus.edge.pair_meter import PairMeter
from bifocus.edge.pair_rereading import PairRereading
from bifocus.edge.pipeline import Pipeline
from bifocus.edge.scan_events import ScanEvents
from bifocus.edge.scan_folder import decode_png, encode_png
from bifocus.edge.scan_report import FINISHED
from bifocus.edge.scan_result import ScanResult
from bifocus.edge.slide_making import ScanSetup, SlideMaking
from bifocus.edge.strategies import recall_surface
from bifocus.errors import SlideFileError
from bifocus.illumination import FlatFieldCorrection
from bifocus.records import InstrumentProfile, UInt8Image


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPair:
    """All that a worker anywhere needs to fuse one tile; `shots` are PNG files."""

    entry: TileEntry
    shots: Mapping[str, bytes]
    config: Instrument
    profile: InstrumentProfile
    overlap_px: tuple[float, float]
    model: str
    wish: EngineWish


@dataclass(frozen=True, slots=True, kw_only=True)
class FusedPair:
    """What a worker gives back; `picture` is a PNG file."""

    picture: bytes
    quality: float
    fuse_s: float
    sharpness: tuple[float, float]
    picked: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FuseAnew:
    """How a scan is fused anew: by what, and where if not in this process.

    At most `most_waiting` pairs are with the executor at a time.
    """

    model: str
    wish: EngineWish
    executor: Executor | None = None
    most_waiting: int = 8


def reprocess_scan(
    source: ScanSetup,
    target: ScanSetup,
    how: FuseAnew,
    fuser: Fuser,
    progress: Progress | None = None,
) -> ScanResult:
    """Make another slide of the captures of a scan, finished or not.

    Parameters
    ----------
    source, target
        The same scan, in its own folder and in the one to make.
    fuser
        The one that `how` names, opened here.
    progress
        Called with (tiles fused, tiles in all).

    Raises
    ------
    SlideFileError
        If there is no tile, a shot is missing, or the new folder holds a scan already.
    EngineError
        If the model or the engine fails.
    """
    with Journal(source.folder.journal) as journal:
        lines = tuple(journal.lines_as_finished())
        properties = journal.properties()
    if not lines:
        msg = f"{source.folder.root}: no tile was captured; there is nothing to fuse"
        raise SlideFileError(msg)
    entries = [_moved(line.entry, source, target) for line in lines]
    making = SlideMaking(target, fuser, ScanEvents())
    target.folder.create()
    anew = {**properties, **making.new_properties(), "reprocessed": "yes"}
    anew["acquired_utc"] = properties["acquired_utc"]
    anew.pop(FINISHED, None)
    with Journal.create(target.folder.journal, anew) as journal:
        pipeline = making.begin(journal)
        try:
            for entry in entries:
                journal.add_tile(entry)
            _fuse_all(entries, target, how, pipeline, progress)
            pipeline.finish()
        except BaseException:
            pipeline.abort()
            making.abandon()
            raise
        placement = making.close(journal)
        if placement is None:
            msg = f"{target.folder.root}: no tile came out"
            raise SlideFileError(msg)
        making.check_not_blank(lines)
        recall_surface(making.tracker, entries)
        elapsed_s = max(entry.at_s for entry in entries)
        result = making.result(
            journal,
            placement,
            elapsed_s=elapsed_s,
            waits_s=Waits().as_dict(),
            truth=None,
        )
    target.folder.remove_fused()
    return result


def fuse_stored(pair: StoredPair) -> FusedPair:
    """Fuse one tile; the engine is opened once for each thread that does this."""
    shape = (pair.config.camera.height_px, pair.config.camera.width_px)
    correction = FlatFieldCorrection.of_profile(
        pair.profile, shape, pair.config.optics.tone_curve
    )

    def load_shot(name: str) -> UInt8Image:
        return decode_png(pair.shots[name], name)

    profile = pair.profile
    fuser = _fuser_of_this_thread(pair.model, pair.wish)
    meter = PairMeter(
        pair.config.optics, profile.stage_spacing_um, profile.optics, fuser
    )
    capture = PairRereading(load_shot, meter, correction).capture(pair.entry)
    tile = Developer(fuser, correction, pair.overlap_px).develop(capture)
    return FusedPair(
        picture=encode_png(tile.pixels, "the fused tile"),
        quality=tile.quality,
        fuse_s=tile.fuse_s,
        sharpness=tile.sharpness,
        picked=tile.picked,
    )


_opened = threading.local()


def _fuser_of_this_thread(model: str, wish: EngineWish) -> EngineChain:
    wanted = (model, wish)
    known: tuple[object, EngineChain] | None = getattr(_opened, "fuser", None)
    if known is None or known[0] != wanted:
        if known is not None:
            known[1].close()
        _opened.fuser = known = (wanted, choose_fuser(model, wish))
    return known[1]


def _fuse_all(
    entries: Sequence[TileEntry],
    target: ScanSetup,
    how: FuseAnew,
    pipeline: Pipeline,
    progress: Progress | None,
) -> None:
    """Hand all tiles to the stitcher in their order."""
    waiting: deque[tuple[TileEntry, Future[FusedPair]]] = deque()
    overlap_px = target.plan.overlap_px
    for number, entry in enumerate(entries):
        if how.executor is None:
            pipeline.replay(_unfused(entry))
        else:
            pair = StoredPair(
                entry=entry,
                shots=_shots(entry, target),
                config=target.config,
                profile=target.profile,
                overlap_px=overlap_px,
                model=how.model,
                wish=how.wish,
            )
            waiting.append((entry, how.executor.submit(fuse_stored, pair)))
            if len(waiting) >= how.most_waiting:
                _take(waiting, pipeline)
        if progress is not None:
            progress(number + 1, len(entries))
    while waiting:
        _take(waiting, pipeline)


def _take(
    waiting: "deque[tuple[TileEntry, Future[FusedPair]]]", pipeline: Pipeline
) -> None:
    entry, future = waiting.popleft()
    fused = future.result()
    line = replace(
        _unfused(entry),
        quality=fused.quality,
        fuse_s=fused.fuse_s,
        sharpness_before=fused.sharpness[0],
        sharpness_after=fused.sharpness[1],
        picked=fused.picked,
    )
    pipeline.take(line, decode_png(fused.picture, "a worker's tile"))


def _shots(entry: TileEntry, target: ScanSetup) -> dict[str, bytes]:
    names = [name for name in (entry.raw_a, entry.raw_b) if name is not None]
    try:
        return {name: (target.folder.root / name).read_bytes() for name in names}
    except OSError as error:
        msg = f"{error.filename}: cannot read the shot: {error.strerror}"
        raise SlideFileError(msg) from error


def _moved(entry: TileEntry, source: ScanSetup, target: ScanSetup) -> TileEntry:
    """Return the entry with its shots as seen from the new folder."""

    def seen(name: str) -> str:
        path = (source.folder.root / name).resolve()
        return os.path.relpath(path, target.folder.root.resolve())

    raw_b = None if entry.raw_b is None else seen(entry.raw_b)
    return replace(entry, raw_a=seen(entry.raw_a), raw_b=raw_b)


def _unfused(entry: TileEntry) -> TileLine:
    return TileLine(
        entry=entry,
        quality=None,
        fuse_s=None,
        sharpness_before=None,
        sharpness_after=None,
    )
