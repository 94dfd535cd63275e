"""`bifocus live SCAN` in a browser: a finished scan, whichever codec its slide has."""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench.growing_scan import draw_tissue
from bifocus.calib.profile_file import write_profile
from bifocus.edge.live_page import LiveAddress
from bifocus.instrument_text import TEMPLATE
from bifocus.live_job import serve_folder
from tests.browser.conftest import OpenPage
from tests.browser.test_live_page import mean_colour, shows_tissue, wait_until
from tests.edge.live_setup import config_and_profile, small_scan

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from bifocus.edge.tile_codec import SlideCodec

pytestmark = pytest.mark.slow

# Mean of what a picture of the close-up shows, and of how far it is from grey.
PIXELS = """(id) => {
  const picture = document.getElementById(id);
  const canvas = document.createElement("canvas");
  canvas.width = picture.naturalWidth;
  canvas.height = picture.naturalHeight;
  const view = canvas.getContext("2d");
  view.drawImage(picture, 0, 0);
  const values = view.getImageData(0, 0, canvas.width, canvas.height).data;
  const sums = [0, 0, 0];
  let away = 0;
  for (let i = 0; i < values.length; i += 4) {
    for (let c = 0; c < 3; c++) {
      sums[c] += values[i + c];
      away += Math.abs(values[i + c] - 128) / 3;
    }
  }
  const n = values.length / 4;
  return [canvas.width, canvas.height, ...sums.map((sum) => sum / n), away / n];
}"""


@pytest.fixture(params=["jpeg", "lossless"])
def finished(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a scan that has its slide, and its in-focus tiles no more."""
    codec: SlideCodec = request.param
    scan = small_scan(tmp_path / "scan", side_px=256, codec=codec)
    scan.run()
    scan.folder.remove_fused()
    report = {"tiles": 24, "elapsed_s": 12.0, "waits_s": {"stage_s": 3.0}}
    scan.folder.report.write_text(json.dumps(report), encoding="utf-8")
    _, profile = config_and_profile(scan)
    write_profile(scan.folder.profile, profile)
    text = TEMPLATE.read_text(encoding="utf-8")
    scan.folder.instrument.write_text(_of_camera(text, 256), encoding="utf-8")
    with serve_folder(scan.root, LiveAddress()) as server:
        yield server.url


def _of_camera(text: str, side_px: int) -> str:
    """Return an instrument file for a camera of that size."""
    lines = []
    for line in text.splitlines():
        name = line.strip().split(":")[0]
        is_size = name in ("width_px", "height_px")
        indent = line[: len(line) - len(line.lstrip())]
        lines.append(f"{indent}{name}: {side_px}" if is_size else line)
    return "\n".join(lines) + "\n"


def test_pair_fused_tile_and_difference_stand_side_by_side(
    finished: str, open_page: OpenPage
) -> None:
    page = open_page(finished, viewport={"width": 1280, "height": 800})
    wait_until(page, lambda: shows_tissue(page, 0.5, 0.5))
    page.get_by_text("Done", exact=True).wait_for()
    assert page.get_by_role("button", name="Pause").count() == 0, "nothing to steer"
    page.get_by_role("spinbutton", name="row").fill("1")
    page.get_by_role("spinbutton", name="column").fill("2")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Tile in row 1, column 2").wait_for()
    pictures = page.locator("#tile-dialog img")
    loaded = "all => all.every((one) => one.naturalWidth)"
    wait_until(page, lambda: bool(pictures.evaluate_all(loaded)))
    boxes = [_box(page, kind) for kind in ("minus", "plus", "fused", "difference")]
    assert len({round(top) for _, top, _ in boxes}) == 1, "in one row"
    for (left, _, width), (right, _, _) in pairwise(boxes):
        assert left + width <= right, "from left to right"
    drawn = draw_tissue(1600, 1200)  # its tissue's colours do not depend on its size
    tissue = drawn[500:700, 700:900].mean(axis=(0, 1))
    for kind in ("minus", "plus", "fused"):
        width_px, height_px, *colour, _ = page.evaluate(PIXELS, f"shot-{kind}")
        assert (width_px, height_px) == (256, 256)
        assert colour == pytest.approx(tissue.tolist(), abs=25), kind
    # Both shots are blurred copies of the fused tile: what differs is its detail.
    *_, away = page.evaluate(PIXELS, "shot-difference")
    assert 1 < away < 60


def test_the_slide_has_the_drawing_in_its_place(
    finished: str, open_page: OpenPage
) -> None:
    page = open_page(finished, viewport={"width": 1200, "height": 800})
    wait_until(page, lambda: shows_tissue(page, 0.5, 0.5))
    page.wait_for_timeout(300)
    red, green, _ = mean_colour(page, 0.5, 0.5)
    assert red - green > 20
    edge = mean_colour(page, 0.02, 0.02)
    assert max(edge) - min(edge) < 15, "glass in the corner"


def _box(page: "Page", kind: str) -> tuple[float, float, float]:
    box = page.locator(f"#shot-{kind}").bounding_box()
    assert box is not None
    return box["x"], box["y"], box["width"]
