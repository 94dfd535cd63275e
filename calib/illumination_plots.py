"""The plots of the illumination step."""

import numpy as np

from bifocus.calib.flat_field import GlassFit
from bifocus.calib.sensor_response import Noise, Response
from bifocus.calib.step_result import Plot, Series
from bifocus.illumination import compute_gain

_COLOURS = ("red", "green", "blue")


def draw_plots(
    glass: GlassFit | None, response: Response | None, noise: Noise | None
) -> tuple[Plot, ...]:
    """Return a plot of each that was measured."""
    plots: list[Plot] = []
    if glass is not None and glass.flat_field is not None:
        plots.append(_plot_falloff(glass))
    if response is not None:
        plots.append(_plot_response(response))
    if noise is not None:
        plots.append(_plot_noise(noise))
    return tuple(plots)


def _plot_falloff(glass: GlassFit) -> Plot:
    assert glass.flat_field is not None
    gain = compute_gain(glass.flat_field, (65, 65))
    along = np.linspace(-1, 1, 65)
    diagonal = gain[np.arange(65), np.arange(65)]
    series = [
        Series(
            name=f"{colour}, along x",
            x=tuple(map(float, along)),
            y=tuple(float(100 * value) for value in gain[32, :, number]),
            style="line",
        )
        for number, colour in enumerate(_COLOURS)
    ]
    series.append(
        Series(
            name="green, corner to corner",
            x=tuple(map(float, along)),
            y=tuple(float(100 * value) for value in diagonal[:, 1]),
            style="line",
        )
    )
    return Plot(
        title="Falloff of the lamp over the field",
        x_label="place in the field, −1 to 1",
        y_label="light, % of the brightest",
        series=tuple(series),
    )


def _plot_response(response: Response) -> Plot:
    times_ms = 1000 * response.exposures_s
    order = np.argsort(times_ms)
    ends = np.array([0.0, float(times_ms.max())])
    series: list[Series] = []
    for number, colour in enumerate(_COLOURS):
        series.append(
            Series(
                name=colour,
                x=tuple(map(float, times_ms[order])),
                y=tuple(float(255 * it) for it in response.light[order, number]),
            )
        )
    green = response.dark[1] + response.slope_per_s[1] * ends / 1000
    series.append(
        Series(
            name="line through green",
            x=tuple(map(float, ends)),
            y=tuple(float(255 * it) for it in green),
            style="line",
        )
    )
    return Plot(
        title="Levels against exposure",
        x_label="exposure, ms",
        y_label="light, levels of 255",
        series=tuple(series),
    )


def _plot_noise(noise: Noise) -> Plot:
    light = 255 * noise.mean
    line = noise.read_variance + noise.shot * noise.mean
    return Plot(
        title="Photon transfer",
        x_label="light above dark, levels of 255",
        y_label="variance, levels²",
        series=(
            Series(
                name="pairs of frames, binned",
                x=tuple(map(float, light)),
                y=tuple(float(255**2 * it) for it in noise.variance),
            ),
            Series(
                name="read² + light / gain",
                x=tuple(map(float, light)),
                y=tuple(float(255**2 * it) for it in line),
                style="line",
            ),
        ),
    )
