"""Stitching and writing must not need more memory for more tiles.

A fresh process stitches 10 x 10 tiles, and then 200 x 10 of the same small tiles; the
kernel's peaks are compared (VmHWM; it starts anew through clear_refs, see proc(5)).
"""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

logger = logging.getLogger(__name__)

ROOT = Path(__file__).parents[2]

SCRIPT = """
import json, sys
from pathlib import Path
from bifocus.bench_grid import GridScan
from bifocus.edge.live_stitch import LiveStitcher, StitchOptions
from bifocus.edge.registration import extract_strips
from tests.edge.test_live_stitch import describe

def peak_mb():
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024

# One patch of tissue that every tile shows: tiles cost nothing to make.
patch = GridScan(1, 1, field_px=(96, 96)).tile(0, 0)

def stitch(rows, path):
    grid = GridScan(rows, 10, field_px=(96, 96), overlap=0.4)
    options = StitchOptions(tile_px=64, cache_mb=2.0)
    Path("/proc/self/clear_refs").write_text("5")
    stitcher = LiveStitcher(
        grid.plan, describe(grid), path, lambda row, column: patch, options
    )
    for visit in grid.plan.visits:
        strips = extract_strips(
            patch, row=visit.row, column=visit.column, overlap_x_px=38, overlap_y_px=38
        )
        stitcher.add(visit.row, visit.column, strips)
    tiles = len(stitcher.finish().tiles)
    return tiles, peak_mb()

root = Path(sys.argv[1])
stitch(10, root / "first.ome.tiff")  # fills what is filled once
print(json.dumps([stitch(n, root / f"{n}.ome.tiff") for n in (10, 200)]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")
def test_the_peak_does_not_grow_with_the_number_of_tiles(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (few, few_mb), (many, many_mb) = json.loads(done.stdout)
    logger.info("peak: %d tiles %.0f MB, %d tiles %.0f MB", few, few_mb, many, many_mb)
    assert (few, many) == (100, 2000)
    # 2,000 tiles of this size are 55 MB, their strips 60 MB. What grows is a record of
    # each tile and pair, and the tables of the slide: about 2 kB a tile.
    assert many_mb - few_mb < 8
