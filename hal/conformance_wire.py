"""Checks with a hand on the cable: lost and refused commands, silence, a pulled plug.

They need a `WireFaults` door between driver and board (`bifocus.hal.faulty_link`); it
works on a real board as on a virtual one.
"""

import re
from collections.abc import Callable

from bifocus.errors import DeviceError
from bifocus.hal.conformance import Finding, judge, skip
from bifocus.hal.conformance_bench import Bench
from bifocus.hal.conformance_devices import WireFaults
from bifocus.records import MoveReceipt

NO_WIRE = "this device has no cable that the kit can touch"
ADRIFT = "the board has forgotten where it is, under an earlier fault"
_MOST_ALIKE = 2  # commands of one form that get a fault; each may cost a deadline
_NUMBER = re.compile(rb"[-+]?[0-9]+(\.[0-9]+)?")


def check_lost_reply(bench: Bench) -> Finding:
    """Check that a move whose reply is lost is never made twice."""
    return _fault_each_command(
        bench,
        lambda wire, nth: wire.lose_reply(nth),
        "reply lost",
        "after a lost reply read the position, then decide; never send a relative "
        "move again",
    )


def check_error_reply(bench: Bench) -> Finding:
    """Check that a move that the board refuses is not believed."""
    return _fault_each_command(
        bench,
        lambda wire, nth: wire.refuse(nth),
        "command refused",
        "read every reply, and raise for what is not the expected one",
    )


def check_silence(bench: Bench) -> Finding:
    """Check that every wait for a silent board ends with an error."""
    wire = bench.devices.wire
    if wire is None:
        return skip(NO_WIRE)
    if bench.is_adrift:
        return skip(ADRIFT)
    longest_s = 0.0
    for nth in _each_command(bench, wire):
        if bench.is_adrift:
            break
        wire = bench.devices.wire or wire  # each opening has a wire of its own
        bench.stage.move_to(bench.at(-0.3))
        wire.silence(nth)
        ended = bench.within(lambda: bench.stage.move_to(bench.at(0.3)))
        if ended.is_hung:
            said = f"still waits after {bench.patience_s:g} s"
            _give_up(bench, wire)
        else:
            wire.mend()
            said = _verdict(bench, ended.value, ended.error)
            bench.reopen()
        if said:
            return judge(
                False,
                measured=f"silence from command {nth} of a move on: {said}",
                expected="a DeviceError",
                next_step="give every read a deadline, computed from the move",
            )
        longest_s = max(longest_s, ended.seconds)
    return judge(
        True,
        measured=f"gave up after {longest_s:.2f} s at most",
        expected=f"a DeviceError within {bench.patience_s:g} s",
        next_step="",
        figures={"gave_up_s": longest_s},
    )


def check_unplugging(bench: Bench) -> Finding:
    """Check that a pulled cable is an error, and the stage works again after it."""
    wire = bench.devices.wire
    if wire is None:
        return skip(NO_WIRE)
    if bench.is_adrift:
        return skip(ADRIFT)
    bench.stage.move_to(bench.at())
    wire.unplug()
    ended = bench.within(lambda: bench.stage.move_to(bench.at(0.3)))
    wire.mend()
    said = ""
    if ended.is_hung:
        said = "the move without a cable still hangs"
    elif not isinstance(ended.error, DeviceError):
        said = f"the move without a cable ended with {ended.error!r}"
    bench.reopen()
    bench.stage.move_to(bench.at(-0.3))
    axis, beyond_um = bench.miss_um(bench.at(-0.3))
    if not said and beyond_um > 0:
        said = f"plugged in again, {axis[0]} is {beyond_um:.3f} um off"
    return judge(
        not said,
        measured=said or f"{type(ended.error).__name__}; works again when opened anew",
        expected="DeviceError, then a stage that works",
        next_step="turn the port's errors into DeviceError; open the port anew",
    )


def _fault_each_command(
    bench: Bench,
    fault: Callable[[WireFaults, int], None],
    what: str,
    next_step: str,
) -> Finding:
    wire = bench.devices.wire
    if wire is None:
        return skip(NO_WIRE)
    if bench.is_adrift:
        return skip(ADRIFT)
    recovered = stopped = 0
    for nth in _each_command(bench, wire):
        if bench.is_adrift:
            break
        wire = bench.devices.wire or wire  # each opening has a wire of its own
        bench.stage.move_to(bench.at(-0.3))
        fault(wire, nth)
        ended = bench.within(lambda: bench.stage.move_to(bench.at(0.3)))
        if ended.is_hung:
            _give_up(bench, wire)
            return skip(f"{what} (command {nth} of a move): it hangs; see silence-ends")
        wire.mend()
        said = _verdict(bench, ended.value, ended.error)
        if said or ended.error is not None:
            bench.reopen()
        if said:
            return judge(
                False,
                measured=f"{what} (command {nth} of a move): {said}",
                expected="at the target, or a DeviceError",
                next_step=next_step,
            )
        recovered += ended.error is None
        stopped += ended.error is not None
    return judge(
        True,
        measured=f"{what} {recovered + stopped} times: {recovered} recovered at the "
        f"target, {stopped} stopped with a named error",
        expected="at the target, or a DeviceError",
        next_step="",
        figures={"recovered": float(recovered), "stopped": float(stopped)},
    )


def _give_up(bench: Bench, wire: WireFaults) -> None:
    """Free a call that hangs by closing the stage under it; then open it anew.

    The cable stays broken until then, so that the call cannot wake up and move.
    """
    bench.is_adrift |= bench.forgets
    bench.close()
    wire.mend()
    bench.open()


def _each_command(bench: Bench, wire: WireFaults) -> list[int]:
    """Return the places in a move of the commands worth a fault.

    Of each form of command (its numbers left out) the first and the last few: a poll
    that is repeated fifty times needs no fifty deadlines.
    """
    bench.stage.move_to(bench.at(-0.3))
    before = len(wire.sent())
    bench.stage.move_to(bench.at(0.3))
    places: dict[bytes, list[int]] = {}
    for nth, command in enumerate(wire.sent()[before:], 1):
        places.setdefault(_NUMBER.sub(b"#", command), []).append(nth)
    chosen = {
        nth for nths in places.values() for nth in (*nths[:_MOST_ALIKE], nths[-1])
    }
    return sorted(chosen)


def _verdict(
    bench: Bench,
    receipt: MoveReceipt | None,
    error: BaseException | None,
) -> str:
    """Return what is wrong with how a move under a fault ended; '' for nothing."""
    if error is not None:
        if isinstance(error, DeviceError):
            return ""
        return f"raised {type(error).__name__}, which is no DeviceError: {error}"
    axis, beyond_um = bench.miss_um(bench.at(0.3))
    if beyond_um > 0:
        here = getattr(bench.where(), axis)
        return (
            f"believed to be at the target, but {axis[0]} is at {here:.2f} um, "
            f"{beyond_um:.2f} um further off than a step"
        )
    return "" if receipt is not None else "returned no receipt"
