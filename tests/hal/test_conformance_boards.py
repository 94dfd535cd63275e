"""Every serial driver passes the conformance kit, over virtual firmware."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bifocus.clock import VirtualClock
from bifocus.hal.conformance_bench import Bench
from bifocus.hal.conformance_devices import DevicesUnderTest, OpenDevices
from bifocus.hal.conformance_run import STAGE_CHECKS, WIRE_CHECKS, run_checks
from bifocus.hal.faulty_link import ERROR_REPLIES, FaultyLink
from bifocus.hal.firmware_kinds import FirmwareKind
from bifocus.hal.open_stage import open_serial_stage
from bifocus.hal.shared_firmware import SharedFirmware
from bifocus.hal.virtual_link import VirtualLink
from tests.hal.boards import BOARDS, make_board, stage_config


def board_on_the_bench(kind: FirmwareKind, *, resets_on_open: bool) -> OpenDevices:
    """One board that stays on; each opening makes a new driver for it."""
    clock = VirtualClock()
    config = stage_config(kind)
    board = make_board(config, kind, clock)
    board.resets_on_open = resets_on_open
    shared = SharedFirmware(board, clock=clock)

    @contextmanager
    def open_devices() -> Iterator[DevicesUnderTest]:
        wire = FaultyLink(VirtualLink(shared), error_reply=ERROR_REPLIES[config.kind])
        stage = open_serial_stage(config, wire, clock=clock)
        try:
            yield DevicesUnderTest(stage=stage, clock=clock, wire=wire)
        finally:
            stage.close()

    return open_devices


@pytest.mark.parametrize("kind", BOARDS)
def test_a_serial_stage_passes(kind: FirmwareKind) -> None:
    open_devices = board_on_the_bench(kind, resets_on_open=False)
    with Bench(open_devices, patience_s=5.0) as bench:
        report = run_checks(bench, STAGE_CHECKS + WIRE_CHECKS)
    assert report.failed == ()
    cannot_stop = kind in ("sangaboard", "marlin")
    assert report.skipped == (("stop-in-motion",) if cannot_stop else ())


@pytest.mark.parametrize("kind", ["sangaboard", "marlin"])
def test_a_board_that_resets_when_opened_is_never_led_astray(
    kind: FirmwareKind,
) -> None:
    """A Sangaboard remembers its place; the others count from zero again."""
    open_devices = board_on_the_bench(kind, resets_on_open=True)
    with Bench(open_devices, patience_s=5.0) as bench:
        report = run_checks(bench, STAGE_CHECKS + WIRE_CHECKS)
        assert bench.forgets == (kind == "marlin")
    assert report.failed == ()
    # Where a fault leaves such a board nobody knows, so no more faults are tried.
    assert set(report.skipped) >= {"stop-in-motion"}
    asked = {r.name for r in report.results if r.finding.outcome == "pass"}
    assert "lost-reply-moves-once" in asked
