"""The kinds of virtual boards, and typical machines to go with them."""

import math
from typing import Literal, get_args

from bifocus.hal.firmware_asi import AsiFirmware
from bifocus.hal.firmware_axes import AxesFacts, FirmwareAxes
from bifocus.hal.firmware_board import VirtualBoard
from bifocus.hal.firmware_grbl import GrblFirmware
from bifocus.hal.firmware_marlin import MarlinFirmware
from bifocus.hal.firmware_sangaboard import SangaboardFirmware

FirmwareKind = Literal[
    "sangaboard", "sangaboard-v1", "grbl", "marlin", "asi", "asi-tiger"
]
KINDS: tuple[FirmwareKind, ...] = get_args(FirmwareKind)

# Steps: 4096 half-steps a turn on an OpenFlexure-like flexure stage; 3200 microsteps a
# turn on screws of 2 mm pitch (x, y) and 1 mm (z); ASI's rotary encoders.
_TYPICAL: dict[str, AxesFacts] = {
    "sangaboard": AxesFacts(
        step_um=(0.09, 0.09, 0.05),
        speed_um_per_s=(90.0, 90.0, 50.0),
        acceleration_um_per_s2=(90000.0, 90000.0, 50000.0),
        travel_um=((-6000.0, 6000.0), (-6000.0, 6000.0), (-3000.0, 3000.0)),
    ),
    "grbl": AxesFacts(
        step_um=(0.625, 0.625, 0.3125),
        speed_um_per_s=(10000.0, 10000.0, 5000.0),
        acceleration_um_per_s2=(100000.0, 100000.0, 50000.0),
        travel_um=((-80000.0, 0.0), (-50000.0, 0.0), (-20000.0, 0.0)),
    ),
    "marlin": AxesFacts(
        step_um=(0.625, 0.625, 0.3125),
        speed_um_per_s=(10000.0, 10000.0, 5000.0),
        acceleration_um_per_s2=(100000.0, 100000.0, 50000.0),
        travel_um=((0.0, 80000.0), (0.0, 50000.0), (0.0, 20000.0)),
    ),
    "asi": AxesFacts(
        step_um=(0.022, 0.022, 0.0055),
        speed_um_per_s=(7000.0, 7000.0, 1750.0),
        acceleration_um_per_s2=(140000.0, 140000.0, 35000.0),
        travel_um=((-60000.0, 60000.0), (-37500.0, 37500.0), (-3000.0, 3000.0)),
        is_closed_loop=True,
    ),
}


def typical_facts(kind: FirmwareKind) -> AxesFacts:
    """Return a machine that such a board often drives; power comes on at zero."""
    return _TYPICAL[kind.partition("-")[0]]


def make_firmware(
    kind: FirmwareKind,
    facts: AxesFacts | None = None,
    *,
    now_s: float,
    seed: int,
) -> VirtualBoard:
    """Return a board with its motors, switched on at `now_s`, booted long ago.

    A GRBL board has limit switches where the top ends of its travel are known, and
    then begins locked, as after power-on.
    """
    facts = facts or typical_facts(kind)
    axes = FirmwareAxes(facts, now_s=now_s, seed=seed)
    if kind == "grbl":
        has_switches = all(math.isfinite(high) for _, high in facts.travel_um)
        return GrblFirmware(axes, now_s=now_s, has_switches=has_switches)
    if kind == "marlin":
        return MarlinFirmware(axes, now_s=now_s)
    if kind in ("asi", "asi-tiger"):
        return AsiFirmware(axes, now_s=now_s, is_tiger=kind == "asi-tiger")
    return SangaboardFirmware(axes, now_s=now_s, is_v1=kind == "sangaboard-v1")
