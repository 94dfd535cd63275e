"""A meter measures with the optics of the profile, and corrects what it reads."""

import dataclasses

import numpy as np
import pytest

from bifocus.calibrated_optics import CalibratedOptics, OffsetReadout
from bifocus.config import Optics
from bifocus.edge.pair_meter import PairMeter, correct_offset, pair_optics
from bifocus.focal_offset import offset_grid_um, transfer_tables
from bifocus.optics import otf_radial
from bifocus.pair_spectra import radial_bins
from bifocus.records import FocalOffset
from bifocus.transfer import Light
from tests.imaging import Scope, shoot_incoherent
from tests.tissue import procedural_tissue

OPTICS = Optics(na=0.75, pixel_um=0.25)
FOUND = CalibratedOptics(
    na=0.70, light=Light(), chromatic_um=(0.3, 0.0, -0.2), z_scale=1.05
)


def test_the_profiles_optics_replace_the_files() -> None:
    optics = pair_optics(OPTICS, 0.75, FOUND)
    assert (optics.na, optics.light, optics.z_scale) == (0.70, Light(), 1.05)
    assert optics.is_measured
    plain = pair_optics(OPTICS, 0.75)
    assert (plain.na, plain.light, plain.is_measured) == (0.75, None, False)


def test_each_colour_is_defocused_from_its_own_focus() -> None:
    """Against the OTF at the depth that shift, dD and scale of Z add up to."""
    optics = pair_optics(OPTICS, 0.75, FOUND)
    tables = transfer_tables(optics, 128)
    frequency = radial_bins(128).frequency.astype(np.float64) / 0.25
    offset_um = float(offset_grid_um(optics)[90])
    for colour, shift_um in enumerate(FOUND.chromatic_um):
        for shot, plane_um in enumerate((-0.75, 0.75)):
            depth_um = 1.05 * (offset_um + shift_um - plane_um)
            expected = otf_radial(optics.objective(colour), frequency, depth_um)
            # both read tables by linear interpolation
            np.testing.assert_allclose(tables[colour, shot, 90], expected, atol=3e-3)


@pytest.mark.slow
def test_a_pair_is_read_in_the_micrometres_of_the_stage() -> None:
    """A stage whose micrometre is 1.1 long: shots are 1.1 times as far apart."""
    scope, rng = Scope(paraxial=True), np.random.default_rng(0)
    tissue = procedural_tissue(224, 3)
    shots = shoot_incoherent(tissue, 1.1 * 0.4, 1.1 * 0.75, scope, rng)
    long = CalibratedOptics(na=0.75, light=Light(), z_scale=1.1)
    meter = PairMeter(OPTICS, 0.75, long)
    tile = meter.measure(shots.minus, shots.plus).offsets.tile
    assert tile.offset_um == pytest.approx(0.4, abs=0.05)
    readout = OffsetReadout(gain=1.25, bias_um=0.1, range_um=2.0, sd_factor=2.0)
    corrected = PairMeter(OPTICS, 0.75, dataclasses.replace(long, readout=readout))
    found = corrected.measure(shots.minus, shots.plus).offsets.tile
    assert found.offset_um == pytest.approx((tile.offset_um - 0.1) / 1.25, abs=1e-6)
    assert found.sd_um == pytest.approx(2 * tile.sd_um / 1.25, rel=1e-6)


def test_beyond_the_range_the_uncertainty_grows() -> None:
    readout = OffsetReadout(range_um=2.0)
    inside = correct_offset(
        FocalOffset(offset_um=-1.9, sd_um=0.05, confidence=0.9), readout
    )
    beyond = correct_offset(
        FocalOffset(offset_um=-3.0, sd_um=0.05, confidence=0.9), readout
    )
    assert inside.sd_um == 0.05
    assert beyond.sd_um == pytest.approx(np.hypot(0.05, 1.0))
