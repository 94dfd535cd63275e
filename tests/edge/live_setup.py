"""A pretended scan with its live page, for the tests of the page."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.growing_scan import PIXEL_UM, GrowingScan
from bifocus.config import Instrument
from bifocus.edge.live_page import LiveAddress, serve_live
from bifocus.edge.live_server import LiveServer
from bifocus.edge.tile_codec import SlideCodec
from bifocus.records import InstrumentProfile, Measured
from tests.scanner import scanner_config


def small_scan(
    root: Path,
    *,
    grid: tuple[int, int] = (4, 6),
    side_px: int = 128,
    codec: SlideCodec = "jpeg",
) -> GrowingScan:
    return GrowingScan(
        root=root,
        rows=grid[0],
        columns=grid[1],
        field_px=side_px,
        slide_tile_px=side_px,
        codec=codec,
    )


def config_and_profile(scan: GrowingScan) -> tuple[Instrument, InstrumentProfile]:
    side_px = scan.field_px
    config = scanner_config(
        optics={"pixel_um": PIXEL_UM},
        camera={"width_px": side_px, "height_px": side_px},
    )
    profile = InstrumentProfile(
        identity={},
        created_utc="2026-03-01T12:00:00+00:00",
        software_version="test",
        raw_sha256="0" * 64,
        focus_um=Measured(value=150.0, standard_uncertainty=0.02, method="drawn"),
        focus_x_um=0.0,
        focus_y_um=0.0,
        half_spacing_um=Measured(value=0.75, standard_uncertainty=0.02, method="drawn"),
        flat_field=None,
        simulated=True,
    )
    return config, profile


@contextmanager
def growing_page(
    root: Path,
    *,
    address: LiveAddress | None = None,
    steered: bool = True,
    grid: tuple[int, int] = (4, 6),
    side_px: int = 128,
    codec: SlideCodec = "jpeg",
) -> Iterator[tuple[GrowingScan, LiveServer]]:
    """Yield a scan that has not begun, and its page."""
    scan = small_scan(root / "scan", grid=grid, side_px=side_px, codec=codec)
    config, profile = config_and_profile(scan)
    with serve_live(
        scan.folder,
        scan.plan,
        config=config,
        profile=profile,
        strategy="two-shot",
        address=address or LiveAddress(),
        events=scan.events,
        control=scan.control if steered else None,
    ) as server:
        yield scan, server
