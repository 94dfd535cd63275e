"""Presets behind their boards' protocols: calibration finds the truth there, too."""

from pathlib import Path
from typing import Any

import pytest

from bench.calibrate_presets import BOARDS, document_on_board
from bifocus.calib.focus_step import measure_focus
from bifocus.calib.procedure import calibrate_into
from bifocus.calib.step_table import STEPS
from bifocus.config import Instrument
from bifocus.hal.calibration_truth import calibration_truth
from bifocus.hal.open_instrument import open_instrument
from bifocus.jobs import bench_of

# What scan and focus rest on; the whole runs are in docs/calibration.md.
STEPS_RUN = ("focus", "z", "spacing")
SMALL = {"width_px": 160, "height_px": 160}


def document(name: str, link: str) -> dict[str, Any]:
    """A preset on its board, with a smaller camera and tissue that is always there."""
    found = document_on_board(name, link)
    found["camera"] |= SMALL
    found["virtual_slide"] |= {"tissue": "procedural:1024x1024"}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", BOARDS)
def test_a_preset_behind_its_boards_protocol(name: str, tmp_path: Path) -> None:
    """On the preset's own virtual clock: no terminal between, honest times."""
    config = Instrument.model_validate(document(name, "direct"))
    assert config.scan.region_um is not None
    entries = [entry for entry in STEPS if entry.name in STEPS_RUN]
    with open_instrument(config, base_dir=Path()) as devices:
        bench = bench_of(devices, config.scan.region_um)
        profile = calibrate_into(bench, tmp_path, entries=entries).profile
        assert devices.truth is not None
        truth = calibration_truth(devices.truth, config, profile, config.scan.region_um)
    assert not profile.skipped
    assert profile.simulated
    for key in ("focus_um", "backlash_z_um", "half_spacing_um"):
        measured = profile.values[key]
        assert abs(measured.value - truth[key]) <= 4 * measured.standard_uncertainty


@pytest.mark.slow
@pytest.mark.parametrize("name", BOARDS)
def test_the_focus_of_a_preset_over_a_terminal(name: str) -> None:
    """In real time, so brief: one stack, and a camera and a stage that settle soon."""
    found = document(name, "pty")
    found["camera"] |= {"transfer_s": 0.005, "frame_rate_hz": 60.0, "exposure_s": 0.005}
    found["stage"]["settle_s"] = 0.01
    found["stage"]["virtual_firmware"]["mechanics"]["ring_amplitude_um"] = 0.0
    found["calibration"] |= {"repeats": 1, "coarse_range_um": 12.0}
    found["calibration"]["z_start_um"] = found["virtual_slide"]["focus_um"] - 2.0
    config = Instrument.model_validate(found)
    assert config.scan.region_um is not None
    with open_instrument(config, base_dir=Path()) as devices:
        step = measure_focus(bench_of(devices, config.scan.region_um), {})
        assert devices.truth is not None
        true_um = devices.truth.commanded_focus_um(
            step.facts["x_um"], step.facts["y_um"], step.facts["reference_s"]
        )
    focus = step.values["focus_um"]
    assert abs(focus.value - true_um) <= 4 * focus.standard_uncertainty


def test_documents_of_presets_are_whole() -> None:
    for name in BOARDS:
        for link in ("direct", "pty"):
            config = Instrument.model_validate(document_on_board(name, link))
            assert config.is_simulated
            assert config.clock == ("real" if link == "pty" else "virtual")
            assert config.calibration.motor_turn_um is not None
