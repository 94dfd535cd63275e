"""Serial ports: which board is likely behind each, and whether we may open ours.

Nothing is opened: opening resets many boards. `bifocus hal-check` asks the board.
"""

import grp
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bifocus.diagnosis import Diagnosis, Machine

TOPIC = "ports"

# USB vendor and product numbers as the boards' own files state them (Arduino's and
# Marlin's board definitions, the Linux drivers); one number may stand for many boards.
_BOARDS: dict[tuple[int, int | None], str] = {
    (0x2E8A, None): "RP2040 board: Sangaboard v0.5 (firmware 1.x)",
    (0x2341, 0x0043): "Arduino Uno: GRBL",
    (0x2341, 0x0001): "Arduino Uno: GRBL",
    (0x2A03, 0x0043): "Arduino Uno: GRBL",
    (0x2341, 0x0042): "Arduino Mega: Marlin (RAMPS)",
    (0x2341, 0x0010): "Arduino Mega: Marlin (RAMPS)",
    (0x2A03, 0x0042): "Arduino Mega: Marlin (RAMPS)",
    (0x2341, 0x8036): "Arduino Leonardo: Sangaboard v0.3",
    (0x2A03, 0x8036): "Arduino Leonardo: Sangaboard v0.3",
    (0x1A86, 0x7523): "CH340: Arduino clone with GRBL, Marlin or Sangaboard v0.2",
    (0x1A86, 0x5523): "CH341: Arduino clone with GRBL or Marlin",
    (0x1A86, 0x55D4): "CH9102: clone board with GRBL or Marlin",
    (0x0403, 0x6001): "FT232R: Arduino Nano with GRBL, or an RS-232 cable (ASI)",
    (0x10C4, 0xEA60): "CP210x: ASI Tiger or MS-2000, or a board with GRBL or Marlin",
    (0x067B, 0x2303): "PL2303: an RS-232 cable (ASI MS-2000)",
    (0x1D50, 0x6029): "LPC176x board: Marlin",
    (0x0483, 0x5740): "STM32 board: Marlin or grblHAL",
    (0x27B1, 0x0001): "RAMBo: Marlin",
    (0x2C99, None): "Prusa board: Marlin",
    (0x16C0, 0x0483): "Teensy: grblHAL or Marlin",
}
_BRAILLE_STEALS = ("1a86", "7523")


@dataclass(frozen=True, slots=True, kw_only=True)
class PortFacts:
    """One serial port; the USB numbers are None for a port on the mainboard."""

    device: str
    vendor: int | None = None
    product: int | None = None
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortAccess:
    """What this process may do with a device file, and why."""

    exists: bool
    may_open: bool
    group: str
    is_member: bool


def list_ports() -> list[PortFacts]:
    """Return this machine's serial ports."""
    from serial.tools import list_ports as pyserial

    return [
        PortFacts(
            device=port.device,
            vendor=port.vid,
            product=port.pid,
            description=port.description or "",
        )
        for port in sorted(pyserial.comports())
    ]


def read_access(device: str) -> PortAccess:
    """Return what this process may do with a device file."""
    path = Path(device)
    if not path.exists():
        return PortAccess(exists=False, may_open=False, group="", is_member=False)
    gid = path.stat().st_gid
    try:
        group = grp.getgrgid(gid).gr_name
    except KeyError:
        group = str(gid)
    return PortAccess(
        exists=True,
        may_open=os.access(path, os.R_OK | os.W_OK),
        group=group,
        is_member=gid in os.getgroups(),
    )


def likely_board(port: PortFacts) -> str:
    """Return what is likely behind a port.

    Examples
    --------
    >>> likely_board(PortFacts(device="/dev/ttyACM0", vendor=0x2341, product=0x43))
    'Arduino Uno: GRBL'
    """
    if port.vendor is None:
        return "not a USB port"
    board = _BOARDS.get((port.vendor, port.product)) or _BOARDS.get((port.vendor, None))
    return board or f"unknown board {port.vendor:04x}:{port.product or 0:04x}"


def diagnose_ports(ports: Iterable[PortFacts], machine: Machine) -> Iterator[Diagnosis]:
    """Yield what is plugged in, and boards that another program has taken away."""
    listed = list(ports)
    for port in listed:
        yield Diagnosis(
            topic=TOPIC, name=port.device, state="info", found=likely_board(port)
        )
    if not listed:
        yield Diagnosis(
            topic=TOPIC, name="serial ports", state="info", found="none is plugged in"
        )
    has_ch340 = any(port.vendor == 0x1A86 for port in listed)
    if not has_ch340 and _usb_has(machine, *_BRAILLE_STEALS):
        yield Diagnosis(
            topic=TOPIC,
            name="CH340 board",
            state="fail",
            found="a board is on the USB, but it has no serial port; brltty takes it "
            "for a braille display",
            advice="sudo apt-get remove brltty, then plug the board in again",
        )


def diagnose_our_port(
    device: str, access: PortAccess, ports: Iterable[PortFacts], holders: Iterable[str]
) -> Iterator[Diagnosis]:
    """Yield whether the instrument's own port is there, ours to open, and free."""
    if "://" in device:
        found = "a port on the network; not looked at"
        yield Diagnosis(topic=TOPIC, name=device, state="info", found=found)
        return
    if not access.exists:
        there = ", ".join(port.device for port in ports) or "none"
        yield Diagnosis(
            topic=TOPIC,
            name=device,
            state="fail",
            found=f"there is no such port (there are: {there})",
            advice="check cable and power; set `stage.port`, best to a name under "
            "/dev/serial/by-id, which stays",
        )
        return
    if not access.may_open:
        advice = f"sudo usermod -aG {access.group} $USER, then log in again"
        if access.is_member:
            advice = "you are in the group, so a udev rule or a container forbids it"
        yield Diagnosis(
            topic=TOPIC,
            name=device,
            state="fail",
            found=f"no permission to open it; it belongs to the group {access.group}",
            advice=advice,
        )
        return
    held = ", ".join(holders)
    if held:
        yield Diagnosis(
            topic=TOPIC,
            name=device,
            state="fail",
            found=f"open in another program: {held}",
            advice="close that program; stop ModemManager, which tries every new port",
        )
        return
    yield Diagnosis(topic=TOPIC, name=device, state="ok", found="there, and ours")
    if device.startswith(("/dev/ttyUSB", "/dev/ttyACM")):
        yield Diagnosis(
            topic=TOPIC,
            name="port name",
            state="info",
            found=f"{device} may name another board after the next start",
            advice="use the name under /dev/serial/by-id",
        )


def find_holders(device: str, machine: Machine) -> list[str]:
    """Return the programs that have a device open, as far as we may see them."""
    real = os.path.realpath(device)
    found = set()
    for link in machine.glob("/proc", "[0-9]*/fd/*"):
        try:
            target = str(machine.path(link).readlink())
        except OSError:
            continue
        if target == real:
            process = link.split("/")[2]
            found.add(f"{machine.text(f'/proc/{process}/comm')} (process {process})")
    return sorted(found)


def _usb_has(machine: Machine, vendor: str, product: str) -> bool:
    for path in machine.glob("/sys/bus/usb/devices", "*/idVendor"):
        folder = path.rsplit("/", 1)[0]
        numbers = (machine.text(path), machine.text(f"{folder}/idProduct"))
        if numbers == (vendor, product):
            return True
    return False
