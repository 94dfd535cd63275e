"""The virtual devices keep the same contracts as real ones."""

import pytest

from bifocus.hal.devices import Camera, Stage
from bifocus.hal.open_instrument import OpenInstrument
from tests.contracts.camera_contract import CameraContract
from tests.contracts.stage_contract import StageContract

FAULTY = {
    "take_up_um": (6.0, 6.0, 4.0),
    "command_s": 0.004,
    "mechanics": {
        "backlash_um": (5.0, 5.0, 3.0),
        "repeatability_um": (0.1, 0.1, 0.05),
        "ring_amplitude_um": 0.3,
        "z_drift_um_per_hour": 1.0,
    },
}


@pytest.fixture(params=["ideal", "faulty"])
def instrument(request, open_small) -> OpenInstrument:  # type: ignore[no-untyped-def]
    opened: OpenInstrument = open_small(
        stage=FAULTY if request.param == "faulty" else {}
    )
    return opened


@pytest.fixture
def stage(instrument: OpenInstrument) -> Stage:
    return instrument.stage


@pytest.fixture
def camera(instrument: OpenInstrument) -> Camera:
    return instrument.camera


class TestVirtualStage(StageContract):
    pass


class TestVirtualCamera(CameraContract):
    pass
