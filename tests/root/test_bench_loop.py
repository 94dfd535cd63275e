"""`bifocus bench loop`: the scan on the real clock is the rehearsed one."""

import pytest

from bifocus import bench_loop

pytest.importorskip("onnxruntime", reason="the loop is measured with a network")


@pytest.mark.slow
def test_the_performance_is_the_rehearsal_with_pictures_from_a_file() -> None:
    rehearsed, found = bench_loop._rehearse_and_perform("asi-ms2000", "fast", (2, 2))
    assert found["tiles"] == len(rehearsed.lines) == 4
    assert found["engine"].startswith("onnxruntime")
    # No real clock goes faster than the mechanics.
    assert found["pace_s"] >= 0.98 * bench_loop._pace_s(rehearsed)
    assert found["wall_s"] > found["elapsed_s"]
    assert found["peak_mb"] > 50


def test_a_region_holds_the_tiles_it_is_made_for() -> None:
    for name in ("asi-ms2000", "openflexure"):
        preset = bench_loop._load(name, (4, 3))
        plan = preset.plan(0.0)
        assert (plan.columns, plan.rows) == (4, 3)
