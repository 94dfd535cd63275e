"""The live page in a real browser, by clicks and keys, while a scan grows."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench.growing_scan import GrowingScan, draw_tissue
from bifocus.edge.live_page import LiveAddress
from bifocus.edge.live_server import LiveServer
from bifocus.edge.scan_events import Fault
from bifocus.edge.tile_codec import SlideCodec
from tests.browser.conftest import OpenPage
from tests.edge.live_setup import growing_page

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow

TOKEN = "a-token-of-enough-letters"
PHONE = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "has_touch": True,
    "is_mobile": True,
}
# Reads one pixel of the picture that the viewer has drawn.
PIXEL = """([x, y]) => {
  const canvas = document.querySelector(".openseadragon-canvas canvas");
  if (!canvas) return null;
  const at = [Math.floor(x * canvas.width), Math.floor(y * canvas.height)];
  return [...canvas.getContext("2d").getImageData(...at, 24, 24).data];
}"""


@contextmanager
def running(scan: GrowingScan, pause_s: float = 0.02) -> Iterator[threading.Thread]:
    """Run a scan beside the block; stop it at the end."""
    thread = threading.Thread(target=scan.run, kwargs={"pause_s": pause_s})
    thread.start()
    try:
        yield thread
    finally:
        scan.control.stop()
        thread.join()


@pytest.fixture
def codec() -> SlideCodec:
    return "jpeg"


@pytest.fixture
def live(tmp_path: Path, codec: SlideCodec) -> Iterator[tuple[GrowingScan, LiveServer]]:
    address = LiveAddress(token=TOKEN)
    with growing_page(
        tmp_path, address=address, grid=(4, 6), side_px=256, codec=codec
    ) as page:
        yield page


def wait_until(page: "Page", is_so: Callable[[], bool], within_s: float = 15) -> None:
    """Let the browser work until something is so."""
    deadline_s = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline_s, "it did not become so in time"
        page.wait_for_timeout(50)


def mean_colour(page: "Page", x: float, y: float) -> list[float]:
    """Return the mean red, green and blue around a place of the view, 0..1 each."""
    values = page.evaluate(PIXEL, [x, y]) or [0]
    return [sum(values[n::4]) / max(len(values[n::4]), 1) for n in range(3)]


def shows_tissue(page: "Page", x: float, y: float) -> bool:
    red, green, _ = mean_colour(page, x, y)
    return red - green > 20


@pytest.mark.parametrize("codec", ["jpeg", "lossless"])
def test_the_slide_fills_in_while_the_scan_runs(
    live: tuple[GrowingScan, LiveServer], open_page: OpenPage
) -> None:
    scan, server = live
    page = open_page(server.url, viewport={"width": 1200, "height": 800})
    assert "token" not in page.url
    page.get_by_role("note").get_by_text("SIMULATED").wait_for()
    page.get_by_text("appears here with its first rows").wait_for()
    with running(scan, pause_s=0.1):
        wait_until(page, lambda: shows_tissue(page, 0.5, 0.25))
        assert not shows_tissue(page, 0.5, 0.75), "the last rows are not scanned yet"
        assert page.locator("#state").inner_text() == "Scanning"
        wait_until(page, lambda: shows_tissue(page, 0.5, 0.75))
        page.get_by_text("Done", exact=True).wait_for()
    assert page.locator("#captured").inner_text() == "24"
    assert page.title() == "100 % – Done – bifocus"
    # What the browser shows in the middle is what was drawn there.
    page.wait_for_timeout(300)
    width_px, height_px = scan.size_px
    picture = draw_tissue(width_px, height_px)
    middle = picture[
        height_px // 2 - 60 : height_px // 2 + 60,
        width_px // 2 - 60 : width_px // 2 + 60,
    ]
    assert mean_colour(page, 0.5, 0.5) == pytest.approx(
        middle.mean(axis=(0, 1)).tolist(), abs=25
    )


def test_a_tile_that_is_shown_is_replaced_without_a_flicker(
    live: tuple[GrowingScan, LiveServer], open_page: OpenPage
) -> None:
    """Each frame of one place: grey first, tissue after, and never back to grey."""
    scan, server = live
    page = open_page(server.url, viewport={"width": 1000, "height": 700})
    page.evaluate(f"""() => {{
      globalThis.frames_seen = [];
      const read = {PIXEL};
      (function sample() {{
        const values = read([0.5, 0.3]);
        if (values) frames_seen.push(values[0] - values[1]);
        requestAnimationFrame(sample);
      }})();
    }}""")
    with running(scan, pause_s=0.05) as thread:
        wait_until(page, lambda: not thread.is_alive())
        page.get_by_text("Done", exact=True).wait_for()
    page.wait_for_timeout(500)
    redness = page.evaluate("globalThis.frames_seen")
    first = next(n for n, value in enumerate(redness) if value > 20)
    assert first > 0, "it was grey before it was scanned"
    assert min(redness[first:]) > 20


def test_pause_resume_and_stop_by_clicks(
    live: tuple[GrowingScan, LiveServer], open_page: OpenPage
) -> None:
    scan, server = live
    page = open_page(server.url)
    with running(scan, pause_s=0.5) as thread:
        page.get_by_role("button", name="Pause").click()
        page.get_by_text("Paused", exact=True).wait_for()
        captured = page.locator("#captured").inner_text()
        page.wait_for_timeout(400)
        assert page.locator("#captured").inner_text() == captured
        page.get_by_role("button", name="Resume").click()
        page.get_by_text("Scanning", exact=True).wait_for()
        page.get_by_role("button", name="Stop…").click()
        page.get_by_role("button", name="Go on scanning").click()
        assert not scan.control.is_stopping, "stopping needs a second click"
        page.get_by_role("button", name="Stop…").click()
        page.get_by_role("button", name="Stop the scan").click()
        page.get_by_text("Done", exact=True).wait_for()
        wait_until(page, lambda: not thread.is_alive())
    assert int(page.locator("#captured").inner_text()) < len(scan.plan.visits)
    assert page.get_by_role("button", name="Pause").count() == 0


def test_overlays_by_keyboard(
    live: tuple[GrowingScan, LiveServer], open_page: OpenPage
) -> None:
    scan, server = live
    page = open_page(server.url)
    scan.run()
    page.get_by_text("Done", exact=True).wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Tab")
    spans = []
    for name in ("height", "best focus minus", "quality"):
        page.keyboard.press("ArrowRight")
        page.locator("#legend-name").get_by_text(name).wait_for()
        assert page.locator("canvas.overlay").is_visible()
        ends = (page.locator(f"#legend-{end}").inner_text() for end in ("low", "high"))
        spans.append(tuple(map(float, ends)))
    assert spans[1][0] == -spans[1][1], "an offset's colours are even about zero"
    assert spans[2] == (0.0, 1.0)
    page.keyboard.press("ArrowRight")
    page.locator("canvas.overlay").wait_for(state="hidden")


def test_every_control_is_reached_by_tab_with_a_visible_focus(
    live: tuple[GrowingScan, LiveServer], open_page: OpenPage
) -> None:
    scan, server = live
    page = open_page(server.url)
    with running(scan, pause_s=0.5):
        page.locator(".openseadragon-canvas").first.wait_for()
        reached = []
        for _ in range(14):
            page.keyboard.press("Tab")
            reached.append(
                page.evaluate("""() => {
                  const it = document.activeElement;
                  const outline = getComputedStyle(it).outlineStyle;
                  return [it.id || it.className || it.value, outline];
                }""")
            )
    names = list(dict.fromkeys(name for name, _ in reached))  # it goes round
    wanted = ["none", "zoom-in", "zoom-out", "zoom-home", "openseadragon-canvas"]
    wanted += ["look-row", "look-column", "pause", "stop"]
    assert [name for name in names if name in wanted] == wanted
    assert all(outline != "none" for name, outline in reached if name in wanted)


def test_the_token_unlocks_the_buttons(
    live: tuple[GrowingScan, LiveServer], open_page: OpenPage
) -> None:
    scan, server = live
    url = server.url.partition("?")[0]
    page = open_page(url, expected=("401",))
    with running(scan, pause_s=0.5):
        field = page.get_by_label("enter the token")
        field.fill("a wrong one")
        page.get_by_role("button", name="Unlock").click()
        page.get_by_text("this token is wrong").wait_for()
        assert page.get_by_role("button", name="Pause").count() == 0
        field.fill(TOKEN)
        field.press("Enter")
        page.get_by_role("button", name="Pause").click()
        page.get_by_text("Paused", exact=True).wait_for()
        scan.control.resume()


def test_a_click_on_the_slide_shows_the_tile_there(
    live: tuple[GrowingScan, LiveServer], open_page: OpenPage
) -> None:
    scan, server = live
    page = open_page(server.url)
    scan.run()
    wait_until(page, lambda: shows_tissue(page, 0.5, 0.5))
    box = page.locator(".openseadragon-canvas").first.bounding_box()
    assert box is not None
    # 4 rows and 6 columns, centred: a little above and left of the middle.
    page.mouse.click(box["x"] + box["width"] * 0.47, box["y"] + box["height"] * 0.45)
    page.get_by_role("heading", name="Tile in row 1, column 2").wait_for()
    pictures = page.locator("#tile-dialog img")
    wait_until(
        page,
        lambda: pictures.evaluate_all("all => all.every((one) => one.naturalWidth)"),
    )
    assert pictures.count() == 4
    page.keyboard.press("Escape")
    assert not page.locator("#tile-dialog").is_visible()
    page.get_by_role("spinbutton", name="row").fill("3")
    page.get_by_role("spinbutton", name="column").fill("5")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Tile in row 3, column 5").wait_for()


def test_a_phone_shows_everything_without_scrolling_sideways(
    live: tuple[GrowingScan, LiveServer], open_page: OpenPage
) -> None:
    scan, server = live
    page = open_page(server.url, **PHONE)
    with running(scan, pause_s=0.5):
        scan.events.publish(Fault(text="x" * 300))  # no spaces to break at
        wait_until(page, lambda: page.locator("#faults").inner_text() != "none")
        page.get_by_label("Focal offset").tap()
        page.locator("#legend").wait_for()
        widths = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert widths[0] <= widths[1] == 390
        for name in ("Pause", "Stop…", "Zoom in", "Whole slide"):
            box = page.get_by_role("button", name=name).bounding_box()
            assert box is not None
            assert box["height"] >= 44, f"{name} is too small for a finger"


def test_a_lost_connection_is_told_and_mended(
    tmp_path: Path, open_page: OpenPage
) -> None:
    # The browser's own words, and the viewer's of a tile that it was just fetching.
    refused = ("ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED", "ailed to load")
    with growing_page(tmp_path / "one") as (scan, server):
        port = server.server_port
        page = open_page(server.url, expected=refused)
        scan.run()
        page.get_by_text("Done", exact=True).wait_for()
        assert not page.locator("#lost").is_visible()
    page.locator("#lost").wait_for()
    with growing_page(tmp_path / "two", address=LiveAddress(port=port)) as (scan, _):
        page.locator("#lost").wait_for(state="hidden")
        # It is another server: the page begins anew, and knows nothing of the old scan.
        wait_until(page, lambda: page.locator("#captured").inner_text() == "0")


def test_without_the_viewer_the_page_says_so_and_shows_the_overview(
    live: tuple[GrowingScan, LiveServer], open_page: OpenPage
) -> None:
    scan, server = live
    page = open_page("about:blank", expected=("404", "MIME"))
    page.route(
        re.compile("openseadragon.min.js"), lambda route: route.fulfill(status=404)
    )
    page.goto(server.url)
    page.get_by_text("make viewer").wait_for()
    scan.run()
    picture = page.locator("#overview")
    wait_until(page, lambda: picture.evaluate("it => it.naturalWidth > 0"))
    page.get_by_text("Done", exact=True).wait_for()


def test_another_site_in_the_same_browser_can_neither_read_nor_act(
    live: tuple[GrowingScan, LiveServer], open_page: OpenPage
) -> None:
    scan, server = live
    scan.run()
    page = open_page(server.url)
    page.get_by_text("Done", exact=True).wait_for()
    base = f"http://127.0.0.1:{server.server_port}"
    stranger = page.context.new_page()
    # Another server of this machine: same site, same cookies, another origin.
    with growing_page(scan.root.parent / "other") as (_, other):
        stranger.route("**/evil", lambda route: route.fulfill(body="<p>hello"))
        stranger.goto(f"http://127.0.0.1:{other.server_port}/evil")
        outcome = stranger.evaluate(
            """async (base) => {
              await fetch(`${base}/control/stop`, {
                method: "POST", mode: "no-cors", credentials: "include", body: "{}",
              }).catch(() => {});  // the answer is hidden, but was it asked?
              const read = await fetch(`${base}/state.json`).then(
                () => "read", () => "refused");
              const picture = await new Promise((done) => {
                const image = new Image();
                image.onload = () => done("shown");
                image.onerror = () => done("refused");
                image.src = `${base}/overview.jpg`;
              });
              const events = await new Promise((done) => {
                const source = new EventSource(`${base}/events`);
                source.onmessage = () => done("read");
                source.onerror = () => { source.close(); done("refused"); };
              });
              return [read, picture, events];
            }""",
            base,
        )
    assert outcome == ["refused"] * 3
    assert not scan.control.is_stopping
