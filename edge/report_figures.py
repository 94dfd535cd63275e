"""The figures of the scan report, each an SVG text.

Blank tiles are hatched and flagged ones outlined, for the black-and-white print too.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from bifocus.edge.report_records import FocusSurface, TileRow
from bifocus.report_drawing import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    RED,
    make_figure,
    put_legend_above,
    to_svg,
)

# Past this many tiles the marks are drawn as pixels, so that the page stays small.
VECTOR_TILES = 1500


def draw_offset_maps(tiles: Sequence[TileRow], surface: FocusSurface | None) -> str:
    """Draw each tile's focal offset on the grid, and what the plane leaves of it."""
    panels: list[tuple[str, Callable[[TileRow], float | None]]] = [
        ("Focal offset: best focus minus F", lambda tile: tile.offset_um)
    ]
    if surface is not None:
        panels.append(
            (
                "Relief: best focus minus the plane",
                lambda tile: _above_plane_um(tile, surface),
            )
        )
    n_rows, n_columns = _grid_size(tiles)
    # A long scan is drawn across the page, maps below each other.
    n_across = 1 if n_columns > 2 * n_rows else len(panels)
    panel_height_in = min(6.0, max(1.9, 0.9 + 8.0 / n_across * n_rows / n_columns))
    figure, axes = make_figure(
        n_panels=len(panels),
        n_across=n_across,
        height_in=panel_height_in * len(panels) / n_across,
    )
    for ax, (title, value_um) in zip(axes, panels, strict=True):
        _draw_map(figure, ax, tiles, [value_um(tile) for tile in tiles])
        ax.set_title(title)
    return to_svg(figure)


def draw_focus_track(tiles: Sequence[TileRow]) -> str:
    """Draw planned F and measured best focus over the visits, with uncertainty."""
    figure, (ax,) = make_figure(n_panels=1, height_in=2.9)
    ax.step(
        range(len(tiles)),
        [tile.planned_focus_um for tile in tiles],
        where="mid",
        color=INK,
        linewidth=1.1,
        zorder=3,
        label="planned F",
    )
    measured = [
        (index, tile.best_focus_um, tile.sd_um or 0.0, tile.status)
        for index, tile in enumerate(tiles)
        if tile.best_focus_um is not None
    ]
    for is_flagged, color, mark, label in (
        (False, BLUE, "o", "measured best focus, 1 sd"),
        (True, RED, "D", "flagged"),
    ):
        points = [point for point in measured if (point[3] == "flagged") is is_flagged]
        if points:
            ax.errorbar(
                [point[0] for point in points],
                [point[1] for point in points],
                yerr=[point[2] for point in points],
                fmt=mark,
                markersize=3.5 if len(tiles) < 200 else 2.0,
                elinewidth=0.9,
                color=color,
                label=label,
                rasterized=len(tiles) > VECTOR_TILES,
            )
    ax.set_xlabel("visit")
    ax.set_ylabel("height, µm")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    put_legend_above(ax)
    return to_svg(figure)


def draw_sharpness(tiles: Sequence[TileRow]) -> str:
    """Draw the sharpness of the fused tile against that of the sharper shot."""
    pairs = np.array(
        [
            (tile.sharpness_before, tile.sharpness_after)
            for tile in tiles
            if tile.sharpness_before is not None and tile.sharpness_after is not None
        ],
        dtype=np.float64,
    ).reshape(-1, 2)
    figure, (ax,) = make_figure(n_panels=1, height_in=3.4, width_in=4.2)
    top = 1.08 * float(pairs.max(initial=0.0)) or 1.0
    ax.plot([0, top], [0, top], color=GREY, linewidth=1, linestyle="--", label="equal")
    ax.scatter(
        pairs[:, 0],
        pairs[:, 1],
        s=14,
        color=GREEN,
        alpha=0.75,
        linewidths=0,
        rasterized=len(pairs) > VECTOR_TILES,
        label="tile",
    )
    ax.set(xlim=(0, top), ylim=(0, top), xlabel="sharper shot", ylabel="fused tile")
    ax.set_aspect("equal")
    put_legend_above(ax)
    return to_svg(figure)


def draw_timings(tiles: Sequence[TileRow]) -> str:
    """Draw the capture and fusion seconds of each tile, in the order of the visits."""
    figure, (ax,) = make_figure(n_panels=1, height_in=3.4, width_in=5.6)
    for label, color, seconds in (
        ("capture", BLUE, [tile.capture_s for tile in tiles]),
        ("fuse", ORANGE, [tile.fuse_s for tile in tiles]),
    ):
        known = [(i, value) for i, value in enumerate(seconds) if value is not None]
        if known:
            ax.plot(
                [index for index, _ in known],
                [value for _, value in known],
                ".-",
                color=color,
                markersize=4,
                linewidth=0.8,
                label=label,
                rasterized=len(tiles) > VECTOR_TILES,
            )
    ax.set_ylim(bottom=0)
    ax.set_xlabel("visit")
    ax.set_ylabel("seconds")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if ax.get_legend_handles_labels()[0]:
        put_legend_above(ax)
    return to_svg(figure)


def _above_plane_um(tile: TileRow, surface: FocusSurface) -> float | None:
    if tile.best_focus_um is None:
        return None
    return tile.best_focus_um - surface.compute_height_um(tile.x_um, tile.y_um)


def _mark_tiles(ax: Axes, tiles: Sequence[TileRow]) -> None:
    for tile in tiles:
        corner = (tile.column - 0.5, tile.row - 0.5)
        if tile.status == "blank":
            glass = Rectangle(corner, 1, 1, linewidth=0, hatch="////")
            glass.set(facecolor="#f0f0f0", edgecolor="#b5b5b5")
            ax.add_patch(glass)
        elif tile.status == "flagged":
            ax.add_patch(
                Rectangle(corner, 1, 1, fill=False, edgecolor="black", linewidth=1.6)
            )


def _grid_size(tiles: Sequence[TileRow]) -> tuple[int, int]:
    n_rows = 1 + max((tile.row for tile in tiles), default=0)
    n_columns = 1 + max((tile.column for tile in tiles), default=0)
    return n_rows, n_columns


def _color_limit_um(
    tiles: Sequence[TileRow], grid: npt.NDArray[np.float64]
) -> tuple[float, bool]:
    """Return the end of the colour scale, and whether a value lies past it.

    Flagged tiles do not set the scale: one outlier would bleach all the others.
    """
    trusted = grid.copy()
    for tile in tiles:
        if tile.status == "flagged":
            trusted[tile.row, tile.column] = np.nan
    size_um = np.abs(grid[np.isfinite(grid)])
    trusted_um = np.abs(trusted[np.isfinite(trusted)])
    limit_um = float(trusted_um.max(initial=0.0)) or float(size_um.max(initial=0.0))
    return limit_um or 1.0, bool(np.any(size_um > limit_um))


def _draw_map(
    figure: Figure,
    ax: Axes,
    tiles: Sequence[TileRow],
    values_um: Sequence[float | None],
) -> None:
    n_rows, n_columns = _grid_size(tiles)
    grid: npt.NDArray[np.float64] = np.full((n_rows, n_columns), np.nan)
    for tile, value_um in zip(tiles, values_um, strict=True):
        if value_um is not None and tile.status != "blank":
            grid[tile.row, tile.column] = value_um
    limit_um, is_beyond = _color_limit_um(tiles, grid)
    mesh = ax.pcolormesh(
        np.arange(n_columns + 1) - 0.5,
        np.arange(n_rows + 1) - 0.5,
        grid,
        cmap="RdBu_r",
        vmin=-limit_um,
        vmax=limit_um,
        rasterized=len(tiles) > VECTOR_TILES,
    )
    _mark_tiles(ax, tiles)
    ax.set(xlim=(-0.5, n_columns - 0.5), ylim=(n_rows - 0.5, -0.5))
    ax.set_xlabel("column")
    ax.set_ylabel("row")
    ax.set_aspect("equal")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    bar = figure.colorbar(
        mesh, ax=ax, shrink=0.9, extend="both" if is_beyond else "neither"
    )
    bar.set_label("µm")
    bar.ax.tick_params(labelsize=8)
