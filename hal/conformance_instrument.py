"""Puts the instrument of an instrument file on the bench, its travel made small.

The stage is opened once to see where it stands; then with limits that are the envelope
around that place. A driver that clips or ignores its limits cannot go further.
"""

import itertools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bifocus.clock import Clock, RealClock, VirtualClock
from bifocus.config import Instrument
from bifocus.hal.byte_link import ByteLink
from bifocus.hal.conformance_devices import (
    AXES,
    DevicesUnderTest,
    Envelope,
    OpenDevices,
)
from bifocus.hal.faulty_link import ERROR_REPLIES, FaultyLink
from bifocus.hal.open_instrument import open_instrument
from bifocus.hal.open_stage import OpenStage, WrapLink, open_stage
from bifocus.hal.recording import Recorder
from bifocus.records import StagePosition


def instrument_on_the_bench(
    config: Instrument,
    *,
    base_dir: Path,
    envelope: Envelope,
    record: Path | None = None,
    stage_only: bool = False,
) -> OpenDevices:
    """Return what opens the instrument for `Bench`, with its travel narrowed.

    A stage on a serial port gets a `FaultyLink`. Each opening is a recording of its
    own in the folder `record`: `open-01`, `open-02` and so on. With `stage_only` the
    camera stays closed.

    Raises
    ------
    BifocusError
        If the instrument cannot be opened.
    """
    config = _unhomed(config)
    clock = VirtualClock() if config.clock == "virtual" else RealClock()
    here = _read_position(config, base_dir, clock)
    narrow = narrowed(config, here, envelope)
    number = itertools.count(1)

    @contextmanager
    def open_devices() -> Iterator[DevicesUnderTest]:
        wires: list[FaultyLink] = []

        def wrap(link: ByteLink) -> ByteLink:
            error_reply = ERROR_REPLIES[config.stage.kind]
            wires.append(FaultyLink(link, error_reply=error_reply))
            return wires[-1]

        folder = record / f"open-{next(number):02d}" if record else None
        opening = _open_stage_only if stage_only else open_instrument
        with opening(
            narrow, base_dir=base_dir, clock=clock, record=folder, wrap_link=wrap
        ) as opened:
            yield DevicesUnderTest(
                stage=opened.stage,
                clock=clock,
                camera=getattr(opened, "camera", None),
                pixel_um=config.optics.pixel_um,
                wire=wires[0] if wires else None,
            )

    return open_devices


def narrowed(config: Instrument, here: StagePosition, envelope: Envelope) -> Instrument:
    """Return the instrument with a travel of the envelope around `here`.

    Below it is room for the take-up, which the limits of an open stage leave out.
    """
    travel: dict[str, tuple[float, float]] = {}
    for axis, take_up_um in zip(AXES, config.stage.take_up_um, strict=True):
        low_um, high_um = getattr(config.stage, axis)
        place_um, room_um = getattr(here, axis), getattr(envelope, axis)
        travel[axis] = (
            max(low_um, place_um - room_um - take_up_um),
            min(high_um, place_um + room_um),
        )
    return config.model_copy(update={"stage": config.stage.model_copy(update=travel)})


def _unhomed(config: Instrument) -> Instrument:
    """Return the instrument with a stage that counts from where it is found.

    Homing goes far beyond any envelope.
    """
    if not hasattr(config.stage, "homing"):
        return config
    stage = config.stage.model_copy(update={"homing": "none"})
    return config.model_copy(update={"stage": stage})


def _read_position(config: Instrument, base_dir: Path, clock: Clock) -> StagePosition:
    with _open_stage_only(config, base_dir=base_dir, clock=clock) as opened:
        return opened.stage.position()


@contextmanager
def _open_stage_only(
    config: Instrument,
    *,
    base_dir: Path,
    clock: Clock,
    record: Path | None = None,
    wrap_link: WrapLink | None = None,
) -> Iterator[OpenStage]:
    with ExitStack() as devices:
        recorder = None
        if record is not None:
            recorder = devices.enter_context(Recorder(record, config, clock))
        opened = open_stage(
            config.stage,
            clock=clock,
            seed=config.seed,
            base_dir=base_dir,
            observer=recorder,
            wrap_link=wrap_link,
        )
        devices.callback(opened.stage.close)
        devices.callback(opened.stage.stop)
        yield opened
