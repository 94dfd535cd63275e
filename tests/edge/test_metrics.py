"""A scan's counters, read by prometheus_client's own parser."""

import http.client
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.growing_scan import GrowingScan
from bifocus.edge.metrics import LoopMetrics, measure_scan, serve_metrics
from bifocus.edge.scan_events import Captured, Fault, ScanEvents, Snapshot
from bifocus.errors import ConfigError
from tests.edge.live_setup import small_scan
from tests.edge.test_live_state import captured

parser = pytest.importorskip(
    "prometheus_client.parser", reason="needs prometheus_client, the extra metrics"
)

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def read(text: bytes) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parser.text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


@pytest.fixture
def finished(tmp_path: Path) -> Iterator[tuple[GrowingScan, LoopMetrics]]:
    scan = small_scan(tmp_path / "scan")
    with measure_scan(scan.events, scan.root, simulated=True) as metrics:
        scan.run()
    yield scan, metrics


def test_the_counters_are_those_of_the_scan(
    finished: tuple[GrowingScan, LoopMetrics],
) -> None:
    scan, metrics = finished
    samples = read(metrics.to_text())
    n_tiles = len(scan.plan.visits)
    by_status = {
        labels[0][1]: value
        for (name, labels), value in samples.items()
        if name == "bifocus_tiles_captured_total"
    }
    assert by_status == {"blank": 1, "flagged": 1, "captured": n_tiles - 2}
    assert samples["bifocus_tiles_fused_total", ()] == n_tiles
    assert samples["bifocus_shots_total", ()] == 2 * n_tiles
    assert samples["bifocus_reshots_total", ()] == 0
    published = samples["bifocus_slide_tiles_published_total", (("level", "0"),)]
    assert published == len(scan.published_s)
    assert samples["bifocus_capture_seconds_count", ()] == n_tiles
    waited = samples["bifocus_wait_seconds_total", (("kind", "stage"),)]
    assert waited == pytest.approx(0.3 * (n_tiles - 1))
    label = ("bifocus_scan_state", "done")
    assert samples["bifocus_scan_state", (label,)] == 1
    assert samples["target_info", (("simulated", "true"),)] == 1


def test_buckets_add_up_to_the_captures_that_are_not_slower(tmp_path: Path) -> None:
    metrics = LoopMetrics(tmp_path, simulated=False)
    times_s = [0.03, 0.3, 0.6, 4.0, 60.0]
    for number, seconds in enumerate(times_s):
        metrics.follow(captured(number, capture_s=seconds))
    samples = read(metrics.to_text())
    for (name, labels), value in samples.items():
        if name == "bifocus_capture_seconds_bucket":
            limit_s = float(dict(labels)["le"])
            assert value == sum(seconds <= limit_s for seconds in times_s)
    assert samples["bifocus_capture_seconds_sum", ()] == pytest.approx(sum(times_s))


def test_faults_reshots_queues_stages_and_disk(tmp_path: Path) -> None:
    events = ScanEvents()
    with measure_scan(events, tmp_path, simulated=False) as metrics:
        first = captured(0)
        events.publish(Fault(text="the lamp flickers"))
        entry = type(first.entry)(
            **{name: getattr(first.entry, name) for name in first.entry.__slots__}
            | {"shots": 5}
        )
        events.publish(Captured(entry=entry, done=1, total=1))
        events.publish(
            Snapshot(
                elapsed_s=1.0,
                done=1,
                total=1,
                waits_s={"queue_s": 2.5},
                timings_ms={"fuse": {"n": 1, "p50": 120.0, "p95": 250.0}},
                queued={"fuse": 3},
            )
        )
    samples = read(metrics.to_text())
    assert samples["bifocus_faults_total", ()] == 1
    assert samples["bifocus_reshots_total", ()] == 3
    assert samples["bifocus_wait_seconds_total", (("kind", "queue"),)] == 2.5
    assert samples["bifocus_queue_tiles", (("stage", "fuse"),)] == 3
    stage = (("quantile", "0.95"), ("stage", "fuse"))
    assert samples["bifocus_stage_seconds", stage] == pytest.approx(0.25)
    free = samples["bifocus_disk_free_bytes", ()]
    assert free == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.2)


def test_a_port_of_their_own(finished: tuple[GrowingScan, LoopMetrics]) -> None:
    _, metrics = finished
    with serve_metrics(metrics, "127.0.0.1", 0) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/metrics")
        samples = read(connection.getresponse().read())
        connection.close()
        assert samples["bifocus_tiles_planned", ()] == 24
        with (
            pytest.raises(ConfigError, match=f"port {port}"),
            serve_metrics(metrics, "127.0.0.1", port),
        ):
            pass


def test_without_the_library_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ConfigError, match=r"bifocus\[metrics\]"):
        LoopMetrics(tmp_path, simulated=False)
