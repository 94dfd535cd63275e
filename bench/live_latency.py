"""Measure how long after a slide tile is published a browser shows it.

Grows a pretended scan at a pace, watches its page in headless Chromium, and prints one
JSON document: seconds from `publish` to the first frame in which the tile, or a coarser
one over it, was exchanged. Run: `.venv/bin/python -m bench.live_latency`.
"""

import argparse
import json
import os
import tempfile
import threading
from pathlib import Path
from typing import Any, get_args

import numpy as np
from playwright.sync_api import Page, sync_playwright

from bench.growing_scan import GrowingScan
from bifocus.edge.live_page import LiveAddress, serve_live
from bifocus.edge.tile_codec import SlideCodec
from tests.browser.chromium import find_chromium
from tests.edge.live_setup import config_and_profile

_WATCH = """() => {
  globalThis.shown = {};
  bifocusLive.slide.onShown = (level, row, column) => {
    (shown[`${level}/${row}/${column}`] ??= []).push(Date.now() / 1000);
  };
}"""
_SETTLE_MS = 1500


def measure(
    rows: int, columns: int, tiles_per_s: float, codec: SlideCodec = "jpeg"
) -> dict[str, Any]:
    """Return the latencies of all tiles of one pretended scan."""
    with tempfile.TemporaryDirectory() as root:
        scan = GrowingScan(
            root=Path(root) / "scan", rows=rows, columns=columns, codec=codec
        )
        config, profile = config_and_profile(scan)
        with (
            serve_live(
                scan.folder,
                scan.plan,
                config=config,
                profile=profile,
                strategy="two-shot",
                address=LiveAddress(),
                events=scan.events,
                control=scan.control,
            ) as server,
            sync_playwright() as playwright,
        ):
            browser = playwright.chromium.launch(
                executable_path=find_chromium(),
                args=["--no-sandbox"] if os.geteuid() == 0 else [],
            )
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.goto(server.url)
            page.wait_for_function("globalThis.bifocusLive")
            page.evaluate(_WATCH)
            _run(scan, page, 1 / tiles_per_s)
            shown = page.evaluate("shown")
            browser.close()
    return _summarise(scan, shown, tiles_per_s)


def _run(scan: GrowingScan, page: Page, pause_s: float) -> None:
    thread = threading.Thread(target=scan.run, kwargs={"pause_s": pause_s})
    thread.start()
    while thread.is_alive():
        page.wait_for_timeout(100)
    page.wait_for_timeout(_SETTLE_MS)


def _summarise(
    scan: GrowingScan, shown: dict[str, list[float]], tiles_per_s: float
) -> dict[str, Any]:
    latencies_s, unseen = [], 0
    for (row, column), published_s in scan.published_s.items():
        over = (f"{up}/{row >> up}/{column >> up}" for up in range(16))
        after = [
            seen_s - published_s
            for key in over
            for seen_s in shown.get(key, ())
            if seen_s >= published_s
        ]
        if after:
            latencies_s.append(min(after))
        else:
            unseen += 1
    p50, p95 = np.percentile(latencies_s, (50, 95)).tolist()
    first_s, last_s = min(scan.published_s.values()), max(scan.published_s.values())
    return {
        "codec": scan.codec,
        "tiles": len(scan.published_s),
        "asked_tiles_per_s": tiles_per_s,
        "published_per_s": len(scan.published_s) / (last_s - first_s),
        "unseen": unseen,
        "p50_s": p50,
        "p95_s": p95,
        "max_s": max(latencies_s),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=14)
    parser.add_argument("--columns", type=int, default=20)
    parser.add_argument("--tiles-per-s", type=float, default=15.0)
    parser.add_argument("--codec", choices=get_args(SlideCodec), default="jpeg")
    given = parser.parse_args()
    latencies = measure(given.rows, given.columns, given.tiles_per_s, given.codec)
    print(json.dumps(latencies))
