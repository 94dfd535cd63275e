"""Fixtures for those who build on bifocus: a virtual scanner, boards and their faults.

Installed with bifocus, so that they are there in any test; nothing is imported before
one of them is used::

    def test_my_program(virtual_scanner):
        scanner = virtual_scanner()
        frame = scanner.camera.grab(after=scanner.stage.move_to(somewhere))
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bifocus.hal.fault_plan import FaultPlan
    from bifocus.hal.firmware_kinds import FirmwareKind
    from bifocus.hal.open_instrument import OpenInstrument
    from bifocus.hal.pty_server import PtyServer

    VirtualScanner = Callable[..., OpenInstrument]
    VirtualFirmware = Callable[..., PtyServer]
    MakeFaultPlan = Callable[..., FaultPlan]

# A stage that repeats to its step, over tissue in focus where power comes on.
_SECTIONS: dict[str, dict[str, Any]] = {
    "optics": {"na": 0.75, "pixel_um": 0.25},
    "stage": {
        "kind": "virtual",
        "x_um": (0.0, 1000.0),
        "y_um": (0.0, 800.0),
        "z_um": (0.0, 300.0),
        "speed_um_per_s": (1000.0, 1000.0, 500.0),
        "acceleration_um_per_s2": (1e4, 1e4, 5e3),
        "step_um": (0.1, 0.1, 0.05),
        "settle_s": 0.1,
    },
    "camera": {"kind": "virtual", "width_px": 256, "height_px": 256},
    "virtual_slide": {
        "tissue": "procedural:768x1024",
        "x_um": 372.0,
        "y_um": 304.0,
        "focus_um": 150.0,
    },
}


@pytest.fixture
def virtual_scanner(tmp_path: Path) -> Iterator[VirtualScanner]:
    """Return a function that opens a virtual scanner; it is closed after the test.

    Its keywords change sections of the instrument file, such as
    `stage={"settle_s": 0.5}`; a `stage` or `camera` of another `kind` replaces the
    whole section. It lives on a virtual clock unless `clock="real"` is given, and
    `name`, `seed` and the like are taken as they are.
    """
    from bifocus.config import Instrument
    from bifocus.config_model import parse_model
    from bifocus.hal.open_instrument import open_instrument

    with ExitStack() as opened:

        def open_scanner(**changes: Any) -> OpenInstrument:
            document: dict[str, Any] = {
                **{"version": 1, "name": "virtual scanner", "clock": "virtual"},
                **_SECTIONS,
            }
            for name, change in changes.items():
                usual = document.get(name)
                is_other = isinstance(change, dict) and "kind" in change
                if isinstance(usual, dict) and not is_other:
                    change = {**usual, **change}
                document[name] = change
            config = parse_model(Instrument, document, source="virtual_scanner")
            return opened.enter_context(open_instrument(config, base_dir=tmp_path))

        yield open_scanner


@pytest.fixture
def virtual_firmware() -> Iterator[VirtualFirmware]:
    """Return a function that serves a virtual board; it is switched off afterwards.

    `virtual_firmware("grbl")` returns a server whose `port` any program can open, and
    whose `shared` tells where the glass truly is. `faults=` takes a fault plan.
    """
    from bifocus.clock import RealClock
    from bifocus.hal.fault_plan import FaultPlan
    from bifocus.hal.faulty_firmware import FaultyFirmware
    from bifocus.hal.firmware_kinds import make_firmware
    from bifocus.hal.pty_server import PtyServer

    with ExitStack() as served:

        def serve(
            kind: FirmwareKind, *, faults: FaultPlan | None = None, seed: int = 0
        ) -> PtyServer:
            board = make_firmware(kind, now_s=RealClock().monotonic_s(), seed=seed)
            with_faults = FaultyFirmware(board, faults or FaultPlan(), seed=seed)
            return served.enter_context(PtyServer(with_faults))

        yield serve


@pytest.fixture
def fault_plan() -> MakeFaultPlan:
    """Return a function that makes a fault plan of dictionaries.

    `fault_plan({"fault": "drop_reply", "at": 3})`; the keys are those of the YAML file.
    """
    from bifocus.config_model import parse_model
    from bifocus.hal.fault_plan import FaultPlan

    def make(*faults: dict[str, Any]) -> FaultPlan:
        return parse_model(FaultPlan, {"faults": faults}, source="fault_plan")

    return make
