"""Stops a scan before its disk is full, and lets it go on when there is room again."""

import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from bifocus.edge.scan_events import Fault, ScanControl, ScanEvents, StateChanged
from bifocus.errors import SlideFileError

logger = logging.getLogger(__name__)

_POLL_S = 1.0


def free_bytes(folder: Path) -> int:
    """Return the bytes that an ordinary user may still write there."""
    return shutil.disk_usage(folder).free


class DiskGuard:
    """Asks before each tile whether the disk has room for it.

    Parameters
    ----------
    folder
        Any folder on the disk.
    reserve_bytes
        What must stay free, besides the tile.
    tile_bytes
        What a tile may take, with its share of the slide.
    most_wait_s
        How long to wait for room before giving up.
    events
        Is told when the scan stands still for want of room.
    free
        Returns the free bytes of a folder.
    sleep
        Waits; on the machine's own time, since other people free the disk.
    """

    def __init__(
        self,
        folder: Path,
        *,
        reserve_bytes: int,
        tile_bytes: int,
        most_wait_s: float,
        events: ScanEvents,
        free: Callable[[Path], int] = free_bytes,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._folder = folder
        self._needed_bytes = reserve_bytes + tile_bytes
        self._most_wait_s = most_wait_s
        self._events = events
        self._free = free
        self._sleep = sleep

    def wait_for_room(self, control: ScanControl) -> None:
        """Return when there is room for one more tile, or the scan is to stop.

        Raises
        ------
        SlideFileError
            If there is none for too long.
        """
        if self._free(self._folder) >= self._needed_bytes:
            return
        text = (
            f"{self._folder}: {self._free(self._folder) / 1e6:.0f} MB are free, "
            f"{self._needed_bytes / 1e6:.0f} MB are needed: the scan stands still; "
            "free some space"
        )
        logger.warning("%s", text)
        self._events.publish(Fault(text=text))
        self._events.publish(StateChanged(state="paused", reason="the disk is full"))
        waited_s = 0.0
        while self._free(self._folder) < self._needed_bytes:
            if control.is_stopping:
                return
            if waited_s >= self._most_wait_s:
                msg = (
                    f"{self._folder}: the disk has been full for "
                    f"{self._most_wait_s:g} s; everything captured is kept. Free "
                    f"{self._needed_bytes / 1e6:.0f} MB (scan.disk_reserve_mb)"
                )
                raise SlideFileError(msg)
            self._sleep(_POLL_S)
            waited_s += _POLL_S
        logger.warning("%s: there is room again", self._folder)
        self._events.publish(StateChanged(state="running", reason=""))
