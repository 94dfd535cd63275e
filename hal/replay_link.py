"""A byte link that answers from a recording, and insists on what was sent then."""

from bifocus.clock import VirtualClock
from bifocus.errors import LinkLostError, ReplayError
from bifocus.hal.recording_lines import Entry, Journal

_LOST = b"link lost"
_BACK = b"link opened again"


class ReplayLink:
    """Replays the wire of a recording at the recorded times.

    What the driver sends must be what it sent then, byte for byte and in that order;
    anything else raises `ReplayError`.
    """

    def __init__(self, journal: Journal, clock: VirtualClock) -> None:
        self._journal = journal
        self._clock = clock
        self._entries = [e for e in journal.entries if _is_wire(e)]
        self._end_s = max(e.at_s for e in (journal.start, *journal.entries))
        self._next = 0

    def write(self, data: bytes) -> None:
        """Take what the recording has as the next bytes sent."""
        entry = self._wanted()
        self._check_not_lost(entry)
        if entry.what != "tx" or entry.data != data:
            expected = (
                f"{entry.data!r} was sent" if entry.what == "tx" else "it was listened"
            )
            msg = (
                f"{self._journal.folder}: the driver sends {data!r}, but {expected} "
                f"in line {entry.line} of the recording; it is another driver, another "
                "instrument file, or another order of calls"
            )
            raise ReplayError(msg)
        self._next += 1

    def read(self, *, deadline_s: float) -> bytes:
        """Return what came then, when it came then."""
        if self._next == len(self._entries):
            if deadline_s > self._end_s:
                raise self._at_the_end("listens")
            self._sleep_until(deadline_s)
            return b""
        entry = self._entries[self._next]
        if entry.what == "tx" or entry.at_s > deadline_s:
            # Silence, as it was recorded: nothing came until this was sent.
            self._sleep_until(deadline_s)
            return b""
        self._sleep_until(entry.at_s)
        self._check_not_lost(entry)
        self._next += 1
        return entry.data

    def discard_input(self) -> bytes:
        """Return all that came before the next bytes were sent."""
        data = b""
        while self._next < len(self._entries):
            entry = self._entries[self._next]
            if entry.what == "tx":
                break
            self._sleep_until(entry.at_s)
            self._check_not_lost(entry)
            data += entry.data
            self._next += 1
        return data

    def reopen(self) -> None:
        """Open again, if that went well then."""
        entry = self._wanted()
        self._check_not_lost(entry)
        if entry.what == "event" and entry.data.startswith(_BACK):
            self._sleep_until(entry.at_s)
            self._next += 1

    def close(self) -> None:
        """Nothing is open."""

    def _wanted(self) -> Entry:
        if self._next == len(self._entries):
            raise self._at_the_end("goes on")
        return self._entries[self._next]

    def _check_not_lost(self, entry: Entry) -> None:
        if entry.what == "event" and entry.data.startswith(_LOST):
            self._sleep_until(entry.at_s)
            self._next += 1
            raise LinkLostError(f"as recorded: {entry.data.decode()}")

    def _sleep_until(self, at_s: float) -> None:
        self._clock.sleep(at_s - self._clock.monotonic_s())

    def _at_the_end(self, does: str) -> ReplayError:
        return ReplayError(
            f"{self._journal.folder}: the recording ends at {self._journal.end}; the "
            f"driver {does} after it"
        )


def _is_wire(entry: Entry) -> bool:
    if entry.what == "event":
        return entry.data.startswith((_LOST, _BACK))
    return entry.what in ("tx", "rx")
