"""Checks of a stage at work: opening, targets, limits, receipts, closing."""

import dataclasses

from bifocus.errors import DeviceError, OutOfTravelError
from bifocus.hal.conformance import Finding, judge, skip
from bifocus.hal.conformance_bench import Bench
from bifocus.hal.conformance_devices import AXES
from bifocus.records import StagePosition

_QUIET_S = 0.5  # a stage that creeps after opening shows it in this time
_LATE_S = 1.0  # a call may return this long after the settled time of its receipt


def check_opening(bench: Bench) -> Finding:
    """Check that opening moves nothing."""
    if bench.stage.capabilities.may_move_on_open:
        return skip("the driver declares that opening may move the stage")
    before = bench.where()
    bench.reopen()
    after = bench.where()
    bench.clock.sleep(_QUIET_S)
    moves = {
        axis: max(
            abs(getattr(place, axis) - getattr(before, axis))
            for place in (after, bench.where())
        )
        for axis in AXES
    }
    is_sound = all(moves[axis] <= bench.slack_um(axis) for axis in AXES)
    if is_sound:
        _see_whether_it_forgets(bench)
    memory = "the board forgets where it is; " if bench.forgets else ""
    return judge(
        is_sound,
        measured=f"{memory}moved by {_triple(moves)} um across closing and opening",
        expected="the same place, to a step",
        next_step="let opening only ask for version and position; if the board resets "
        "when the port opens, hold its DTR line, for it forgets where it is",
        figures={f"moved_{axis}": moves[axis] for axis in AXES},
    )


def _see_whether_it_forgets(bench: Bench) -> None:
    """Open anew away from the middle; a board that then counts from zero forgets.

    The stage ends where it began, and there the board counts as it did at first.
    """
    bench.stage.move_to(bench.at(0.2, 0.2, 0.2))
    away = bench.stage.position()
    bench.reopen()
    here = bench.stage.position()
    values = {axis: (getattr(away, axis), getattr(here, axis)) for axis in AXES}
    bench.forgets = any(abs(a) > bench.slack_um(x) for x, (a, _) in values.items())
    bench.forgets &= all(abs(h) <= bench.slack_um(x) for x, (_, h) in values.items())
    if bench.forgets:
        back = {axis: getattr(bench.at(), axis) - a for axis, (a, _) in values.items()}
        bench.stage.move_to(StagePosition(**back))
        bench.close()
        bench.open()
    bench.stage.move_to(bench.at())


def check_targets(bench: Bench) -> Finding:
    """Check that moves end within a step of the target, and `position` says so."""
    worst, wrong = 0.0, ""
    for shares in ((0.4, -0.3, 0.5), (-0.7, 0.6, -0.2), (0.9, 0.9, 0.9), (0, 0, 0)):
        target = bench.at(*shares)
        receipt = bench.stage.move_to(target)
        position = bench.stage.position()
        if receipt.commanded != target:
            wrong = wrong or f"the receipt names {receipt.commanded}, not {target}"
        for axis in AXES:
            wanted, reported = getattr(target, axis), getattr(receipt.reported, axis)
            miss_um = max(
                abs(reported - wanted),
                abs(getattr(position, axis) - wanted),
            )
            worst = max(worst, miss_um)
            if miss_um > bench.slack_um(axis):
                wrong = wrong or (
                    f"{axis[0]} = {wanted:.3f} um was asked, the receipt says "
                    f"{reported:.3f}, the controller {getattr(position, axis):.3f}"
                )
        axis, beyond_um = bench.miss_um(target)
        if beyond_um > 0:
            wrong = wrong or f"{axis[0]} is {beyond_um:.3f} um further off than a step"
    return judge(
        not wrong,
        measured=wrong or f"at most {worst:.3f} um off",
        expected="within one step of the target",
        next_step="round to steps once, from the absolute target; read the position "
        "from the controller after every move",
        figures={"largest_miss_um": worst},
    )


def check_receipt(bench: Bench) -> Finding:
    """Check that a receipt tells true times: asked, start, end, settled."""
    bench.stage.move_to(bench.at(-0.5))
    asked_s = bench.clock.monotonic_s()
    receipt = bench.stage.move_to(bench.at(0.5))
    back_s = bench.clock.monotonic_s()
    in_order = asked_s <= receipt.start_s < receipt.end_s <= receipt.settled_s
    late_s = back_s - receipt.settled_s
    measured = (
        f"start {receipt.start_s - asked_s:+.3f}, end {receipt.end_s - asked_s:+.3f}, "
        f"settled {receipt.settled_s - asked_s:+.3f}, back {back_s - asked_s:+.3f} s"
    )
    return judge(
        in_order and -1e-9 <= late_s <= _LATE_S,
        measured=measured,
        expected=f"in this order, back at most {_LATE_S:g} s after settling",
        next_step="take the times from the clock that was handed in; return from "
        "`move_to` when the stage has settled, not earlier",
        figures={"move_s": receipt.end_s - receipt.start_s, "late_s": late_s},
    )


def check_limits(bench: Bench) -> Finding:
    """Check that a target outside the limits raises before a byte is sent."""
    wire, faults = bench.devices.wire, []
    for axis in AXES:
        for end in (0, 1):
            before = bench.where()
            limit_um = getattr(bench.stage.limits, axis)[end]
            beyond_um = max(1.0, 2 * bench.slack_um(axis))
            outside_um = limit_um + (beyond_um if end else -beyond_um)
            inside = bench.stage.position()
            n_sent = len(wire.sent()) if wire else 0
            target = dataclasses.replace(inside, **{axis: outside_um})
            said = _refusal(bench, target)
            if wire and len(wire.sent()) != n_sent:
                said = said or f"{wire.sent()[n_sent]!r} was sent first"
            here = bench.where()
            if any(
                abs(getattr(here, name) - getattr(before, name)) > bench.slack_um(name)
                for name in AXES
            ):
                said = f"{said or 'refused'}, and the stage went to {_place(here)}"
            if said:
                faults.append(f"{axis[0]} = {outside_um:.1f} um: {said}")
                bench.stage.move_to(bench.at())
    return judge(
        not faults,
        measured="; ".join(faults[:2]) or "six targets outside were refused, unmoved",
        expected="OutOfTravelError, nothing sent, nothing moved",
        next_step="compare with `limits` first thing in `move_to`; never clip",
        figures={"accepted": float(len(faults))},
    )


def check_without_wait(bench: Bench) -> Finding:
    """Check that `wait=False` returns early, and what it predicts comes true."""
    bench.stage.move_to(bench.at(-0.9))
    first = bench.stage.move_to(bench.at(0.9), wait=False)
    left_s = first.end_s - bench.clock.monotonic_s()
    second = bench.stage.move_to(bench.at(0.9, 0.3), wait=False)
    bench.clock.sleep(second.settled_s - bench.clock.monotonic_s())
    axis, beyond_um = bench.miss_um(bench.at(0.9, 0.3))
    overlap_s = first.end_s - second.start_s
    return judge(
        beyond_um <= 0 and overlap_s <= 1e-6 and left_s > 0,
        measured=f"returned {left_s:.3f} s before the end; the next move began "
        f"{-overlap_s:.3f} s after it; {axis[0]} was {max(beyond_um, 0):.3f} um off "
        "when settling was predicted",
        expected="back before the end, one move after the other, there in time",
        next_step="predict `end_s` from distance, speed and acceleration; let a second "
        "move wait until the first has ended",
        figures={"left_s": left_s},
    )


def check_reopening(bench: Bench) -> Finding:
    """Check that a stage closed and opened again moves as before."""
    bench.reopen()
    bench.stage.move_to(bench.at(-0.3, 0.3))
    bench.stage.move_to(bench.at())
    axis, beyond_um = bench.miss_um(bench.at())
    return judge(
        beyond_um <= 0,
        measured=f"{axis[0]} {max(beyond_um, 0):.3f} um off after opening again",
        expected="within one step of the target",
        next_step="release the port in `close`; keep no state across sessions",
    )


def check_closing(bench: Bench) -> Finding:
    """Check that a stage can be closed twice, and then refuses to move."""
    bench.stage.move_to(bench.at())
    stage, before, said = bench.stage, bench.where(), ""
    stage.close()
    try:
        stage.close()
    except Exception as error:
        said = f"closing again raised {error!r}"
    try:
        stage.move_to(bench.at(0.5))
        said = said or "a closed stage accepted a move"
    except DeviceError:
        pass
    if bench.devices.witness is not None:
        here = bench.devices.witness()
        if abs(here.x_um - before.x_um) > bench.slack_um("x_um"):
            said = said or f"closing or a refused move took it to {_place(here)}"
    bench.close()
    bench.open()
    return judge(
        not said,
        measured=said or "closed twice in peace; a move was refused",
        expected="DeviceError for a move after `close`",
        next_step="let `close` be callable twice, and check for it in every command",
    )


def _refusal(bench: Bench, target: StagePosition) -> str:
    """Return what is wrong with how a target outside was answered; '' for nothing."""
    try:
        bench.stage.move_to(target)
    except OutOfTravelError:
        return ""
    except Exception as error:
        return f"raised {type(error).__name__} and not OutOfTravelError: {error}"
    return "accepted"


def _triple(values: dict[str, float]) -> str:
    return ", ".join(f"{values[axis]:.3f}" for axis in AXES)


def _place(place: StagePosition) -> str:
    return f"{place.x_um:.2f}, {place.y_um:.2f}, {place.z_um:.2f} um"
