"""The pytest plugin, as a project that has bifocus installed meets it."""

import subprocess
import sys
from importlib.metadata import entry_points

import pytest

pytest_plugins = ("pytester",)

USES_ALL = """
import pytest
import serial
from bifocus.errors import ConfigError
from bifocus.records import StagePosition


def test_a_scanner(virtual_scanner):
    scanner = virtual_scanner(camera={"exposure_s": 0.02})
    receipt = scanner.stage.move_to(StagePosition(x_um=500, y_um=400, z_um=149))
    frame = scanner.camera.grab(after=receipt)
    assert frame.exposure_start_s >= receipt.settled_s
    assert frame.pixels.shape == (256, 256, 3)
    assert frame.pixels.std() > 5  # there is tissue


def test_two_scanners_and_a_typing_error(virtual_scanner):
    assert virtual_scanner().stage is not virtual_scanner().stage
    with pytest.raises(ConfigError, match="did you mean 'settle_s'"):
        virtual_scanner(stage={"setle_s": 1.0})


def test_a_scanner_whose_stage_speaks_grbl(virtual_scanner):
    stage = dict(
        kind="grbl", port="virtual", simulated=True,
        x_um=(-50, 50), y_um=(-50, 50), z_um=(-50, 50),
        speed_um_per_s=(1000, 1000, 500), acceleration_um_per_s2=(1e4, 1e4, 5e3),
        step_um=(0.625, 0.625, 0.3125),
    )
    scanner = virtual_scanner(stage=stage)
    scanner.stage.move_to(StagePosition(x_um=10, y_um=0, z_um=0))
    assert scanner.stage.position().x_um == 10


def test_a_board(virtual_firmware):
    board = virtual_firmware("asi")
    with serial.Serial(board.port, timeout=2) as port:
        port.write(b"W X\\r")
        assert port.read_until(b"\\n").startswith(b":A")


def test_a_board_with_a_fault(virtual_firmware, fault_plan):
    plan = fault_plan({"fault": "drop_reply", "at": 0})
    board = virtual_firmware("asi", faults=plan)
    with serial.Serial(board.port, timeout=0.3) as port:
        port.write(b"W X\\r")
        assert port.read_until(b"\\n") == b""
        port.write(b"W X\\r")
        assert port.read_until(b"\\n").startswith(b":A")


def test_an_unknown_fault(fault_plan):
    with pytest.raises(ConfigError):
        fault_plan({"fault": "gremlin", "at": 0})
"""


def test_the_plugin_is_an_entry_point() -> None:
    """Written into the environment when bifocus is installed; `make` does it."""
    names = {point.name: point.value for point in entry_points(group="pytest11")}
    assert names["bifocus"] == "bifocus.pytest_plugin"


@pytest.mark.slow
def test_a_project_uses_every_fixture(pytester: pytest.Pytester) -> None:
    """In a process of its own, with warnings as errors, and a fixture of its own."""
    pytester.makepyfile(USES_ALL)
    result = pytester.runpytest_subprocess("-W", "error", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=6)


@pytest.mark.slow
def test_a_project_may_have_a_fixture_of_the_same_name(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture
        def fault_plan():
            return "mine"

        def test_mine(fault_plan):
            assert fault_plan == "mine"
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_loading_the_plugin_loads_nothing_heavy() -> None:
    """Every pytest run of everyone who has bifocus installed imports it."""
    code = (
        "import pytest, sys; before = set(sys.modules); import bifocus.pytest_plugin;"
        "new = {name.split('.')[0] for name in set(sys.modules) - before};"
        "assert not new & {'numpy', 'cv2', 'scipy', 'pydantic', 'yaml', 'serial'}, new;"
        "assert 'bifocus.hal' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
