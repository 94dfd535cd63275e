"""A host that types at a virtual board and reads what it says, on a virtual clock."""

from bifocus.clock import VirtualClock
from bifocus.hal.firmware_axes import AxesFacts
from bifocus.hal.firmware_board import VirtualBoard
from bifocus.hal.firmware_kinds import FirmwareKind, make_firmware
from bifocus.hal.shared_firmware import SharedFirmware
from bifocus.hal.virtual_link import VirtualLink


class Typist:
    """Opens the port of a new board, past its boot, with the banner read away."""

    def __init__(
        self,
        kind: FirmwareKind,
        facts: AxesFacts | None = None,
        *,
        board: VirtualBoard | None = None,
    ) -> None:
        self.clock = VirtualClock()
        self.board = board or make_firmware(kind, facts, now_s=0.0, seed=5)
        self.shared = SharedFirmware(self.board, clock=self.clock)
        self.link = VirtualLink(self.shared)
        self._heard = b""
        self.banner = self.hear(2.0)

    def type(self, text: str) -> None:
        self.link.write(text.encode("latin-1"))

    def hear(self, within_s: float) -> list[str]:
        """Return all lines that come in this time."""
        end_s = self.clock.monotonic_s() + within_s
        while self.clock.monotonic_s() < end_s:
            self._heard += self.link.read(deadline_s=end_s)
        *lines, self._heard = self._heard.split(b"\n")
        texts = [line.decode("latin-1").strip("\r") for line in lines]
        return [text for text in texts if text]

    def line(self, within_s: float = 600.0) -> str:
        """Return the next line; fail when none comes."""
        end_s = self.clock.monotonic_s() + within_s
        while b"\n" not in self._heard:
            data = self.link.read(deadline_s=end_s)
            assert data, f"no line within {within_s} s"
            self._heard += data
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode("latin-1").strip("\r") or self.line(within_s)

    def ask(self, text: str, within_s: float = 600.0) -> str:
        self.type(text)
        return self.line(within_s)
