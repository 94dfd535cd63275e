"""Step `settling`: how long the picture still moves after the stage says it is there.

A camera delivers late and drops frames, so each move gives one picture at a chosen
delay, asked for by time, and one at rest; many moves trace the decay. Across the slide,
the shift between the two tells how far the field was off; along z, the sharpness on the
flank of the focus curve, whose slope is measured first.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bifocus.calib.image_shift import check_shift, measure_shift
from bifocus.calib.settling import Wait, find_wait, first_delays, further_delays
from bifocus.calib.sight import Sight, Sighting, focus_place
from bifocus.calib.step_result import Bench, Plot, Series, StepResult
from bifocus.errors import BlankSlideError
from bifocus.optics import Objective, depth_of_field_um
from bifocus.records import Measured, StagePosition
from bifocus.sharpness import measure_sharpness

Float64 = npt.NDArray[np.float64]

# What may still move while a scan looks: blur of a tenth of a pixel costs under 1 % of
# the contrast at half the sampling frequency; 0.1 um of focus is a tenth of a depth of
# field at NA 0.75.
LIMIT_PX = 0.1
LIMIT_Z_UM = 0.1
_LEAST_LONGEST_S = 0.4
_LONGEST_SETTLES = 2.0  # times the configured wait
_SEARCH_SHARE = 0.25
# Across: a nudge, and the step to the next tile.
_NUDGE_SHARE = 0.15
# Along z: a pair's spacing, and a move as from a stack's end.
_LONG_Z_DOF = 8.0
# On the flank of the focus curve, and how far beside it the slope is taken.
_FLANK_DOF, _SLOPE_DOF = 0.9, 0.3
_NOISE_FACTOR = 3.0
_NOISE_FRAMES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """Samples of one move length: delays and how far from rest, in `unit`."""

    name: str
    length_um: float
    delays_s: Float64
    rest: Float64
    limit: float
    unit: str

    @property
    def wait(self) -> Wait:
        """How long to wait after this move."""
        what = f"{self.name}, move of {self.length_um:.1f} um"
        return find_wait(self.delays_s, self.rest, self.limit, what)


def measure_settling(bench: Bench, before: Mapping[str, StepResult]) -> StepResult:
    """Measure the wait needed after moves across and along z.

    Raises
    ------
    BlankSlideError
        If the place of the focus shows too little texture.
    CalibrationError
        If something still moves at twice the configured wait.
    """
    x_um, y_um, focus_um = focus_place(before, "settling")
    sight = Sight(bench, focus_um)
    across = [
        _respond_across(sight, (x_um, y_um), length) for length in _xy_lengths(bench)
    ]
    flank = _find_flank(sight, (x_um, y_um), focus_um)
    along = [_respond_along(sight, (x_um, y_um), flank, by) for by in _z_lengths(bench)]
    values, warnings = {}, []
    for axes, responses in (("xy", across), ("z", along)):
        worst = max(responses, key=lambda response: response.wait.wait_s)
        values[f"settle_{axes}_s"] = Measured(
            value=worst.wait.wait_s,
            standard_uncertainty=worst.wait.u_s,
            method=(
                f"step response of {'image shift' if axes == 'xy' else 'sharpness'}, "
                f"rest under {worst.limit:.3g} {worst.unit}; the longest wait of "
                f"{len(responses)} move lengths, from the end of the motion"
            ),
            unit="s",
        )
        warnings += _judge(bench, axes, values[f"settle_{axes}_s"])
    return StepResult(
        name="settling",
        values=values,
        facts={
            "configured_s": bench.config.stage.settle_s,
            "could_save_s": _could_save(bench, values),
            "moves": [_facts(response) for response in (*across, *along)],
        },
        plots=(_plot("across the slide", across), _plot("along z", along)),
        warnings=tuple(warnings),
        raw_sha256=sight.raw_sha256,
    )


def _xy_lengths(bench: Bench) -> list[float]:
    """Return diagonal moves: a nudge and a tile's step, if the region holds it."""
    field_um = bench.config.optics.pixel_um * min(
        bench.camera.capabilities.width_px, bench.camera.capabilities.height_px
    )
    room_um = min(bench.region_um[2:]) / 2
    tile_um = min((1 - bench.config.scan.overlap) * field_um, room_um)
    return [min(_NUDGE_SHARE * field_um, tile_um / 2), tile_um]


def _z_lengths(bench: Bench) -> list[float]:
    return [2 * bench.config.scan.half_spacing_um, _LONG_Z_DOF * _dof_um(bench)]


def _dof_um(bench: Bench) -> float:
    optics = bench.config.optics
    objective = Objective(
        na=optics.na,
        wavelength_um=optics.wavelengths_um[1],
        refractive_index=optics.refractive_index,
    )
    return depth_of_field_um(objective, optics.pixel_um)


def _respond_across(
    sight: Sight, place: tuple[float, float], length_um: float
) -> Response:
    x_um, y_um = place
    region = sight.bench.region_um
    # Towards the middle, so that the way lies in the region.
    sides = [
        1 if at > low + size / 2 else -1
        for at, low, size in zip(place, region[:2], region[2:], strict=True)
    ]
    away = sight.at(x_um - sides[0] * length_um, y_um - sides[1] * length_um)

    def compare(early: Sighting, late: Sighting) -> float:
        search_px = _SEARCH_SHARE * sight.field_px
        shift = measure_shift(late.picture, early.picture, search_px=search_px)
        check_shift(shift, f"settling at x {x_um:.1f}, y {y_um:.1f} um")
        return float(np.linalg.norm(shift.vector_px))

    delays_s, rest = _sample(sight, away, sight.at(x_um, y_um), compare, limit=LIMIT_PX)
    return Response(
        name="xy",
        length_um=length_um * 2**0.5,
        delays_s=delays_s,
        rest=rest,
        limit=LIMIT_PX,
        unit="px",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Flank:
    """A height beside the focus, the curve's slope there, and its noise in um."""

    z_um: float
    slope_per_um: float
    noise_um: float


def _find_flank(sight: Sight, place: tuple[float, float], focus_um: float) -> _Flank:
    """Measure sharpness beside the focus, upward, and its slope."""
    dof_um = _dof_um(sight.bench)
    z_um = focus_um + _FLANK_DOF * dof_um
    heights_um = z_um + np.array([-1.0, 0.0, 1.0]) * _SLOPE_DOF * dof_um
    levels = []
    noise = 0.0
    for height_um in heights_um:
        target = StagePosition(x_um=place[0], y_um=place[1], z_um=float(height_um))
        receipt = sight.bench.stage.move_to(target)
        rest_s = 2 * _longest_s(sight.bench)
        frames = [
            _sharpness(sight.see(receipt, delay_s=rest_s)) for _ in range(_NOISE_FRAMES)
        ]
        levels.append(float(np.mean(frames)))
        noise = max(noise, float(np.std(frames, ddof=1)))
    slope = float(np.polyfit(heights_um, levels, 1)[0])
    noise_um = noise / max(abs(slope), 1e-12)
    if noise_um > LIMIT_Z_UM:
        msg = (
            f"settling at x {place[0]:.1f}, y {place[1]:.1f} um: sharpness tells "
            f"height only to {noise_um:.2f} um, {LIMIT_Z_UM} um is needed; choose a "
            "region with more texture, or a brighter lamp"
        )
        raise BlankSlideError(msg)
    return _Flank(z_um=z_um, slope_per_um=slope, noise_um=noise_um)


def _respond_along(
    sight: Sight, place: tuple[float, float], flank: _Flank, length_um: float
) -> Response:
    target = StagePosition(x_um=place[0], y_um=place[1], z_um=flank.z_um)
    low_um = sight.bench.stage.limits.z_um[0]
    away = StagePosition(
        x_um=place[0], y_um=place[1], z_um=max(flank.z_um - length_um, low_um)
    )

    def compare(early: Sighting, late: Sighting) -> float:
        return abs(_sharpness(early) - _sharpness(late)) / abs(flank.slope_per_um)

    # Two frames differ by their noise alone, now and then by thrice that.
    limit_um = max(LIMIT_Z_UM, _NOISE_FACTOR * 2**0.5 * flank.noise_um)
    delays_s, rest = _sample(sight, away, target, compare, limit=limit_um)
    return Response(
        name="z",
        length_um=length_um,
        delays_s=delays_s,
        rest=rest,
        limit=limit_um,
        unit="um",
    )


def _sample(
    sight: Sight,
    away: StagePosition,
    target: StagePosition,
    compare: Callable[[Sighting, Sighting], float],
    *,
    limit: float,
) -> tuple[Float64, Float64]:
    """Move there and back again; return delays and how far from rest."""
    stage, longest_s = sight.bench.stage, _longest_s(sight.bench)
    delays_s: list[float] = []
    rest: list[float] = []

    def look(wanted_s: float) -> None:
        stage.move_to(away)
        receipt = stage.move_to(target, wait=False)
        early = sight.see(receipt, delay_s=wanted_s)
        late = sight.see(receipt, delay_s=2 * longest_s)
        delays_s.append(early.frame.exposure_start_s - receipt.end_s)
        rest.append(compare(early, late))

    for delay_s in first_delays(longest_s):
        look(delay_s)
    for delay_s in further_delays(np.array(delays_s), np.array(rest), limit):
        look(delay_s)
    return np.array(delays_s), np.array(rest)


def _longest_s(bench: Bench) -> float:
    """Return the longest delay looked at; at twice that, all is taken to rest."""
    return max(_LONGEST_SETTLES * bench.config.stage.settle_s, _LEAST_LONGEST_S)


def _sharpness(seen: Sighting) -> float:
    return measure_sharpness(seen.frame.pixels)[0]


def _judge(bench: Bench, axes: str, wait: Measured) -> list[str]:
    settle_s = bench.config.stage.settle_s
    if wait.value - 2 * wait.standard_uncertainty > settle_s:
        return [
            f"stage.settle_s is {settle_s:g} s, too short for {axes}: it takes "
            f"{wait.text} to come to rest"
        ]
    return []


def _could_save(bench: Bench, values: Mapping[str, Measured]) -> float:
    """Return what the configured wait is longer than the safe one."""
    safe_s = max(it.value + 2 * it.standard_uncertainty for it in values.values())
    return max(bench.config.stage.settle_s - safe_s, 0.0)


def _facts(response: Response) -> dict[str, object]:
    wait = response.wait
    return {
        "axes": response.name,
        "length_um": response.length_um,
        "limit": response.limit,
        "unit": response.unit,
        "wait_s": wait.wait_s,
        "u_s": wait.u_s,
        "still_from_s": wait.below_from_s,
    }


def _plot(where: str, responses: list[Response]) -> Plot:
    return Plot(
        title=f"What still moves after a move {where}",
        x_label="delay after the end of the motion (s)",
        y_label=f"away from rest ({responses[0].unit})",
        series=tuple(
            Series(
                name=f"{response.length_um:.1f} um",
                x=tuple(response.delays_s.tolist()),
                y=tuple(response.rest.tolist()),
            )
            for response in responses
        ),
        marks=(("needed", max(response.wait.wait_s for response in responses)),),
    )
