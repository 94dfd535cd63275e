"""`bifocus plan`: what a scan would cost, and regions that cannot be."""

from pathlib import Path

import pytest

from bifocus.hal.virtual_stage import VirtualStage
from bifocus.instrument_text import TEMPLATE
from tests.cli.commands import run_cli, write_instrument

EXAMPLES = [
    Path(__file__).parents[2] / "examples" / f"{name}.yaml"
    for name in ("openflexure", "printer-stage", "asi-ms2000")
]


@pytest.mark.parametrize("path", [TEMPLATE, *EXAMPLES], ids=lambda path: path.stem)
def test_every_example_can_be_planned(path: Path) -> None:
    outcome = run_cli("plan", path)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith(f"plan of {path}\n")  # not folded, however long
    assert all(word in outcome.out for word in ("tiles", "two-shot", " a tile", "MB"))


def test_json_holds_the_plan(instrument: Path) -> None:
    plan = run_cli("plan", instrument, "--json").document
    assert (plan["tiles"], plan["rows"], plan["columns"]) == (6, 2, 3)
    assert plan["step_um"] == [48.0, 48.0]
    assert plan["overlap_px"] == [64.0, 64.0]
    assert plan["shots"] == 12
    assert plan["seconds"] == pytest.approx(6 * plan["seconds_per_tile"])
    assert plan["raw_mb"] > plan["slide_mb"] > 0


def test_the_classical_ways_cost_more(instrument: Path) -> None:
    plans = {
        name: run_cli("plan", instrument, "--strategy", name, "--json").document
        for name in ("two-shot", "stack", "focus-map")
    }
    assert [plan["shots"] for plan in plans.values()] == [12, 132, 132]
    assert plans["stack"]["seconds"] > 6 * plans["two-shot"]["seconds"]
    assert plans["focus-map"]["seconds"] > plans["stack"]["seconds"]


def test_negative_coordinates_are_no_options(instrument: Path) -> None:
    outcome = run_cli("plan", instrument, "--json", "--region", -90, "-80.5", 60, 60)
    assert outcome.document["tiles"] == 1


@pytest.mark.parametrize("command", ["plan", "calibrate", "scan"])
def test_a_region_outside_the_travel_moves_nothing(
    instrument: Path, tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        pytest.fail("the stage moved")

    monkeypatch.setattr(VirtualStage, "move_to", refuse)
    target = () if command == "plan" else ("-o", tmp_path / "out")
    outcome = run_cli(command, instrument, *target, "--region", 3990, 0, 100, 100)
    assert outcome.fails(2, "x from 40", "travel is -3982.0 to 4000.0 um", "choose")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "region",
    [
        ("0", "0", "0", "10"),
        ("0", "0", "10", "-5"),
        ("nan", "0", "10", "10"),
        ("0", "0", "inf", "10"),
        ("0", "0", "1e12", "1e12"),
    ],
)
@pytest.mark.parametrize("command", ["plan", "scan"])
def test_a_region_that_is_none(
    instrument: Path, tmp_path: Path, command: str, region: tuple[str, ...]
) -> None:
    target = () if command == "plan" else ("-o", tmp_path / "out")
    outcome = run_cli(command, instrument, *target, "--region", *region)
    assert outcome.fails(2, "region", "micrometres" if "1e12" in region else "finite")
    assert not list(tmp_path.iterdir())


def test_no_region_at_all(tmp_path: Path) -> None:
    path = write_instrument(tmp_path / "small.yaml", scan={"region_um": None})
    assert run_cli("plan", path).fails(2, str(path), "scan.region_um", "--region")


def test_a_file_with_a_region_of_nan(tmp_path: Path) -> None:
    region_um = [0.0, 0.0, float("nan"), 10.0]
    path = write_instrument(tmp_path / "small.yaml", scan={"region_um": region_um})
    assert run_cli("plan", path).fails(2, str(path), "scan.region_um")
