"""Every serial stage keeps the contract of stages, over virtual firmware."""

from collections.abc import Iterator

import pytest

from bifocus.clock import FakeClock
from bifocus.hal.serial_stage import SerialStage
from bifocus.records import StagePosition
from tests.contracts.stage_contract import StageContract
from tests.hal.boards import BOARDS, open_machine


@pytest.fixture(params=BOARDS)
def stage(request: pytest.FixtureRequest, clock: FakeClock) -> Iterator[SerialStage]:
    opened = open_machine(request.param, clock).stage
    # Close every gap, as at any time but the first move.
    opened.move_to(StagePosition(x_um=0.0, y_um=0.0, z_um=0.0))
    yield opened
    opened.close()


class TestSerialStage(StageContract):
    pass
