"""Ends a scan whose tiles are all captured: fuses and stitches what is left."""

from bifocus.edge.capture import Waits
from bifocus.edge.fusers import Fuser
from bifocus.edge.journal import Journal, TileLine
from bifocus.edge.pipeline import Pipeline
from bifocus.edge.placement import Placement
from bifocus.edge.scan_events import ScanEvents, StateChanged
from bifocus.edge.scan_result import ScanResult
from bifocus.edge.slide_making import ScanSetup, SlideMaking, begin_session
from bifocus.edge.strategies import recall_surface
from bifocus.errors import SlideFileError


def finish_scan(
    setup: ScanSetup, fuser: Fuser, events: ScanEvents | None = None
) -> ScanResult:
    """Make the slide of the tiles in the scan's folder; what is fused is kept.

    Raises
    ------
    SlideFileError
        If a shot or the slide cannot be read or written, or there is no tile.
    EngineError
        If the fuser fails.
    BlankSlideError
        If no tile shows any tissue.
    """
    making = SlideMaking(setup, fuser, events or ScanEvents())
    with Journal(setup.folder.journal) as journal:
        begin_session(journal)
        lines = tuple(journal.lines_as_finished())
        placement = _stitch_all(making, journal, lines)
        making.check_not_blank(lines)
        recall_surface(making.tracker, [line.entry for line in lines])
        result = making.result(
            journal,
            placement,
            elapsed_s=max(line.entry.at_s for line in lines),
            waits_s=Waits().as_dict(),
            truth=None,
        )
    setup.folder.remove_fused()
    making.events.publish(StateChanged(state="done", reason=""))
    return result


def _stitch_all(
    making: SlideMaking, journal: Journal, lines: tuple[TileLine, ...]
) -> Placement:
    pipeline = making.begin(journal)
    try:
        _replay(pipeline, lines)
    except BaseException:
        pipeline.abort()
        making.abandon()
        raise
    placement = making.close(journal)
    if placement is None:
        msg = f"{making.setup.folder.root}: no tile was captured"
        raise SlideFileError(msg)
    return placement


def _replay(pipeline: Pipeline, lines: tuple[TileLine, ...]) -> None:
    for line in lines:
        pipeline.replay(line)
    pipeline.finish()
