"""The step `optics` on virtual instruments: what it finds, refuses, is good for."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from bifocus.calib.optics_step import measure_optics
from bifocus.calib.step_result import Bench, StepResult
from bifocus.calibrated_optics import CalibratedOptics
from bifocus.config import Instrument
from bifocus.edge.pair_meter import PairMeter
from bifocus.errors import BlankSlideError, CalibrationError
from bifocus.hal.open_instrument import OpenInstrument
from bifocus.physics_fusion import fuse_measured
from bifocus.records import Measured
from tests.scanner import (
    CENTRE_UM,
    REGION_UM,
    glass_only,
    open_scanner,
    scanner_config,
    truth_of,
)

HIDDEN = {"na": 0.68, "spherical_waves": 0.15}
CHROMATIC_UM = (0.3, 0.0, -0.2)
HALF_SPACING_UM = 0.75


def hiding(config: Instrument, **optics: float) -> Instrument:
    """The same instrument file with other true optics."""
    return Instrument.model_validate({**config.model_dump(), "virtual_optics": optics})


def focus_result(focus_um: float) -> StepResult:
    """What the step `focus` hands on."""
    value = Measured(value=focus_um, standard_uncertainty=0.02, method="truth")
    facts = {"x_um": CENTRE_UM[0], "y_um": CENTRE_UM[1]}
    return StepResult(name="focus", values={"focus_um": value}, facts=facts)


def bench_of(instrument: OpenInstrument) -> Bench:
    return Bench(
        stage=instrument.stage,
        camera=instrument.camera,
        clock=instrument.clock,
        config=instrument.config,
        region_um=REGION_UM,
    )


def run(config: Instrument, focus_um: float = 150.0) -> StepResult:
    with open_scanner(config) as instrument:
        return measure_optics(bench_of(instrument), {"focus": focus_result(focus_um)})


def aberrated(**slide: Any) -> Instrument:
    return hiding(
        scanner_config(virtual_slide={"chromatic_um": CHROMATIC_UM, **slide}), **HIDDEN
    )


def other_objective() -> Instrument:
    """The file says NA 0.75."""
    return hiding(scanner_config(), na=0.45)


@lru_cache(maxsize=1)
def measured() -> StepResult:
    return run(aberrated())


@pytest.mark.slow
def test_values_agree_with_what_is_hidden() -> None:
    result = measured()
    truth = {
        **HIDDEN,
        "condenser": 1.0,
        "z_scale": 1.0,
        "chromatic_r_um": CHROMATIC_UM[0],
        "chromatic_b_um": CHROMATIC_UM[2],
    }
    allowed = {"na": 0.02, "spherical_waves": 0.03, "z_scale": 0.03}
    for name, true in truth.items():
        assert result.values[name].value == pytest.approx(
            true, abs=allowed.get(name, 0.02)
        ), name
    assert result.facts["focus_um"] == pytest.approx(150.0, abs=0.03)
    found = CalibratedOptics.from_dict(result.facts["calibrated_optics"])
    assert found.na == result.values["na"].value
    assert found.readout is not None
    assert found.readout.range_um > HALF_SPACING_UM
    assert len(result.raw_sha256) == 64


@pytest.mark.slow
def test_other_fields_are_fused_better_and_their_offset_read_better() -> None:
    """Six pairs of fields that calibration has not seen, against the hidden truth."""
    calibrated = CalibratedOptics.from_dict(measured().facts["calibrated_optics"])
    config = aberrated(tissue="procedural:700x900", relief_um=0.2)
    rng = np.random.default_rng(3)
    pairs = []
    with open_scanner(config) as instrument:
        truth = truth_of(instrument)
        for offset_um in (-1.2, -0.8, -0.3, 0.2, 0.6, 1.1):
            x_um, y_um = map(float, rng.uniform((410, 340), (560, 440)))
            middle_um = truth.mean_focus_um(x_um, y_um) - offset_um
            shots = [
                truth.sensor.expose(truth.renderer.render(x_um, y_um, z_um), rng)
                for z_um in (middle_um - HALF_SPACING_UM, middle_um + HALF_SPACING_UM)
            ]
            clean = truth.encode(truth.render_truth(x_um, y_um)).astype(float)
            pairs.append((shots[0], shots[1], clean, offset_um))

    def score(optics: CalibratedOptics | None) -> tuple[float, float]:
        meter = PairMeter(config.optics, HALF_SPACING_UM, optics)
        errors_db, errors_um = [], []
        for minus, plus, clean, offset_um in pairs:
            fused = fuse_measured(meter.measure(minus, plus))
            difference = fused.pixels[12:-12, 12:-12] - clean[12:-12, 12:-12]
            errors_db.append(10 * np.log10(255**2 / np.mean(difference**2)))
            errors_um.append(abs(fused.offset.offset_um - offset_um))
        return float(np.mean(errors_db)), float(np.mean(errors_um))

    nominal_db, nominal_um = score(None)
    found_db, found_um = score(calibrated)
    assert found_db >= nominal_db + 0.7
    assert found_um <= 0.5 * nominal_um


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (glass_only, BlankSlideError, "clear glass"),
        (other_objective, CalibrationError, "wrong objective"),
    ],
)
@pytest.mark.slow
def test_what_cannot_be_measured_is_named(
    make: Callable[[], Instrument], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        run(make())


def test_a_focus_at_the_end_of_travel_is_refused_before_anything_moves() -> None:
    config = scanner_config()
    with open_scanner(config) as instrument:
        before = instrument.stage.position()
        with pytest.raises(CalibrationError, match="on both sides"):
            measure_optics(bench_of(instrument), {"focus": focus_result(299.5)})
        assert instrument.stage.position() == before


def test_a_stack_that_holds_no_pairs_is_refused() -> None:
    """2.4 um to both sides of focus, after the 4 um that take up backlash."""
    config = scanner_config(
        stage={"z_um": (143.6, 152.4)}, scan={"half_spacing_um": 1.9}
    )
    with pytest.raises(CalibrationError, match=r"lower scan\.half_spacing_um"):
        run(config)


def test_it_needs_the_focus() -> None:
    with (
        open_scanner(scanner_config()) as instrument,
        pytest.raises(CalibrationError, match="step `focus` first"),
    ):
        measure_optics(bench_of(instrument), {})
