"""A scan's counters for Prometheus: what a fleet's monitoring wants of the loop.

Needs the extra `metrics` (prometheus_client). Follows the scan's events like the page
does, so measuring never slows a scan. Names and units follow Prometheus's rules:
seconds, bytes, `_total` for what only grows.
"""

import importlib.util
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bifocus.edge.scan_events import (
    Captured,
    Fault,
    Fused,
    Published,
    ScanEvent,
    ScanEvents,
    Snapshot,
    StateChanged,
)
from bifocus.errors import ConfigError

if TYPE_CHECKING:
    from prometheus_client.core import Metric

# A tile takes from tens of milliseconds (a fast stage) to tens of seconds.
_BUCKETS_S = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_STATES = ("running", "paused", "stopping", "done", "failed")
_STEP_S = 0.5


def has_prometheus() -> bool:
    """Tell whether prometheus_client is installed, without loading it."""
    return importlib.util.find_spec("prometheus_client") is not None


class LoopMetrics:
    """The counters of one scan; `follow` from one thread, read from any."""

    def __init__(self, folder: Path, *, simulated: bool) -> None:
        """Begin at zero.

        Parameters
        ----------
        folder
            Whose disk is watched.
        simulated
            Goes with every figure, so that nobody mistakes the virtual instrument's.

        Raises
        ------
        ConfigError
            If prometheus_client is not installed.
        """
        try:
            from prometheus_client import CollectorRegistry
        except ImportError as error:
            msg = "metrics need prometheus_client: pip install 'bifocus[metrics]'"
            raise ConfigError(msg) from error
        self._folder = folder
        self._snapshot: Snapshot | None = None
        self.registry = CollectorRegistry()
        target = {"simulated": str(simulated).lower()}
        self.registry.set_target_info(target)
        self._make_counters()
        self.registry.register(self)

    def follow(self, event: ScanEvent) -> None:
        """Count what the scan told."""
        if isinstance(event, Captured):
            entry = event.entry
            self._captured.labels(status=entry.status).inc()
            self._shots.inc(entry.shots)
            self._reshots.inc(max(0, entry.shots - 2) if entry.raw_b else 0)
            self._capture_s.observe(entry.capture_s)
            self._planned.set(event.total)
        elif isinstance(event, Fused):
            self._fused.inc()
            self._quality.set(event.quality)
            if event.seconds > 0:
                self._fuse_s.observe(event.seconds)
        elif isinstance(event, Published):
            self._published.labels(level=str(event.level)).inc()
        elif isinstance(event, Fault):
            self._faults.inc()
        elif isinstance(event, StateChanged):
            self._state.state(event.state)
        elif isinstance(event, Snapshot):
            self._snapshot = event

    def to_text(self) -> bytes:
        """Return the answer to a scrape, in the text format."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry)

    def collect(self) -> Iterator["Metric"]:
        """Yield what is known only as a sum: waits, queues, stages and the disk."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        waits = CounterMetricFamily(
            "bifocus_wait_seconds", "What capture waited for.", labels=["kind"]
        )
        queues = GaugeMetricFamily(
            "bifocus_queue_tiles", "Tiles that wait for a stage.", labels=["stage"]
        )
        stages = GaugeMetricFamily(
            "bifocus_stage_seconds",
            "Time of one tile in a stage of the loop.",
            labels=["stage", "quantile"],
        )
        snapshot = self._snapshot
        if snapshot is not None:
            for kind, seconds in snapshot.waits_s.items():
                waits.add_metric([kind.removesuffix("_s")], seconds)
            for stage, tiles in snapshot.queued.items():
                queues.add_metric([stage], tiles)
            for stage, times_ms in snapshot.timings_ms.items():
                for name, share in (("p50", "0.5"), ("p95", "0.95"), ("p99", "0.99")):
                    if name in times_ms:
                        stages.add_metric([stage, share], times_ms[name] / 1e3)
        disk = GaugeMetricFamily(
            "bifocus_disk_free_bytes", "Space left where the scan is written."
        )
        disk.add_metric([], shutil.disk_usage(self._folder).free)
        yield from (waits, queues, stages, disk)

    def _make_counters(self) -> None:
        from prometheus_client import Counter, Enum, Gauge, Histogram

        registry = self.registry
        self._captured = Counter(
            "bifocus_tiles_captured",
            "Tiles on the disk, by what they show.",
            ["status"],
            registry=registry,
        )
        self._planned = Gauge(
            "bifocus_tiles_planned", "Tiles of the whole scan.", registry=registry
        )
        self._fused = Counter(
            "bifocus_tiles_fused", "In-focus tiles made.", registry=registry
        )
        self._quality = Gauge(
            "bifocus_last_quality_ratio", "Quality of the last tile.", registry=registry
        )
        self._shots = Counter("bifocus_shots", "Exposures.", registry=registry)
        self._reshots = Counter(
            "bifocus_reshots",
            "Exposures beyond a tile's first pair.",
            registry=registry,
        )
        self._published = Counter(
            "bifocus_slide_tiles_published",
            "Tiles that can be read in the slide's file.",
            ["level"],
            registry=registry,
        )
        self._faults = Counter(
            "bifocus_faults", "What went wrong and did not end it.", registry=registry
        )
        self._state = Enum(
            "bifocus_scan_state", "State.", states=list(_STATES), registry=registry
        )
        self._capture_s = Histogram(
            "bifocus_capture_seconds",
            "Capture of one tile, on the scan's clock.",
            buckets=_BUCKETS_S,
            registry=registry,
        )
        self._fuse_s = Histogram(
            "bifocus_fuse_seconds",
            "Fusion of one tile.",
            buckets=_BUCKETS_S,
            registry=registry,
        )


@contextmanager
def measure_scan(
    events: ScanEvents, folder: Path, *, simulated: bool
) -> Iterator[LoopMetrics]:
    """Count a scan's events while the block runs; the last ones too.

    Raises
    ------
    ConfigError
        If prometheus_client is not installed.
    """
    metrics = LoopMetrics(folder, simulated=simulated)
    stopping = threading.Event()
    with events.subscribe() as subscription:

        def work() -> None:
            is_last = False
            while not is_last:
                is_last = stopping.is_set()
                stamped = subscription.get(0.0 if is_last else _STEP_S)
                while stamped is not None:
                    metrics.follow(stamped.event)
                    stamped = subscription.get(0.0)

        metrics.follow(events.state)
        thread = threading.Thread(target=work, name="metrics")
        thread.start()
        try:
            yield metrics
        finally:
            stopping.set()
            thread.join()


@contextmanager
def serve_metrics(metrics: LoopMetrics, host: str, port: int) -> Iterator[int]:
    """Answer scrapes on a port of their own while the block runs; yields the port.

    Raises
    ------
    ConfigError
        If the port is taken.
    """
    from prometheus_client import start_http_server

    try:
        server, thread = start_http_server(port, addr=host, registry=metrics.registry)
    except OSError as error:
        msg = (
            f"metrics: cannot listen on port {port} of {host}: {error.strerror}; "
            "choose another port"
        )
        raise ConfigError(msg) from error
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
