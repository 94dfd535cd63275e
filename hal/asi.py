"""An ASI MS-2000 or Tiger as a stage driver: absolute moves, polled by STATUS.

Settings are written with an explicit `=` and read again, because the controller clamps
them without a word. Its own anti-backlash moves are switched off: the policy above
does them. Places come from encoders.
"""

import logging

from bifocus.errors import ConfigError, DeviceError, DeviceTimeoutError, ProtocolError
from bifocus.hal import asi_codec as codec
from bifocus.hal.board_driver import BoardFacts
from bifocus.hal.motion import TrapezoidalMove
from bifocus.hal.serial_port import SerialPort
from bifocus.hal.take_up import Triple
from bifocus.stage_config import AsiStageConfig

logger = logging.getLogger(__name__)

_POLL_S = 0.012  # ASI's own recommendation for busy queries over a serial line
_ARRIVED_UM = 0.1  # a servo stops within its finish error, PCROS, 24 nm by default
_PACE_KEPT = 0.01  # a speed read back this near to the asked one, in parts, is it
_TRIES = 3  # settings of the speed


class Asi:
    """One controller with three of its axes; see `BoardDriver`."""

    def __init__(self, port: SerialPort, config: AsiStageConfig) -> None:
        x, y, z = (letter.upper() for letter in config.axis_letters)
        self._port = port
        self._config = config
        self._letters = (x, y, z)
        self._reported = self._letters  # in the order in which WHERE answers
        self._addresses: tuple[str, ...] = ("",)  # cards that carry our axes
        self._is_bare = False
        self._speed = config.speed_um_per_s

    def connect(self) -> BoardFacts:
        """Identify the controller and its axes, set and read the pace; never moves."""
        with self._port.resets_expected():
            version = self._await_version()
            self._port.drain()
        self._find_axes()
        self._set_pace()
        self._end_own_take_up()
        x_um, y_um, z_um = self._config.step_um
        x_off, y_off, z_off = (max(step, _ARRIVED_UM) for step in self._config.step_um)
        return BoardFacts(
            identity=f"ASI {version}",
            readback_um=(x_um / 2, y_um / 2, z_um / 2),
            arrival_um=(x_off, y_off, z_off),
            can_stop=True,
            reports_actual_position=True,
            keeps_place_at_reset=False,
            has_manual_control=True,
            poll_s=_POLL_S,
        )

    def duration_s(self, start_um: Triple, target_um: Triple) -> float:
        """Return the time of the slowest axis; each moves on its own."""
        return max(
            TrapezoidalMove(
                distance_um=end - begin,
                speed_um_per_s=speed,
                acceleration_um_per_s2=acceleration,
            ).duration_s
            for begin, end, speed, acceleration in zip(
                start_um,
                target_um,
                self._speed,
                self._config.acceleration_um_per_s2,
                strict=True,
            )
        )

    def start_move(self, start_um: Triple, target_um: Triple) -> None:
        """Send one absolute move of the axes that have to move."""
        moving = [
            (letter, end)
            for letter, begin, end in zip(
                self._letters, start_um, target_um, strict=True
            )
            if begin != end
        ]
        letters, places = zip(*moving, strict=True)
        self._command(codec.encode_move(letters, places))

    def has_ended(self, until_s: float) -> bool:
        """Ask every card that carries an axis of ours."""
        return not any(
            self._port.ask(f"{address}/\r".encode(), codec.parse_busy)
            for address in self._addresses
        )

    def read_um(self) -> Triple:
        """Return the encoders' places."""

        def parse(line: bytes) -> Triple | None:
            places = codec.parse_where(line, self._reported)
            if places is None or not places.keys() >= set(self._letters):
                return None
            x, y, z = (places[letter] for letter in self._letters)
            return x, y, z

        return self._port.ask(codec.encode_where(self._letters), parse)

    def halt(self) -> None:
        """Stop every axis; that a move was cut off is what we wanted to hear."""
        self._port.ask(
            b"\\\r", lambda line: codec.parse_halted(line, is_bare=self._is_bare)
        )

    def resync(self) -> None:
        """Wait for quiet, then ask what only VERSION answers."""
        self._port.drain()
        self._port.ask(b"V\r", codec.parse_version)

    def home(self, deadline_s: float) -> None:
        """Refuse: where the home places of this controller lie is not known here."""
        msg = f"{self._port.name}: homing by switches is not possible on ASI; use none"
        raise ConfigError(msg)

    def _command(self, command: bytes) -> None:
        """Send what may not be repeated."""
        port = self._port
        with port.turn():
            port.discard_input()
            port.send(command)
            port.wait_for(
                lambda line: codec.parse_taken(line, is_bare=self._is_bare),
                port.clock.monotonic_s() + port.reply_s,
            )

    def _await_version(self) -> str:
        port = self._port
        end_s = port.clock.monotonic_s() + self._config.deadlines.boot_s
        while True:
            now_s = port.clock.monotonic_s()
            try:
                return port.ask(b"V\r", codec.parse_version, tries=1)
            except (DeviceTimeoutError, ProtocolError) as error:
                if now_s + port.reply_s >= end_s:
                    msg = (
                        f"{port.name}: no ASI controller answered within "
                        f"{self._config.deadlines.boot_s:g} s ({error}); check "
                        "`stage.port` and `stage.baud` (an MS-2000 comes with 9600)"
                    )
                    raise DeviceTimeoutError(msg) from error

    def _find_axes(self) -> None:
        """Learn the order of the axes, their cards, and the style of replies."""
        try:
            axes = self._port.ask(b"BU X\r", codec.parse_axes)
        except (DeviceError, DeviceTimeoutError) as error:
            logger.info("%s: does not list its axes: %s", self._port.name, error)
            self._reported = self._letters
            return
        missing = set(self._letters) - set(axes.letters)
        if missing:
            msg = (
                f"{self._port.name}: the controller has the axes "
                f"{' '.join(axes.letters)}, not {' '.join(sorted(missing))}; see "
                "`stage.axis_letters`"
            )
            raise ConfigError(msg)
        ours = [
            (letter, address)
            for letter, address in zip(axes.letters, axes.addresses, strict=True)
            if letter in self._letters
        ]
        x, y, z = (letter for letter, _ in ours)
        self._reported = (x, y, z)
        cards = sorted({address for _, address in ours})
        self._addresses = tuple(cards) if axes.is_tiger else ("",)

    def _set_pace(self) -> None:
        """Set the speeds and take what the controller made of them."""
        asked = self._config.speed_um_per_s
        for _ in range(_TRIES):  # a damaged number would be taken for another speed
            self._command(codec.encode_speed(self._letters, asked))
            found = self._ask_pairs("S")
            x, y, z = (found[letter] * 1e3 for letter in self._letters)
            self._speed = (x, y, z)
            pairs = zip(self._speed, asked, strict=True)
            if all(abs(got / wanted - 1) < _PACE_KEPT for got, wanted in pairs):
                return
        if min(self._speed) <= 0:
            msg = f"{self._port.name}: the controller answers speeds {self._speed} um/s"
            raise ProtocolError(msg)
        for axis, wanted, got in zip("xyz", asked, self._speed, strict=True):
            if abs(got / wanted - 1) >= _PACE_KEPT:
                logger.warning(
                    "%s: speed of %s is %g um/s, the file asks for %g",
                    self._port.name,
                    axis,
                    got,
                    wanted,
                )

    def _end_own_take_up(self) -> None:
        self._command(codec.encode_backlash_off(self._letters))
        found = self._ask_pairs("B")
        if any(found[letter] for letter in self._letters):
            msg = f"{self._port.name}: BACKLASH stays at {found} mm; set it to 0"
            raise DeviceError(msg)

    def _ask_pairs(self, command: str) -> dict[str, float]:
        """Ask a setting of each axis by itself: all firmwares answer that alike."""
        found: dict[str, float] = {}
        for letter in self._letters:

            def parse(line: bytes, letter: str = letter) -> float | None:
                pairs = codec.parse_pairs(line)
                return None if pairs is None else pairs.get(letter)

            question = codec.encode_question(command, letter)
            found[letter] = self._port.ask(question, parse)
        return found
