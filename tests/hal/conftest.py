"""A small, quick virtual instrument for tests; no network, no real time."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from bifocus.clock import Clock, FakeClock
from bifocus.config import Instrument
from bifocus.hal.open_instrument import OpenInstrument, open_instrument

ConfigMaker = Callable[..., Instrument]
Opener = Callable[..., OpenInstrument]


def _small_config(**changes: dict[str, Any]) -> Instrument:
    """A 80x64 px camera over 50 x 40 um of procedural tissue; sections may change."""
    sections: dict[str, dict[str, Any]] = {
        "optics": {"na": 0.75, "pixel_um": 0.25},
        "stage": {
            "kind": "virtual",
            "x_um": (0.0, 1000.0),
            "y_um": (0.0, 800.0),
            "z_um": (0.0, 300.0),
            "speed_um_per_s": (100.0, 100.0, 50.0),
            "acceleration_um_per_s2": (1000.0, 1000.0, 500.0),
            "step_um": (0.1, 0.1, 0.05),
            "settle_s": 0.2,
        },
        "camera": {"kind": "virtual", "width_px": 80, "height_px": 64},
        "virtual_slide": {
            "tissue": "procedural:160x200",
            "x_um": 475.0,
            "y_um": 380.0,
            "focus_um": 150.0,
        },
    }
    for name, change in changes.items():
        sections[name] = {**sections[name], **change}
    document = {"version": 1, "name": "small", "seed": 11, "clock": "virtual"}
    return Instrument.model_validate({**document, **sections})


@pytest.fixture(scope="session")
def make_config() -> ConfigMaker:
    return _small_config


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def open_small(clock: FakeClock, tmp_path: Path) -> Iterator[Opener]:
    """Open the small instrument, with sections changed; closed after the test."""
    with ExitStack() as stack:

        def opener(on: Clock = clock, **changes: dict[str, Any]) -> OpenInstrument:
            config = _small_config(**changes)
            opened = open_instrument(config, base_dir=tmp_path, clock=on)
            return stack.enter_context(opened)

        yield opener
