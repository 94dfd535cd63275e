"""Virtual firmware on a pseudo-terminal, for any program that opens a serial port.

One thread carries the bytes. When a program opens the port the board learns of it, as
through DTR, unless the last one closed it within about a millisecond; pulling the
cable takes the terminal away, and putting it back gives a new one, to which the
symbolic link then leads.
"""

import contextlib
import os
import select
import threading
import tty
from pathlib import Path
from types import TracebackType

from bifocus.clock import RealClock
from bifocus.errors import ConfigError
from bifocus.hal.firmware_board import Firmware
from bifocus.hal.shared_firmware import SharedFirmware, Signs

_LOOK_AGAIN_S = 0.005  # whether a program has opened the port, or the cable is back
_LONGEST_WAIT_S = 1.0
_PIECE_BYTES = 4096


class PtyServer:
    """Serves one board until it is closed; use it in a `with` statement.

    Parameters
    ----------
    firmware
        The board.
    link
        Symbolic link to make and to keep pointing at the terminal; None for none.
    signs
        -1 for each axis that the board counts against the stage's direction.

    Raises
    ------
    ConfigError
        If something that is no symbolic link stands at `link`, or cannot be written.
    """

    def __init__(
        self,
        firmware: Firmware,
        *,
        link: Path | None = None,
        signs: Signs = (1, 1, 1),
    ) -> None:
        self.shared = SharedFirmware(firmware, clock=RealClock(), signs=signs)
        self.has_client = False
        self._link = link
        self._master = -1
        self._device = ""
        self._lock = threading.Lock()
        self._wake_read, self._wake_write = os.pipe()
        self._is_stopping = False
        try:
            self._plug_in()
        except BaseException:
            self._release()
            raise
        self._thread = threading.Thread(target=self._serve, name="pty firmware")
        self._thread.start()

    def __enter__(self) -> "PtyServer":
        """Return the server, which already runs."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    @property
    def port(self) -> str:
        """What a program opens: the link where there is one, or the terminal."""
        return str(self._link) if self._link else self._device

    def close(self) -> None:
        """Take the terminal and the link away; may be called twice."""
        with self._lock:
            if self._is_stopping:
                return
            self._is_stopping = True
            os.write(self._wake_write, b"x")
        self._thread.join()
        self._release()

    def _serve(self) -> None:
        while not self._is_stopping:
            is_plugged, _ = self.shared.cable()
            if is_plugged and self._master < 0:
                self._plug_in()
            elif not is_plugged and self._master >= 0:
                self._pull_out()
            self._write_due()
            now_s = self.shared.clock.monotonic_s()
            wait_s = min(self.shared.next_event_s() - now_s, _LONGEST_WAIT_S)
            self._wait(max(wait_s, 0.0))

    def _wait(self, wait_s: float) -> None:
        """Wait for bytes, for the next event, or for a program to open the port."""
        if self._master >= 0 and self.has_client:
            ready, _, _ = select.select([self._master, self._wake_read], [], [], wait_s)
            if self._master in ready:
                self._read()
            return
        wait_s = min(wait_s, _LOOK_AGAIN_S)
        select.select([self._wake_read], [], [], wait_s)
        if self._master >= 0 and not _is_hung_up(self._master):
            self.has_client = True
            self.shared.open_port()

    def _read(self) -> None:
        try:
            data = os.read(self._master, _PIECE_BYTES)
        except OSError:  # the last program has closed the port
            self.has_client = False
            return
        self.shared.send(data)

    def _write_due(self) -> None:
        data = self.shared.collect()
        if self.has_client and self._master >= 0:
            with contextlib.suppress(OSError):  # nobody reads: the bytes are lost
                os.write(self._master, data)

    def _plug_in(self) -> None:
        self._master, client = os.openpty()
        tty.setraw(client)
        os.set_blocking(self._master, False)
        self._device = os.ttyname(client)
        # With our end closed, the system tells us whether a program has opened it.
        os.close(client)
        self.has_client = False
        if self._link is not None:
            _point(self._link, self._device)

    def _pull_out(self) -> None:
        os.close(self._master)
        self._master = -1
        self.has_client = False
        self._remove_link()

    def _remove_link(self) -> None:
        if self._link is not None and self._link.is_symlink():
            if str(self._link.readlink()) == self._device:
                self._link.unlink()

    def _release(self) -> None:
        if self._master >= 0:
            self._pull_out()
        os.close(self._wake_read)
        os.close(self._wake_write)


def _is_hung_up(master: int) -> bool:
    poll = select.poll()
    poll.register(master, select.POLLIN)
    return any(events & select.POLLHUP for _, events in poll.poll(0))


def _point(link: Path, device: str) -> None:
    if link.exists() and not link.is_symlink():
        msg = f"{link} exists and is no symbolic link; choose another --link"
        raise ConfigError(msg)
    try:
        link.unlink(missing_ok=True)
        link.symlink_to(device)
    except OSError as error:
        msg = f"cannot make the link {link}: {error}; choose another --link"
        raise ConfigError(msg) from error
