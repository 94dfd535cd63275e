"""What the runner believes, repeats and refuses, on a toy board that misbehaves."""

from collections import deque
from collections.abc import Callable

import pytest

from bifocus.clock import FakeClock
from bifocus.errors import (
    DeviceError,
    DeviceTimeoutError,
    ProtocolError,
    ReferenceLostError,
)
from bifocus.hal.board_driver import BoardFacts
from bifocus.hal.grbl_codec import REFERENCE_LOST
from bifocus.hal.move_runner import MoveRunner
from bifocus.hal.serial_port import SerialPort
from bifocus.hal.stage_frame import StageFrame
from bifocus.hal.take_up import Triple
from bifocus.stage_config import Deadlines
from tests.hal.boards import stage_config
from tests.hal.scripted_link import ScriptedLink

SPEED = 10.0  # um/s on x, the only axis of the toy
START: Triple = (0.0, 0.0, 0.0)
TARGET: Triple = (20.0, 0.0, 0.0)
Mishap = Callable[["ToyBoard"], None]


class ToyBoard:
    """Moves x at a steady pace; each move sent suffers the next mishap, if any."""

    def __init__(self, clock: FakeClock, *, can_stop: bool, keeps: bool) -> None:
        self.facts = BoardFacts(
            identity="toy",
            readback_um=(0.01, 0.01, 0.01),
            arrival_um=(0.01, 0.01, 0.01),
            can_stop=can_stop,
            reports_actual_position=False,
            keeps_place_at_reset=keeps,
            has_manual_control=False,
            poll_s=0.01 if can_stop else 0.0,
        )
        self.mishaps: deque[Mishap] = deque()
        self.moves: list[float] = []
        self.halts = 0
        self.hurry = False  # says that motion has ended when it has not
        self.stuck = False  # says for ever that it has not
        self.travel_um = 1e9  # an obstacle
        self.promised_speed = SPEED
        self._clock = clock
        self._from_um, self._to_um, self._start_s = 0.0, 0.0, 0.0

    def connect(self) -> BoardFacts:
        return self.facts

    def duration_s(self, start_um: Triple, target_um: Triple) -> float:
        return abs(target_um[0] - start_um[0]) / self.promised_speed

    def start_move(self, start_um: Triple, target_um: Triple) -> None:
        mishap = self.mishaps.popleft() if self.mishaps else None
        self.moves.append(target_um[0] - start_um[0])
        self._from_um, self._start_s = self._x_um(), self._clock.monotonic_s()
        self._to_um = min(target_um[0], self.travel_um)
        if mishap is not None:
            mishap(self)

    def has_ended(self, until_s: float) -> bool:
        if self.stuck or (self._x_um() != self._to_um and not self.hurry):
            if not self.facts.can_stop:
                self._clock.sleep(until_s - self._clock.monotonic_s())
            return False
        return True

    def read_um(self) -> Triple:
        return self._x_um(), 0.0, 0.0

    def halt(self) -> None:
        if self.facts.can_stop:
            self.halts += 1
            self._to_um = self._from_um = self._x_um()

    def resync(self) -> None:
        self._clock.sleep(0.1)
        if not self.facts.can_stop:
            self.stuck = False  # a board that answers again

    def home(self, deadline_s: float) -> None:
        raise AssertionError("not asked for")

    def teleport(self, x_um: float) -> None:
        self._from_um = self._to_um = x_um

    def _x_um(self) -> float:
        way_um = self._to_um - self._from_um
        gone_um = SPEED * (self._clock.monotonic_s() - self._start_s)
        if gone_um >= abs(way_um):
            return self._to_um
        return self._from_um + (gone_um if way_um > 0 else -gone_um)


def make_runner(
    clock: FakeClock, *, can_stop: bool = True, keeps: bool = False
) -> tuple[MoveRunner, ToyBoard]:
    board = ToyBoard(clock, can_stop=can_stop, keeps=keeps)
    port = SerialPort(
        ScriptedLink(clock, {}),
        clock=clock,
        name="toy",
        reference_lost=REFERENCE_LOST,
        reply_s=0.5,
    )
    frame = StageFrame(stage_config("grbl"))
    runner = MoveRunner(
        board, board.facts, port=port, frame=frame, deadlines=Deadlines()
    )
    return runner, board


def late(board: ToyBoard) -> None:
    raise DeviceTimeoutError("no answer")


def damaged(board: ToyBoard) -> None:
    raise ProtocolError("damaged")


def cut_short(board: ToyBoard) -> None:
    """A truncated number: the board goes 2 um instead of 20."""
    board._to_um = 2.0


def refused(board: ToyBoard) -> None:
    board.teleport(1.0)
    raise DeviceError("unknown command")


def run(runner: MoveRunner, start: Triple = START, target: Triple = TARGET) -> Triple:
    return runner.finish(runner.begin(start, target))


def test_a_plain_move_is_sent_once(clock: FakeClock) -> None:
    runner, board = make_runner(clock)
    assert run(runner) == TARGET
    assert board.moves == [20.0]
    assert clock.monotonic_s() == pytest.approx(2.0, abs=0.02)


@pytest.mark.parametrize("mishap", [late, damaged])
def test_a_lost_answer_is_no_reason_to_move_again(
    clock: FakeClock, mishap: Mishap
) -> None:
    runner, board = make_runner(clock)
    board.mishaps.append(mishap)
    assert run(runner) == TARGET
    assert board.moves == [20.0]
    assert runner.recoveries == 1


@pytest.mark.parametrize("mishap", [cut_short, refused])
def test_only_what_is_missing_is_sent(clock: FakeClock, mishap: Mishap) -> None:
    runner, board = make_runner(clock)
    board.teleport(1.0)
    board.mishaps.append(mishap)
    assert run(runner, (1.0, 0.0, 0.0)) == TARGET
    assert board.moves[1] == pytest.approx(18.0 if mishap is cut_short else 19.0)


def test_an_early_end_is_not_believed(clock: FakeClock) -> None:
    """`ok` before the motion ends: the place tells, and the rest is waited for."""
    runner, board = make_runner(clock)
    board.hurry = True
    assert run(runner) == TARGET
    assert board.moves == [20.0]
    assert clock.monotonic_s() >= 2.0


def test_a_stuck_board_is_told_to_stop(clock: FakeClock) -> None:
    runner, board = make_runner(clock)
    board.stuck = True
    with pytest.raises(DeviceTimeoutError, match="told to stop"):
        run(runner)
    assert board.halts >= 1
    assert board.moves == [20.0]
    assert clock.monotonic_s() < 1.5 * 2.0 + 4 * 2.0


def test_a_slow_board_is_stopped_at_the_deadline(clock: FakeClock) -> None:
    runner, board = make_runner(clock)
    board.promised_speed = 1000.0
    with pytest.raises(DeviceTimeoutError, match="deadline"):
        run(runner, target=(500.0, 0.0, 0.0))
    assert board.halts >= 1
    assert runner.read()[0] < 50.0


def test_an_obstacle_ends_in_an_error(clock: FakeClock) -> None:
    runner, board = make_runner(clock)
    board.travel_um = 12.0
    with pytest.raises(DeviceError, match="obstacle"):
        run(runner)
    assert board.moves == pytest.approx([20.0, 8.0, 8.0])


@pytest.mark.parametrize(
    ("mishap", "keeps", "why"),
    [
        (lambda board: board.teleport(35.0), False, "not on its way"),
        (lambda board: board.teleport(-5.0), True, "not on its way"),
        (lambda board: board.teleport(0.0), False, "zero is also"),
    ],
)
def test_what_cannot_be_explained_loses_the_reference(
    clock: FakeClock, mishap: Mishap, keeps: bool, why: str
) -> None:
    runner, board = make_runner(clock, keeps=keeps)
    board.teleport(-3.0)
    board.mishaps.append(mishap)
    with pytest.raises(ReferenceLostError, match=why):
        run(runner, (-3.0, 0.0, 0.0))
    assert len(board.moves) == 1


def test_silence_of_a_board_that_keeps_its_count(clock: FakeClock) -> None:
    """A Sangaboard reset in mid-move counts as before the move, and says no more."""

    def reset(board: ToyBoard) -> None:
        board.teleport(5.0)
        board.stuck = True

    runner, board = make_runner(clock, can_stop=False, keeps=True)
    board.teleport(5.0)
    board.mishaps.append(reset)
    with pytest.raises(ReferenceLostError, match="reset in silence"):
        run(runner, (5.0, 0.0, 0.0))


def test_a_damaged_word_may_be_the_word_of_a_reset(clock: FakeClock) -> None:
    def reset(board: ToyBoard) -> None:
        board.teleport(5.0)
        raise ProtocolError("Sangabxard Firmware v0.5")

    runner, board = make_runner(clock, keeps=True)
    board.teleport(5.0)
    board.mishaps.append(reset)
    with pytest.raises(ReferenceLostError, match="damaged answer"):
        run(runner, (5.0, 0.0, 0.0))


def test_a_stop_asked_for_before_the_start_moves_nothing(clock: FakeClock) -> None:
    runner, board = make_runner(clock)
    runner.stop()
    with pytest.raises(DeviceError, match="stopped"):
        run(runner)
    assert board.moves == []


def test_a_stop_on_the_way(clock: FakeClock) -> None:
    runner, board = make_runner(clock)
    leg = runner.begin(START, TARGET)
    clock.sleep(0.5)
    runner.stop()
    with pytest.raises(DeviceError, match="stopped"):
        runner.finish(leg)
    assert runner.read()[0] == pytest.approx(5.0)
    assert board.moves == [20.0]
