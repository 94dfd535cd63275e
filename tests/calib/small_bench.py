"""Small virtual instruments for the steps that compare pictures."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from bifocus.calib.step_result import Bench, StepResult
from bifocus.config import Instrument
from bifocus.hal.open_instrument import OpenInstrument
from bifocus.records import Measured, StagePosition
from tests.scanner import REGION_UM, open_scanner, scanner_config, truth_of

PLACE_UM = (500.0, 400.0)


def small_config(
    *,
    side_px: int = 128,
    seed: int = 11,
    optics: Mapping[str, Any] | None = None,
    **changes: Mapping[str, Any],
) -> Instrument:
    """The small scanner; `optics` are the hidden ones."""
    camera = {"width_px": side_px, "height_px": side_px, **changes.pop("camera", {})}
    config = scanner_config(seed=seed, camera=camera, **changes)
    hidden = config.virtual_optics.model_copy(update=dict(optics or {}))
    return config.model_copy(update={"virtual_optics": hidden})


@contextmanager
def open_bench(
    config: Instrument, region_um: tuple[float, float, float, float] = REGION_UM
) -> Iterator[tuple[Bench, OpenInstrument]]:
    with open_scanner(config) as instrument:
        bench = Bench(
            stage=instrument.stage,
            camera=instrument.camera,
            clock=instrument.clock,
            config=config,
            region_um=region_um,
        )
        yield bench, instrument


def focus_from_truth(instrument: OpenInstrument) -> dict[str, StepResult]:
    """What the focus step would have found at the middle of the region, nearly."""
    x_um, y_um = PLACE_UM
    truth = truth_of(instrument)
    at = truth.glass_for(StagePosition(x_um=x_um, y_um=y_um, z_um=0.0))
    height_um = truth.mean_focus_um(at.x_um, at.y_um)
    glass = StagePosition(x_um=at.x_um, y_um=at.y_um, z_um=height_um)
    z_um = truth.commanded_for(glass).z_um
    focus = Measured(value=z_um, standard_uncertainty=0.02, method="truth")
    facts = {"x_um": x_um, "y_um": y_um}
    return {"focus": StepResult(name="focus", values={"focus_um": focus}, facts=facts)}
