"""Memory and time of a tile must not grow with their number; `make long-test`: 5,000.

In a fresh process, of which the kernel's peak over each hundred tiles is compared.
"""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.soak.long_scan import CHUNK, Chunk

logger = logging.getLogger(__name__)

ROOT = Path(__file__).parents[2]
TILES = int(os.environ.get("BIFOCUS_LONG_TILES", "1000"))
# What the journal, the live page and the report know of a tile, in Python: 3 kB each
# were measured. One frame kept of each tile would be 49 kB.
MB_PER_TILE = 0.006
# Caches fill over the first 500 tiles, and how far the stages overlap differs from time
# to time, and the peak with it: 12 to 24 MB.
SETTLING_MB = 26.0
# Reading the journal back and drawing the report, at the end.
REPORT_MB = 15.0
CPU_RATIO = 1.3


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")
def test_neither_memory_nor_time_of_a_tile_grows_with_their_number(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak.long_scan", str(tmp_path), str(TILES)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    chunks = [Chunk(**chunk) for chunk in figures["chunks"]]
    for chunk in (chunks[0], *chunks[9::10], chunks[-1]):
        logger.info(
            "to tile %d: %.0f MB, %.1f ms of CPU a tile",
            *(chunk.tiles, chunk.peak_mb, 1e3 * chunk.cpu_s / CHUNK),
        )
    _, early, *between, late, end = chunks
    assert end.tiles == TILES
    assert figures["captured"] > 0.9 * TILES
    more = late.tiles - early.tiles
    assert late.peak_mb - early.peak_mb < SETTLING_MB + MB_PER_TILE * more
    assert end.peak_mb - late.peak_mb < REPORT_MB + MB_PER_TILE * TILES
    first_s = min(chunk.cpu_s for chunk in (early, *between[:2]))
    last_s = min(chunk.cpu_s for chunk in (*between[-2:], late))
    assert last_s < CPU_RATIO * first_s
