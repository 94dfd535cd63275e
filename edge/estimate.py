"""What a plan will cost: the path's time from the instrument's own speeds, and disk.

The time is not a formula: the planned moves are driven through a virtual stage with the
instrument's speeds on a clock that jumps, so take-up and settling count as they do in
the scan.
"""

from dataclasses import dataclass

from bifocus.clock import VirtualClock
from bifocus.config import Instrument
from bifocus.edge.plan import ScanPlan
from bifocus.hal.virtual_stage import VirtualStage
from bifocus.records import StagePosition

# Bytes per pixel and colour, measured on the demo scan: PNG of noisy shots, JPEG Q90.
_RAW_BYTES = 0.60
_SLIDE_BYTES = 0.14


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Expected cost of a scan.

    `fused_mb` is given back when the slide is finished: in-focus tiles wait as arrays.
    """

    shots: int
    seconds: float
    seconds_per_tile: float
    raw_mb: float
    slide_mb: float
    fused_mb: float

    @property
    def most_mb(self) -> float:
        """What the disk must have room for."""
        return self.raw_mb + self.slide_mb + self.fused_mb


def estimate_scan(plan: ScanPlan, config: Instrument, strategy: str) -> Estimate:
    """Return shots, time and disk of a planned scan with one of the strategies."""
    clock = VirtualClock()
    stage = VirtualStage(config.stage.virtual_twin(), clock=clock, seed=0)
    first = plan.visits[0].target
    stage.move_to(first)
    start_s, shots = clock.monotonic_s(), 0
    # Only this camera knows when an exposure ends; see `bifocus.edge.capture`.
    is_early = strategy == "two-shot" and config.camera.kind == "virtual"
    passes = 2 if strategy == "focus-map" else 1
    for number in range(passes):
        for visit in plan.visits:
            for height_um in _planes(config, strategy, survey=number == 0):
                target = visit.target
                stage.move_to(
                    StagePosition(
                        x_um=target.x_um,
                        y_um=target.y_um,
                        z_um=target.z_um + height_um,
                    )
                )
                clock.sleep(_exposed_s(config))
                if not is_early:
                    clock.sleep(config.camera.transfer_s)
                shots += 1
            if is_early:
                # The last frame is waited for; the others come while the stage moves.
                clock.sleep(config.camera.transfer_s)
    seconds = clock.monotonic_s() - start_s
    tiles = len(plan.visits)
    pixels = 3 * plan.field_px[0] * plan.field_px[1] * tiles
    kept = 2 if strategy == "two-shot" else 1
    return Estimate(
        shots=shots,
        seconds=seconds,
        seconds_per_tile=seconds / tiles,
        raw_mb=kept * pixels * _RAW_BYTES / 1e6,
        slide_mb=pixels * _SLIDE_BYTES / 1e6,
        fused_mb=pixels / 1e6,
    )


def _planes(config: Instrument, strategy: str, *, survey: bool) -> list[float]:
    """Return the heights above the focus of one visit's shots, in their order."""
    scan = config.scan
    if strategy == "two-shot":
        return [-scan.half_spacing_um, scan.half_spacing_um]
    low_um = -scan.stack_step_um * (scan.stack_planes - 1) / 2
    stack = [low_um + scan.stack_step_um * i for i in range(scan.stack_planes)]
    if strategy == "stack":
        return [*stack, 0.0]
    return stack if survey else [0.0]


def _exposed_s(config: Instrument) -> float:
    """Return the mean wait for the end of a free-running camera's fresh exposure."""
    camera = config.camera
    period_s = max(1 / camera.frame_rate_hz, camera.exposure_s)
    return period_s / 2 + camera.exposure_s
