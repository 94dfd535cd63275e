"""Published stitchers beside ours, on the same few tiles whose places are known.

What they cost on a real number of tiles is measured by `bench.stitch_peers`; here most
of our time is Python's start.
"""

import os

import pytest

from bench.peer_environments import PeerMissingError
from bench.stitch_peers import Result, measure

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def results() -> dict[str, Result]:
    try:
        found = measure(
            3, 4, field_px=(612, 512), overlap=0.15, peers=("openflexure", "ashlar")
        )
    except PeerMissingError as error:
        if os.environ.get("BIFOCUS_PEERS") == "required":
            pytest.fail(str(error))
        pytest.skip(str(error))
    return {result.name: result for result in found}


def test_our_seams_are_the_truest(results: dict[str, Result]) -> None:
    ours = results["bifocus"]
    assert ours.seam_median_px < 0.05
    assert ours.seam_max_px < 0.2
    for peer in ("openflexure", "ashlar"):
        # They have stitched: their seams are of about half a pixel, not of a stage's.
        assert ours.seam_median_px < results[peer].seam_median_px / 3
        assert results[peer].seam_max_px < 2


def test_our_stitching_costs_least(results: dict[str, Result]) -> None:
    assert results["openflexure"].ratio > 2
    assert results["ashlar"].ratio > 5
