"""A scan through real protocols: firmware on a pseudo-terminal, camera on GigE Vision.

Both show the same virtual slide as the in-process devices, so the slides must agree.
"""

import ctypes.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from bifocus.config import Instrument
from bifocus.edge.fusers import PhysicsFuser
from bifocus.edge.scan import Scan
from bifocus.edge.scan_folder import ScanFolder
from bifocus.edge.scan_report import write_reports
from bifocus.records import UInt8Image
from tests.scanner import ideal_profile, open_scanner, plan_region, scanner_config

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        ctypes.util.find_library("aravis-0.8") is None,
        reason="needs libaravis: apt install libaravis-0.8-0",
    ),
]

REGION_UM = (440.0, 340.0, 110.0, 60.0)  # 2 x 1 tiles
MECHANICS = {
    "backlash_um": (5.0, 5.0, 3.0),
    "repeatability_um": (0.05, 0.05, 0.02),
}


def protocol_config() -> Instrument:
    """Return the small scanner with GRBL on a terminal and a GigE camera."""
    document = scanner_config(virtual_slide={"tilt_mrad": (3.0, 0.0)}).model_dump()
    document["clock"] = "real"
    document["stage"] = {
        "kind": "grbl",
        "port": "virtual",
        "simulated": True,
        "virtual_firmware": {"link": "pty", "mechanics": MECHANICS},
        "x_um": (-100.0, 1000.0),  # power comes on with the glass at zero
        "y_um": (-100.0, 800.0),
        "z_um": (-100.0, 300.0),
        "speed_um_per_s": (2000.0, 2000.0, 500.0),
        "acceleration_um_per_s2": (20000.0, 20000.0, 5000.0),
        "step_um": (0.1, 0.1, 0.05),
        "settle_s": 0.1,
        "take_up_um": (6.0, 6.0, 4.0),
    }
    document["camera"] = {
        "kind": "aravis",
        "address": "virtual",
        "width_px": 256,
        "height_px": 256,
        "frame_rate_hz": 30.0,
    }
    return Instrument.model_validate(document)


def mock_config() -> Instrument:
    """Return the same scanner with everything in process, on a virtual clock."""
    return scanner_config(
        virtual_slide={"tilt_mrad": (3.0, 0.0)}, stage={"mechanics": MECHANICS}
    )


def scan(config: Instrument, root: Path) -> tuple[dict[str, Any], UInt8Image]:
    with open_scanner(config) as instrument:
        profile = ideal_profile(instrument)
        plan = plan_region(config, profile.focus_um.value, REGION_UM)
        result = Scan(
            stage=instrument.stage,
            camera=instrument.camera,
            clock=instrument.clock,
            config=config,
            profile=profile,
            plan=plan,
            folder=ScanFolder(root),
            fuser=PhysicsFuser(),
            truth=instrument.truth,
        ).run()
    report = write_reports(result)
    return report, tifffile.imread(root / "slide.ome.tiff")


@pytest.mark.usefixtures("gige_port")
def test_the_slide_is_the_one_of_the_in_process_scanner(tmp_path: Path) -> None:
    report, slide = scan(protocol_config(), tmp_path / "protocols")
    mock_report, mock_slide = scan(mock_config(), tmp_path / "mock")
    assert report["simulated"] is True
    assert report["captured"] == report["tiles"] == 2
    for one in (report, mock_report):
        assert one["truth"]["offset_error_um"]["mean"] <= 0.3
        assert one["truth"]["stitch_error_px"]["max"] <= 1.0
    psnr_db = [one["truth"]["psnr_db"] for one in (report, mock_report)]
    assert abs(psnr_db[0] - psnr_db[1]) < 1.0
    # Play places both slides within a step or two of one another: compare the middle,
    # shifted to its best place.
    rows, columns = np.minimum(slide.shape[:2], mock_slide.shape[:2])
    middle = np.s_[40 : rows - 40, 40 : columns - 40]
    wanted = mock_slide[middle].astype(float)
    errors = [
        np.abs(np.roll(slide, (dy, dx), axis=(0, 1))[middle] - wanted).mean()
        for dy in range(-3, 4)
        for dx in range(-3, 4)
    ]
    contrast = float(wanted.std())
    assert contrast > 10
    assert min(errors) < 0.15 * contrast
