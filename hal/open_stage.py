"""Opens the stage that the `stage:` section describes, whatever is behind it."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bifocus.clock import Clock, VirtualClock
from bifocus.errors import ConfigError
from bifocus.hal import asi_codec, grbl_codec, marlin_codec, sangaboard_codec
from bifocus.hal.asi import Asi
from bifocus.hal.byte_link import ByteLink, ExchangeObserver
from bifocus.hal.devices import Stage
from bifocus.hal.firmware_stage import open_firmware
from bifocus.hal.grbl import Grbl
from bifocus.hal.marlin import Marlin
from bifocus.hal.sangaboard import Sangaboard
from bifocus.hal.serial_link import SerialLink
from bifocus.hal.serial_port import SerialPort
from bifocus.hal.serial_stage import SerialStage
from bifocus.hal.virtual_camera import PoseSource
from bifocus.hal.virtual_stage import VirtualStage
from bifocus.stage_config import (
    AnySerialStage,
    AnyStage,
    MicroManagerStageConfig,
    VirtualFirmware,
)

WrapLink = Callable[[ByteLink], ByteLink]
"""Puts something, such as a `FaultyLink`, between a driver and its port."""

_PTY_MAJORS = range(136, 144)  # Unix98 pseudo-terminals: Linux, admin-guide/devices.txt
_REFERENCE_LOST = {
    "sangaboard": sangaboard_codec.BANNER,
    "grbl": grbl_codec.REFERENCE_LOST,
    "marlin": marlin_codec.REFERENCE_LOST,
    "asi": asi_codec.REFERENCE_LOST,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenStage:
    """A stage in use; `poses` tells where the glass truly is, None on a real stage."""

    stage: Stage
    poses: PoseSource | None


def open_stage(
    config: AnyStage,
    *,
    clock: Clock,
    seed: int,
    base_dir: Path = Path(),
    observer: ExchangeObserver | None = None,
    wrap_link: WrapLink | None = None,
) -> OpenStage:
    """Open a stage; nothing moves.

    Parameters
    ----------
    config
        The `stage:` section.
    clock
        The instrument's clock; only what is played in this process takes a virtual one.
    seed
        Draws the play and the noise of a virtual stage.
    base_dir
        Folder of the instrument file; relative paths in it start here.
    observer
        Is told every exchange on the wire.
    wrap_link
        Is put between the driver and its port.

    Raises
    ------
    ConfigError
        If the port is a pseudo-terminal and the file does not say `simulated: true`,
        if the clock is virtual, or if the board's settings contradict the file.
    DeviceError
        If the port cannot be opened or the board does not answer as it should.
    """
    if config.kind == "virtual":
        stage = VirtualStage(config, clock=clock, seed=seed)
        return OpenStage(stage=stage, poses=stage)
    if isinstance(clock, VirtualClock) and not _is_played_here(config):
        msg = f"stage '{config.name}': real stages run on real time; set clock: real"
        raise ConfigError(msg)
    if isinstance(config, MicroManagerStageConfig):
        from bifocus.hal.micromanager_stage import open_micromanager_stage

        bridge = open_micromanager_stage(config, base_dir=base_dir, clock=clock)
        return OpenStage(stage=bridge, poses=None)
    link: ByteLink
    poses: PoseSource | None = None
    if config.port == "virtual":
        link, poses = open_firmware(config, clock=clock, seed=seed)
    else:
        link = _open_port(config, clock)
    if wrap_link is not None:
        link = wrap_link(link)
    try:
        opened = open_serial_stage(config, link, clock=clock, observer=observer)
    except BaseException:
        link.close()
        raise
    return OpenStage(stage=opened, poses=poses)


def _is_played_here(config: AnySerialStage | MicroManagerStageConfig) -> bool:
    """Return whether this process plays the board, without a terminal between."""
    if isinstance(config, MicroManagerStageConfig) or config.port != "virtual":
        return False
    return (config.virtual_firmware or VirtualFirmware()).link == "direct"


def _open_port(config: AnySerialStage, clock: Clock) -> SerialLink:
    if is_pseudo_terminal(Path(config.port)) and not config.simulated:
        msg = (
            f"stage '{config.name}': {config.port} is a pseudo-terminal, so no real "
            "board; if that is meant, say so by `simulated: true` under `stage:`"
        )
        raise ConfigError(msg)
    return SerialLink(
        config.port, baud=config.baud, assert_dtr=config.assert_dtr, clock=clock
    )


def open_serial_stage(
    config: AnySerialStage,
    link: ByteLink,
    *,
    clock: Clock,
    observer: ExchangeObserver | None = None,
) -> SerialStage:
    """Connect a stage over an open link, such as one to firmware in this process.

    Raises what `open_stage` raises, but for what concerns the port itself.
    """
    port = SerialPort(
        link,
        clock=clock,
        name=f"{config.kind} on {config.port}",
        reference_lost=_REFERENCE_LOST[config.kind],
        reply_s=config.deadlines.reply_s,
        observer=observer,
    )
    return SerialStage(config, _board(config, port), port)


def is_pseudo_terminal(path: Path) -> bool:
    """Return whether a path leads to a pseudo-terminal, also through links."""
    try:
        return os.major(path.stat().st_rdev) in _PTY_MAJORS
    except OSError:  # a URL, or a device that is not there
        return False


def _board(
    config: AnySerialStage, port: SerialPort
) -> Sangaboard | Grbl | Marlin | Asi:
    if config.kind == "sangaboard":
        return Sangaboard(port, config)
    if config.kind == "grbl":
        return Grbl(port, config)
    if config.kind == "marlin":
        return Marlin(port, config)
    return Asi(port, config)
