"""The first form of the step `spacing`: dD as the instrument file says."""

from collections.abc import Mapping

from bifocus.calib.step_result import Bench, StepResult
from bifocus.records import Measured


def measure_spacing(bench: Bench, before: Mapping[str, StepResult]) -> StepResult:
    """Take dD from the instrument file; its scatter is that of one Z move's return."""
    half_spacing_um = Measured(
        value=bench.config.scan.half_spacing_um,
        standard_uncertainty=before["focus"].values["focus_um"].standard_uncertainty,
        method="set in the instrument file; scatter from the repeated stacks",
    )
    return StepResult(name="spacing", values={"half_spacing_um": half_spacing_um})
