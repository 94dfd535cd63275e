"""The Sangaboard as a stage driver: blocking moves in v0.5, polled ones in v1.x.

Firmware 0.5 answers a move when it has ended and hears nothing until then; it cannot
be stopped, so the policy sends it short pieces.
"""

import logging

from bifocus.errors import ConfigError, DeviceError, DeviceTimeoutError, ProtocolError
from bifocus.hal import sangaboard_codec as codec
from bifocus.hal.board_driver import BoardFacts
from bifocus.hal.sangaboard_codec import Steps
from bifocus.hal.serial_port import SerialPort
from bifocus.hal.take_up import Triple
from bifocus.stage_config import SangaboardStageConfig

logger = logging.getLogger(__name__)

_POLL_S = 0.01
_RETRY_S = 0.5  # between questions to a board that is still booting
_MISMATCH = 0.1  # of the pace; beyond it the file's time estimates mislead
_STANDARD_DELAY_US = 1000  # the firmware's own default


class Sangaboard:
    """One Sangaboard with firmware 0.5 or 1.x; see `BoardDriver`."""

    def __init__(self, port: SerialPort, config: SangaboardStageConfig) -> None:
        self._port = port
        self._config = config
        self._deadlines = config.deadlines
        self._polls = False
        self._waits_for_done = False
        self._step_delay_s = _STANDARD_DELAY_US * 1e-6
        self._ramp_s = 0.0

    def connect(self) -> BoardFacts:
        """Wait for the board to boot, identify it, read its pace; never moves."""
        with self._port.resets_expected():
            version = self._await_version()
            self._port.drain()
        if version.major not in (0, 1) or (version.major, version.minor) < (0, 5):
            msg = f"{self._port.name}: {version.text} is too old; update to v0.5 or v1"
            raise DeviceError(msg)
        self._polls = version.major == 1
        self._waits_for_done = False
        if self._polls:
            # Its answer differs between versions.
            self._port.ask(b"blocking_moves false\n", codec.parse_any)
        self._read_pace()
        return BoardFacts(
            identity=version.text,
            readback_um=self._half_step_um(),
            arrival_um=self._half_step_um(),
            can_stop=self._polls,
            reports_actual_position=False,
            keeps_place_at_reset=True,
            has_manual_control=False,
            poll_s=_POLL_S if self._polls else 0.0,
        )

    def duration_s(self, start_um: Triple, target_um: Triple) -> float:
        """Return the time of the axis with most steps, and two ramps."""
        most = max(abs(n) for n in self._steps_between(start_um, target_um))
        return most * self._step_delay_s + 2 * self._ramp_s if most else 0.0

    def start_move(self, start_um: Triple, target_um: Triple) -> None:
        """Send one relative move."""
        command = codec.encode_move(self._steps_between(start_um, target_um))
        port = self._port
        with port.turn():
            port.discard_input()
            port.send(command)
            self._waits_for_done = not self._polls
            if self._polls:
                port.wait_for(codec.parse_done, port.clock.monotonic_s() + port.reply_s)

    def has_ended(self, until_s: float) -> bool:
        """Wait for `done`, or ask once."""
        if self._polls:
            return not self._port.ask(b"moving?\n", codec.parse_moving)
        with self._port.turn():
            if self._waits_for_done:
                try:
                    self._port.wait_for(codec.parse_done, until_s)
                except DeviceTimeoutError:
                    return False
                self._waits_for_done = False
        return True

    def read_um(self) -> Triple:
        """Return the counted steps as a place; a deaf board is waited for."""
        port = self._port
        with port.turn():
            if self._waits_for_done:
                self.has_ended(port.clock.monotonic_s() + self._piece_s())
            steps = self._port.ask(b"p?\n", codec.parse_position)
        x, y, z = (
            n * step for n, step in zip(steps, self._config.step_um, strict=True)
        )
        return x, y, z

    def halt(self) -> None:
        """Tell firmware 1.x to stop; 0.5 cannot be told."""
        if self._polls:
            self._port.ask(b"stop\n", codec.parse_any)

    def resync(self) -> None:
        """Ask something whose answer nothing else resembles, and wait for it."""
        self._waits_for_done = False
        self._port.ask(b"board\n", codec.parse_board, within_s=self._piece_s())

    def home(self, deadline_s: float) -> None:
        """Run z to its low switch, away from the glass by `invert`; then x and y."""
        for axes in ("z", "xy"):
            with self._port.turn():
                self._port.discard_input()
                self._port.send(codec.encode_home_low(axes))
                self._port.wait_for(codec.parse_done, deadline_s)

    def _piece_s(self) -> float:
        """Return the longest time that a piece of a move may take."""
        piece_s = self._config.stop_latency_s * self._deadlines.motion_factor
        return piece_s + self._deadlines.motion_extra_s

    def _await_version(self) -> codec.Version:
        """Ask until the board has booted; an AVR board resets when it is opened."""
        port = self._port
        end_s = port.clock.monotonic_s() + self._deadlines.boot_s
        while True:
            port.discard_input()
            port.send(b"version\n")
            now_s = port.clock.monotonic_s()
            try:
                return port.wait_for(codec.parse_version, now_s + _RETRY_S)
            except DeviceTimeoutError as error:
                if now_s + _RETRY_S >= end_s:
                    msg = (
                        f"{port.name}: no Sangaboard answered within "
                        f"{self._deadlines.boot_s:g} s ({error}); check `stage.port` "
                        "and `stage.baud`"
                    )
                    raise DeviceTimeoutError(msg) from error

    def _read_pace(self) -> None:
        try:
            delay_us = self._port.ask(b"dt?\n", codec.parse_step_delay)
            ramp_us = self._port.ask(b"ramp_time?\n", codec.parse_ramp_time)
        except (DeviceTimeoutError, ProtocolError) as error:
            msg = f"{self._port.name}: the board does not tell its pace: {error}"
            raise DeviceError(msg) from error
        self._step_delay_s, self._ramp_s = delay_us * 1e-6, ramp_us * 1e-6
        if self._step_delay_s == 0:
            msg = (
                f"{self._port.name}: the step delay is 0; set it, such as by `dt 1000`"
            )
            raise ConfigError(msg)
        for axis, step, speed in zip(
            "xyz", self._config.step_um, self._config.speed_um_per_s, strict=True
        ):
            board_speed = step / self._step_delay_s
            if abs(speed / board_speed - 1) > _MISMATCH:
                logger.warning(
                    "%s: speed_um_per_s of %s is %g in the file, but one step in %g us "
                    "makes %g; times are computed from the board's",
                    self._port.name,
                    axis,
                    speed,
                    delay_us,
                    board_speed,
                )

    def _steps_between(self, start_um: Triple, target_um: Triple) -> Steps:
        x, y, z = (
            round(end / step) - round(begin / step)
            for begin, end, step in zip(
                start_um, target_um, self._config.step_um, strict=True
            )
        )
        return x, y, z

    def _half_step_um(self) -> Triple:
        x_um, y_um, z_um = self._config.step_um
        return x_um / 2, y_um / 2, z_um / 2
