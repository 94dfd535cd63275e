"""A slide as OME-Zarr 0.5: every level an array (colour, y, x), lossless, in chunks.

Needs the extra `zarr`. The folder is ten times the size of a JPEG slide.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from bifocus.edge.ome_xml import SIMULATED_TEXT, SlideDescription
from bifocus.edge.pyramid import LevelSize, compute_grid, compute_valid_size
from bifocus.edge.slide_reader import SlideReader
from bifocus.errors import SlideFileError

VERSION = "0.5"
COLOURS = ("FF0000", "00FF00", "0000FF")


def export_zarr(slide: Path, out: Path) -> list[str]:
    """Write a slide as an OME-Zarr group; memory holds one tile at a time.

    Parameters
    ----------
    slide
        A slide by `SlideWriter`, finished or growing.
    out
        The folder to make, by custom `*.ome.zarr`; it must not exist.

    Returns
    -------
    list of str
        Names of the levels, full resolution first.

    Raises
    ------
    SlideFileError
        If the slide cannot be read, the folder exists, or the extra is missing.
    """
    zarr = _import_zarr()
    if out.exists():
        msg = f"{out}: exists already; choose another folder"
        raise SlideFileError(msg)
    with SlideReader(slide) as reader:
        group = zarr.open_group(out, mode="w", zarr_format=3)
        names = [str(level) for level in range(len(reader.levels))]
        for level, name in enumerate(names):
            _write_level(group, name, reader, level)
        # Last: a reader that finds the description finds all of the pixels.
        group.attrs["ome"] = _describe(reader.read_description(), reader.levels)
    return names


def _import_zarr() -> Any:
    # Any: the package is optional.
    try:
        return import_module("zarr")
    except ImportError as error:
        msg = (
            "OME-Zarr needs zarr 3: pip install 'bifocus[zarr]' (Python 3.11 or newer)"
        )
        raise SlideFileError(msg) from error


def _write_level(group: Any, name: str, reader: SlideReader, level: int) -> None:
    width_px, height_px = size = reader.levels[level]
    tile_px = reader.tile_px
    chunk = (3, min(tile_px, height_px), min(tile_px, width_px))
    array = group.create_array(
        name,
        shape=(3, height_px, width_px),
        chunks=chunk,
        dtype="uint8",
        dimension_names=("c", "y", "x"),
    )
    for row, column in np.ndindex(*compute_grid(size, tile_px)):
        n_rows, n_columns = compute_valid_size(size, (row, column), tile_px)
        tile = reader.read_tile(level, row, column)[:n_rows, :n_columns]
        top, left = row * tile_px, column * tile_px
        array[:, top : top + n_rows, left : left + n_columns] = np.moveaxis(tile, -1, 0)


def _describe(
    description: SlideDescription, sizes: tuple[LevelSize, ...]
) -> dict[str, Any]:
    """Return the `ome` attributes of the specification, version 0.5."""
    full = sizes[0]
    datasets = [
        {
            "path": str(level),
            "coordinateTransformations": [
                {
                    "type": "scale",
                    "scale": [
                        1.0,
                        description.pixel_um * full[1] / size[1],
                        description.pixel_um * full[0] / size[0],
                    ],
                }
            ],
        }
        for level, size in enumerate(sizes)
    ]
    axes = [
        {"name": "c", "type": "channel"},
        {"name": "y", "type": "space", "unit": "micrometer"},
        {"name": "x", "type": "space", "unit": "micrometer"},
    ]
    window = {"min": 0, "max": 255, "start": 0, "end": 255}
    channels = [
        {"label": name, "color": colour, "window": window, "active": True}
        for name, colour in zip(description.channel_names, COLOURS, strict=True)
    ]
    name = SIMULATED_TEXT if description.simulated else "slide"
    return {
        "version": VERSION,
        "multiscales": [{"name": name, "axes": axes, "datasets": datasets}],
        "omero": {"channels": channels, "rdefs": {"model": "color"}},
    }
