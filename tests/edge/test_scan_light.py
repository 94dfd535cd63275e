"""A lamp with a colour, a falloff and a camera with a dark level leave no trace."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from bifocus.edge.fusers import PhysicsFuser
from bifocus.edge.scan import Scan, ScanResult
from bifocus.edge.scan_folder import ScanFolder
from bifocus.records import Measured
from tests.scanner import ideal_profile, open_scanner, plan_region, scanner_config

REGION_UM = (440.0, 340.0, 60.0, 60.0)  # one tile
BALANCE, DARK = (0.75, 1.0, 0.65), 8.0


def scan_one_tile(root: Path, camera: dict[str, Any], *, knows: bool) -> ScanResult:
    config = scanner_config(
        camera={"kind": "virtual", "width_px": 256, "height_px": 256, **camera}
    )
    with open_scanner(config) as instrument:
        profile = ideal_profile(instrument)
        if knows:
            levels = (*(255 * 0.92 * share + DARK for share in BALANCE), DARK)
            keys = ("white_r", "white_g", "white_b", "dark_level")
            values = {
                key: Measured(
                    value=level, standard_uncertainty=0.1, method="truth", unit="levels"
                )
                for key, level in zip(keys, levels, strict=True)
            }
            profile = dataclasses.replace(profile, values=values)
        scan = Scan(
            stage=instrument.stage,
            camera=instrument.camera,
            clock=instrument.clock,
            config=config,
            profile=profile,
            plan=plan_region(config, profile.focus_um.value, REGION_UM),
            folder=ScanFolder(root),
            fuser=PhysicsFuser(),
            truth=instrument.truth,
        )
        return scan.run()


@pytest.mark.slow
def test_a_coloured_lamp_costs_noise_only(tmp_path: Path) -> None:
    plain = scan_one_tile(tmp_path / "plain", {}, knows=False)
    coloured = {"white_balance": BALANCE, "dark_level": DARK}
    corrected = scan_one_tile(tmp_path / "coloured", coloured, knows=True)
    assert plain.truth is not None
    assert corrected.truth is not None
    # Red and blue have 0.75 and 0.65 of the light: 0.6 dB and 0.9 dB of their noise.
    assert corrected.truth.psnr_db > plain.truth.psnr_db - 1.5
    one, other = (
        tifffile.imread(ScanFolder(tmp_path / name).slide).astype(float)
        for name in ("plain", "coloured")
    )
    # The same colours: no channel is off by more than one level in the mean.
    assert np.abs((one - other).mean(axis=(0, 1))).max() < 1.0
