"""The benchmark of stitching, in small: its figures are those of real seams."""

import pytest

from bifocus.bench_rows import Row
from bifocus.bench_stitch import bench_stitch
from bifocus.bench_writer import bench_writer


def figure(rows: list[Row], name: str) -> float:
    (row,) = [row for row in rows if row.name == name]
    assert row.figure is not None
    return row.figure


@pytest.mark.slow
def test_seams_of_few_small_tiles() -> None:
    rows = bench_stitch(3, (300, 240), 0.25)
    for kind in ("clean", "hard"):
        name = f"9 {kind} tiles"
        assert 0 < figure(rows, f"{name}: seam error, median") < 0.1
        assert figure(rows, f"{name}: false pairs accepted") == 0
        assert 0 < figure(rows, f"{name}: pairs registered") <= 12
        assert figure(rows, f"{name}: stitched and written") > 1


def test_a_lossless_slide_is_written_slower_than_jpeg() -> None:
    small, full, lossless, wide = bench_writer(1024)
    assert lossless.figure is not None
    for row in (small, full, wide):
        assert row.figure is not None
        assert row.figure > lossless.figure
