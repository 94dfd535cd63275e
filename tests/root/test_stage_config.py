"""The `stage:` section: kinds, ranges, the objective guard, the examples of boards."""

from pathlib import Path
from typing import Any

import pytest

from bifocus.config import Instrument, load_instrument
from bifocus.config_model import parse_model
from bifocus.errors import ConfigError
from bifocus.stage_config import ObjectiveGuard, SerialStageConfig

BOARDS = sorted((Path(__file__).parents[2] / "examples" / "boards").glob("*.yaml"))


def document(**stage: Any) -> dict[str, Any]:
    section = {
        "kind": "grbl",
        "port": "/dev/ttyUSB0",
        "x_um": [0, 1000],
        "y_um": [0, 1000],
        "z_um": [0, 500],
        "speed_um_per_s": [100, 100, 50],
        "acceleration_um_per_s2": [1000, 1000, 500],
        "step_um": [0.1, 0.1, 0.1],
        **stage,
    }
    return {
        "version": 1,
        "name": "toy",
        "optics": {"na": 0.5, "pixel_um": 0.25},
        "stage": {key: value for key, value in section.items() if value is not None},
        "camera": {"kind": "opencv", "width_px": 640, "height_px": 480},
    }


def parse(**stage: Any) -> Instrument:
    return parse_model(Instrument, document(**stage), source="toy.yaml")


@pytest.mark.parametrize("kind", ["sangaboard", "grbl", "marlin", "asi"])
def test_every_board_has_its_section(kind: str) -> None:
    config = parse(kind=kind)
    assert config.stage.kind == kind
    assert not config.is_simulated
    assert parse(kind=kind, simulated=True).is_simulated


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"kind": "grlb"}, "'grlb' is not one of"),
        ({"baut": 9600}, "'stage.baut'; did you mean 'baud'"),
        ({"port": None}, "key 'stage.port' is missing"),
        ({"step_um": [0.1, 0.0, 0.1]}, "stage.step_um.1"),
        ({"z_um": [500, 0]}, "z_um: the low end"),
        ({"stop_latency_s": 0.001}, "stage.stop_latency_s"),
        ({"deadlines": {"motion_factor": 0.9}}, "stage.deadlines.motion_factor"),
        ({"axis_letters": ["X", "Y", "Z"]}, "stage.axis_letters"),
        ({"kind": "asi", "axis_letters": ["X", "x", "Z"]}, "three different letters"),
        ({"kind": "asi", "homing": "switches"}, "stage.homing"),
        ({"kind": "sangaboard", "homing": "switches"}, "invert"),
        ({"port": "virtual"}, "simulated: true"),
        ({"virtual_firmware": {}}, "port: virtual"),
        (
            {
                "port": "virtual",
                "simulated": True,
                "virtual_firmware": {"variant": "asi-tiger"},
            },
            "asi-tiger is no grbl",
        ),
    ],
)
def test_mistakes_are_named(change: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(**change)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("bed", "distance", "glass", "margin", "lowest"),
    [
        (0.0, 600.0, 1170.0, 50.0, 620.0),  # upright: the lens stays above the glass
        (0.0, 600.0, 0.0, 100.0, -500.0),  # inverted: it may come up to the bed
        (-7000.0, 600.0, 1170.0, 50.0, -6380.0),
    ],
)
def test_the_lowest_z_follows_from_the_optics(
    bed: float, distance: float, glass: float, margin: float, lowest: float
) -> None:
    guard = ObjectiveGuard(
        bed_focus_um=bed,
        working_distance_um=distance,
        slide_thickness_um=glass,
        margin_um=margin,
    )
    assert guard.lowest_z_um == pytest.approx(lowest)
    # Down there, focus lies this far below the top of the glass: the working distance
    # less the margin.
    assert bed + glass - guard.lowest_z_um == pytest.approx(distance - margin)


def test_estimates_know_the_guard() -> None:
    guard = {"bed_focus_um": 0.0, "working_distance_um": 1000.0}
    stage = parse(objective_guard=guard, take_up_um=[0, 0, 10]).stage
    twin = stage.virtual_twin()
    assert twin.z_um == (220.0, 500.0)
    assert twin.take_up_um == stage.take_up_um
    assert twin.mechanics.backlash_um == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_the_examples_load(path: Path) -> None:
    config = load_instrument(path)
    stage = config.stage
    assert isinstance(stage, SerialStageConfig)
    assert stage.is_simulated == path.stem.startswith("virtual")
    low_um, high_um = stage.safe_z_um
    assert high_um - low_um > 200.0
    for take_up_um in stage.take_up_um:
        assert 0 < take_up_um < 100


def test_there_is_an_example_of_every_board() -> None:
    kinds = {load_instrument(path).stage.kind for path in BOARDS}
    assert kinds == {"sangaboard", "grbl", "marlin", "asi"}
