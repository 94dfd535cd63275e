"""Whether pairs are shot upward, or in a serpentine: up on one tile, down on the next.

Upward, every tile begins with the way down by 2 dD, beside the move to it; in a
serpentine nobody goes down on the way. That pays where z is slower than the move. Where
z is quick but has backlash it costs time: after each way down the backlash is taken up,
in a serpentine not beside the move but between two shots. So both ways are driven by
the instrument's own simulated twin, and the quicker one is taken.
"""

from bifocus.clock import VirtualClock
from bifocus.config import Instrument
from bifocus.hal.virtual_stage import VirtualStage
from bifocus.records import StagePosition

_TILES = 16
# Between neighbours the focus rises or falls; where it falls, even an engaged stage
# takes up its backlash. Per tile, in units of dD.
_TILT_PER_TILE = 0.1
# A gain that this cannot tell from rounding is none.
_LEAST_GAIN = 0.01


def is_serpentine_faster(config: Instrument) -> bool:
    """Return whether pairs are shot in a serpentine: by the file, or by estimate."""
    order = config.scan.z_order
    if order != "auto":
        return order == "serpentine"
    up_s = _drive_s(config, is_serpentine=False)
    serpentine_s = _drive_s(config, is_serpentine=True)
    return serpentine_s < (1 - _LEAST_GAIN) * up_s


def _drive_s(config: Instrument, *, is_serpentine: bool) -> float:
    """Return the seconds of motion and settling of a row there and a row back."""
    clock = VirtualClock()
    stage = VirtualStage(config.stage.virtual_twin(), clock=clock, seed=0)
    x_um, y_um, z_um = (
        (low + high) / 2
        for low, high in (stage.limits.x_um, stage.limits.y_um, stage.limits.z_um)
    )
    field_um = config.camera.width_px * config.optics.pixel_um
    room_um = (stage.limits.x_um[1] - x_um) / _TILES
    step_um = min(field_um * (1 - config.scan.overlap), room_um)
    half_um = min(config.scan.half_spacing_um, (stage.limits.z_um[1] - z_um) / 4)
    stage.move_to(StagePosition(x_um=x_um, y_um=y_um, z_um=z_um - half_um))
    start_s = clock.monotonic_s()
    ends = (-1, 1)
    for column in (*range(_TILES), *reversed(range(_TILES))):
        for end in ends:
            rise_um = (column * _TILT_PER_TILE + end) * half_um
            target = StagePosition(
                x_um=x_um + column * step_um, y_um=y_um, z_um=z_um + rise_um
            )
            stage.move_to(target)
        if is_serpentine:
            ends = ends[::-1]
    return clock.monotonic_s() - start_s
