"""A stage whose board is virtual firmware in this process, by its real protocol.

The stage's driver cannot tell it from a board; the camera is told where the glass is.
"""

from bifocus.clock import Clock
from bifocus.hal.byte_link import ByteLink
from bifocus.hal.firmware_axes import AxesFacts
from bifocus.hal.firmware_board import VirtualBoard
from bifocus.hal.firmware_kinds import make_firmware
from bifocus.hal.pty_server import PtyServer
from bifocus.hal.serial_link import SerialLink
from bifocus.hal.shared_firmware import SharedFirmware, Signs
from bifocus.hal.virtual_link import VirtualLink
from bifocus.stage_config import AnySerialStage, VirtualFirmware

_ENCODER_UM = (0.022, 0.022, 0.0055)  # ASI's rotary encoders at 4 and 16 TPI


class ServedLink(SerialLink):
    """A serial link to a pseudo-terminal whose other end closes with it."""

    def __init__(self, server: PtyServer, *, clock: Clock) -> None:
        self._server = server
        super().__init__(server.port, baud=115200, assert_dtr=True, clock=clock)

    def close(self) -> None:
        """Close the port, and the board behind it."""
        super().close()
        self._server.close()

    def reopen(self) -> None:
        """Open the same port again; the board stays."""
        super().close()
        self._serial = self._opened()


def open_firmware(
    config: AnySerialStage, *, clock: Clock, seed: int
) -> tuple[ByteLink, SharedFirmware]:
    """Switch on a virtual board; return the link to it, and its hidden truth.

    Parameters
    ----------
    config
        The `stage:` section, with `port: virtual`.
    clock
        Any clock for a direct link; the real one for a pseudo-terminal.
    seed
        Draws the play and the noise of the mechanics.
    """
    firmware = config.virtual_firmware or VirtualFirmware()
    board = _board(config, firmware, now_s=clock.monotonic_s(), seed=seed)
    x, y, z = (-1 if turned else 1 for turned in config.invert)
    signs: Signs = (x, y, z)
    if firmware.link == "direct":
        shared = SharedFirmware(board, clock=clock, signs=signs)
        return VirtualLink(shared), shared
    server = PtyServer(board, signs=signs)
    try:
        return ServedLink(server, clock=clock), server.shared
    except BaseException:
        server.close()
        raise


def _board(
    config: AnySerialStage, firmware: VirtualFirmware, *, now_s: float, seed: int
) -> VirtualBoard:
    is_servo = config.kind == "asi"
    facts = AxesFacts(
        step_um=_ENCODER_UM if is_servo else config.step_um,
        speed_um_per_s=config.speed_um_per_s,
        acceleration_um_per_s2=config.acceleration_um_per_s2,
        mechanics=firmware.mechanics,
        is_closed_loop=is_servo,
    )
    kind = firmware.variant or config.kind
    return make_firmware(kind, facts, now_s=now_s, seed=seed)
