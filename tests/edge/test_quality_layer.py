"""The quality layer against readers of others."""

from pathlib import Path

import numpy as np
import ome_types
import tifffile

from bifocus.bench_grid import GridScan
from bifocus.edge.quality_layer import TileNote, write_quality_layer


def test_readers_see_two_named_planes(tmp_path: Path) -> None:
    plan = GridScan(2, 3, field_px=(96, 80)).plan
    path = tmp_path / "quality.ome.tiff"
    notes = {
        (0, 0): TileNote(status="captured", focus_um=1.0, quality=0.75, offset_um=-0.5),
        (1, 2): TileNote(status="blank", focus_um=1.0),
    }
    write_quality_layer(path, plan, notes)
    with tifffile.TiffFile(path) as tiff:
        (series,) = tiff.series
        assert (series.name, series.axes) == ("quality", "CYX")
        planes = series.asarray()
        text = str(tiff.ome_metadata)
    assert planes.shape == (2, 2, 3)
    assert (planes[0, 0, 0], planes[1, 0, 0]) == (0.75, -0.5)
    assert np.isnan(planes).sum() == 10
    ome_types.validate_xml(text)
    pixels = ome_types.from_xml(text).images[0].pixels
    assert [channel.name for channel in pixels.channels] == [
        "quality",
        "focal offset um",
    ]
    assert (pixels.physical_size_x, pixels.physical_size_y) == plan.step_um
