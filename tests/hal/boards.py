"""Stages of each kind over virtual firmware in this process; for several test files."""

from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from bifocus.clock import Clock
from bifocus.hal.byte_link import ByteLink
from bifocus.hal.firmware_axes import AxesFacts
from bifocus.hal.firmware_board import VirtualBoard
from bifocus.hal.firmware_kinds import FirmwareKind, make_firmware
from bifocus.hal.open_stage import open_serial_stage
from bifocus.hal.serial_stage import SerialStage
from bifocus.hal.shared_firmware import SharedFirmware
from bifocus.hal.virtual_link import VirtualLink
from bifocus.stage_config import AnySerialStage

BOARDS: tuple[FirmwareKind, ...] = (
    "sangaboard",
    "sangaboard-v1",
    "grbl",
    "marlin",
    "asi",
    "asi-tiger",
)

_PACES: dict[str, dict[str, Any]] = {
    "sangaboard": {
        "step_um": (0.09, 0.09, 0.05),
        "speed_um_per_s": (90.0, 90.0, 50.0),
        "acceleration_um_per_s2": (90000.0, 90000.0, 50000.0),
        "take_up_um": (18.0, 18.0, 10.0),
    },
    "grbl": {
        "step_um": (0.625, 0.625, 0.3125),
        "speed_um_per_s": (1000.0, 1000.0, 500.0),
        "acceleration_um_per_s2": (10000.0, 10000.0, 5000.0),
        "take_up_um": (30.0, 30.0, 15.0),
    },
    "asi": {
        "step_um": (0.1, 0.1, 0.1),
        "speed_um_per_s": (1000.0, 1000.0, 500.0),
        "acceleration_um_per_s2": (20000.0, 20000.0, 10000.0),
        "take_up_um": (40.0, 40.0, 10.0),
    },
}
_PACES["marlin"] = _PACES["grbl"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A stage, and the virtual board behind it with its hidden truth."""

    stage: SerialStage
    board: VirtualBoard
    truth: SharedFirmware


def stage_config(kind: str, **changes: Any) -> AnySerialStage:
    """A stage of one millimetre around zero, where power comes on."""
    family = kind.partition("-")[0]
    document = {
        "kind": family,
        "port": "virtual",
        "simulated": True,
        "x_um": (-500.0, 500.0),
        "y_um": (-500.0, 500.0),
        "z_um": (-300.0, 300.0),
        "settle_s": 0.05,
        **_PACES[family],
        **changes,
    }
    adapter: TypeAdapter[AnySerialStage] = TypeAdapter(AnySerialStage)
    return adapter.validate_python(document)


def make_board(
    config: AnySerialStage, kind: FirmwareKind, clock: Clock
) -> VirtualBoard:
    """A board whose machine agrees with the file, with room on every side."""
    facts = AxesFacts(
        step_um=(0.022, 0.022, 0.0055) if kind.startswith("asi") else config.step_um,
        speed_um_per_s=config.speed_um_per_s,
        acceleration_um_per_s2=config.acceleration_um_per_s2,
        is_closed_loop=kind.startswith("asi"),
    )
    return make_firmware(kind, facts, now_s=clock.monotonic_s(), seed=5)


def open_machine(
    kind: FirmwareKind,
    clock: Clock,
    *,
    link: ByteLink | None = None,
    **changes: Any,
) -> Machine:
    config = stage_config(kind, **changes)
    board = make_board(config, kind, clock)
    truth = SharedFirmware(board, clock=clock)
    stage = open_serial_stage(config, link or VirtualLink(truth), clock=clock)
    return Machine(stage=stage, board=board, truth=truth)
