"""Checks of `stop`: at rest it does no harm, in motion it ends the motion soon."""

import threading

from bifocus.errors import DeviceError
from bifocus.hal.conformance import Finding, judge, skip
from bifocus.hal.conformance_bench import Bench
from bifocus.hal.conformance_devices import AXES
from bifocus.records import StagePosition

LONGEST_STOP_S = 1.0  # a hand on the emergency stop expects no more
_SHORTEST_MOVE_S = 0.15  # a shorter move is over before it can be stopped
_POLL_S = 0.02


def check_stop_at_rest(bench: Bench) -> Finding:
    """Check that stopping what does not move does no harm."""
    bench.stage.move_to(bench.at())
    bench.stage.stop()
    bench.stage.stop()
    bench.stage.move_to(bench.at(0.2))
    axis, beyond_um = bench.miss_um(bench.at(0.2))
    return judge(
        beyond_um <= 0,
        measured=f"{axis[0]} {max(beyond_um, 0):.3f} um off after stop and move",
        expected="within one step of the target",
        next_step="forget an old stop when a new move begins",
    )


def check_stop_in_motion(bench: Bench) -> Finding:
    """Check that a stop from another thread ends a move on its way."""
    if not bench.stage.capabilities.can_stop:
        return skip("the driver declares that this stage cannot stop")
    bench.stage.move_to(bench.at(-1))
    move_s = _duration_s(bench)
    if move_s < _SHORTEST_MOVE_S:
        return skip(
            f"crossing the envelope takes {move_s:.3f} s, too short to be stopped",
            next_step="widen it: --envelope X Y Z",
        )
    bench.stage.move_to(bench.at(-1))
    said, latency_s = _stop_on_the_way(bench, 0.5 * move_s)
    halted = bench.where()
    bench.clock.sleep(move_s)
    crept_um = max(
        abs(getattr(bench.where(), axis) - getattr(halted, axis)) for axis in AXES
    )
    share = (halted.x_um - bench.at(-1).x_um) / (2 * bench.room.x_um)
    bench.stage.move_to(bench.at(0.5))
    _, beyond_um = bench.miss_um(bench.at(0.5))
    return judge(
        not said
        and 0.02 < share < 0.98
        and latency_s <= LONGEST_STOP_S
        and crept_um <= bench.slack_um("x_um")
        and beyond_um <= 0,
        measured=f"{said or 'stopped'} at {100 * share:.0f} % of the way, "
        f"{latency_s:.3f} s after the call, then crept {crept_um:.3f} um; the next "
        f"move ended {max(beyond_um, 0):.3f} um off",
        expected=f"on the way, within {LONGEST_STOP_S:g} s, at rest, next move exact",
        next_step="send the board's stop past the lock that waits for the move; if it "
        "has none, send moves in short pieces",
        figures={"latency_s": latency_s, "crept_um": crept_um},
    )


def _duration_s(bench: Bench) -> float:
    receipt = bench.stage.move_to(bench.at(1))
    return receipt.end_s - receipt.start_s


def _stop_on_the_way(bench: Bench, after_s: float) -> tuple[str, float]:
    """Stop a move across the room; return a complaint, if any, and the latency."""
    if bench.is_virtual_time:  # a clock that jumps cannot be interrupted
        receipt = bench.stage.move_to(bench.at(1), wait=False)
        bench.clock.sleep(receipt.start_s + after_s - bench.clock.monotonic_s())
        return "", _stop_s(bench)
    errors: list[BaseException] = []
    thread = threading.Thread(
        target=_move, args=(bench, bench.at(1), errors), daemon=True
    )
    thread.start()
    bench.clock.sleep(after_s)
    latency_s = _stop_s(bench)
    thread.join(bench.patience_s)
    if thread.is_alive():
        return "the move that was stopped still hangs;", latency_s
    if not errors:
        return "the move that was stopped raised nothing;", latency_s
    if not isinstance(errors[0], DeviceError):
        return f"the stopped move raised {type(errors[0]).__name__};", latency_s
    return "", latency_s


def _move(bench: Bench, target: StagePosition, errors: list[BaseException]) -> None:
    try:
        bench.stage.move_to(target)
    except BaseException as error:
        errors.append(error)


def _stop_s(bench: Bench) -> float:
    """Stop, and return how long it took until the position stayed."""
    called_s = bench.clock.monotonic_s()
    bench.stage.stop()
    last, last_change_s = bench.where(), bench.clock.monotonic_s()
    while bench.clock.monotonic_s() < last_change_s + 5 * _POLL_S:
        bench.clock.sleep(_POLL_S)
        here = bench.where()
        if abs(here.x_um - last.x_um) > bench.slack_um("x_um"):
            last, last_change_s = here, bench.clock.monotonic_s()
        if last_change_s > called_s + 10 * LONGEST_STOP_S:
            break
    return last_change_s - called_s
