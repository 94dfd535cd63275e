"""Some kills of the whole loop; `make kill-test` does two hundred."""

import logging
import os
import random
from pathlib import Path

import pytest

from tests.soak.kill_loop import check_like_undisturbed, make_bench, scan_with_kills

logger = logging.getLogger(__name__)

KILLS = int(os.environ.get("BIFOCUS_KILLS", "8"))
KILLS_PER_SCAN = 8


@pytest.mark.slow
def test_killed_scans_go_on_and_lose_nothing(tmp_path: Path) -> None:
    rng = random.Random(20261122)
    instrument, profile = make_bench(tmp_path)
    kills = sessions = scans = tiles = 0
    while kills < KILLS:
        scan = tmp_path / f"scan{scans}"
        most = min(KILLS_PER_SCAN, KILLS - kills)
        tally = scan_with_kills(scan, instrument, profile, rng, most)
        tiles += check_like_undisturbed(scan, tmp_path / f"undisturbed{scans}")
        kills, sessions = kills + tally.kills, sessions + tally.sessions
        scans += 1
        logger.info(
            "scan %d: killed at %s tiles in the journal", scans, tally.lines_at_kills
        )
    logger.info(
        "%d kills, %d sessions, %d scans, %d tiles: none lost, slides identical",
        *(kills, sessions, scans, tiles),
    )
    assert kills == KILLS
