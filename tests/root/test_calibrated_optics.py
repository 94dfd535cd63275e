"""The record of an instrument's optics: it survives its file, and refuses nonsense."""

import json
from typing import Any

import pytest

from bifocus.calibrated_optics import CalibratedOptics, OffsetReadout
from bifocus.errors import ConfigError
from bifocus.transfer import Light

FOUND = CalibratedOptics(
    na=0.71,
    light=Light(condenser=0.6, phase_ratio=0.3, spherical_waves=0.2, pupil="exact"),
    chromatic_um=(0.3, 0.0, -0.2),
    z_scale=1.02,
    readout=OffsetReadout(gain=1.1, bias_um=-0.02, range_um=2.5, sd_factor=1.3),
)


def test_it_survives_json() -> None:
    document = json.loads(json.dumps(FOUND.to_dict()))
    assert CalibratedOptics.from_dict(document) == FOUND
    plain = CalibratedOptics(na=0.5, light=Light())
    assert CalibratedOptics.from_dict(plain.to_dict()) == plain


@pytest.mark.parametrize(
    "change",
    [
        {"na": float("nan")},
        {"na": 0.0},
        {"na": "wide"},
        {"chromatic_um": [0.0, 0.1]},
        {"chromatic_um": [0.0, 0.1, float("inf")]},
        {"chromatic_um": None},
        {"z_scale": 0.0},
        {"light": {"condenser": 0.0}},
        {"light": {"colour": "green"}},
        {"light": None},
        {"readout": {"range_um": -1.0}},
        {"readout": {"range_um": 1.0, "gain": 0.1}},
        {"readout": {"range_um": 1.0, "bias_um": float("nan")}},
        {"magnification": 20},
    ],
)
def test_values_that_no_optics_have_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        CalibratedOptics.from_dict({**FOUND.to_dict(), **change})


def test_a_missing_key_names_the_next_step() -> None:
    with pytest.raises(ConfigError, match="calibrate --only optics"):
        CalibratedOptics.from_dict({"na": 0.7})
