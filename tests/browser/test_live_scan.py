"""A whole scan of the virtual instrument, watched and steered from a browser."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bifocus.edge.fusers import PhysicsFuser
from bifocus.edge.live_page import LiveAddress, Onlookers, let_look_on
from bifocus.edge.scan import Scan
from bifocus.edge.scan_events import ScanControl, ScanEvents
from bifocus.edge.scan_folder import ScanFolder
from bifocus.errors import ScanStoppedError
from tests.browser.conftest import OpenPage
from tests.browser.test_live_page import shows_tissue, wait_until
from tests.scanner import (
    REGION_UM,
    ideal_profile,
    open_scanner,
    plan_region,
    scanner_config,
)

pytestmark = pytest.mark.slow


@dataclass(slots=True)
class Watched:
    """A real scan that begins when it is told to, and where to look at it."""

    scan: Scan
    addresses: list[str]
    control: ScanControl
    outcome: list[BaseException | None] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator[None]:
        def work() -> None:
            try:
                self.scan.run()
                self.outcome.append(None)
            except ScanStoppedError as error:
                self.outcome.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            self.control.stop()
            thread.join()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    events, control, addresses = ScanEvents(), ScanControl(), list[str]()
    with open_scanner(scanner_config()) as instrument:
        profile = ideal_profile(instrument)
        plan = plan_region(instrument.config, profile.focus_um.value, REGION_UM)
        folder = ScanFolder(tmp_path / "scan")
        scan = Scan(
            stage=instrument.stage,
            camera=instrument.camera,
            clock=instrument.clock,
            config=instrument.config,
            profile=profile,
            plan=plan,
            folder=folder,
            fuser=PhysicsFuser(),
            events=events,
            control=control,
        )
        folder.root.mkdir()
        with let_look_on(
            Onlookers(live=LiveAddress(), say=addresses.append),
            folder,
            plan,
            config=instrument.config,
            profile=profile,
            strategy="two-shot",
            events=events,
            control=control,
        ):
            yield Watched(scan=scan, addresses=addresses, control=control)


def test_a_real_scan_fills_the_page(watched: Watched, open_page: OpenPage) -> None:
    (address,) = watched.addresses
    url = address.removeprefix("live page: ")
    page = open_page(url)
    with watched.running():
        wait_until(page, lambda: shows_tissue(page, 0.5, 0.5), within_s=60)
        page.get_by_text("Done", exact=True).wait_for(timeout=60_000)
        assert watched.outcome == [None]
    assert page.locator("#captured").inner_text() == "12"
    assert page.locator("#fused").inner_text() == "12"
    timings = page.locator("#timings").inner_text()
    assert "fuse" in timings
    assert page.locator("#faults").inner_text() == "none"
    answer = page.request.get(f"{url.partition('?')[0]}metrics")
    assert 'bifocus_tiles_captured_total{status="captured"} 12.0' in answer.text()


def test_a_real_scan_is_paused_and_stopped(
    watched: Watched, open_page: OpenPage
) -> None:
    page = open_page(watched.addresses[0].removeprefix("live page: "))
    watched.control.pause()
    with watched.running():
        page.get_by_text("Paused", exact=True).wait_for()
        assert int(page.locator("#captured").inner_text()) < 12
        page.get_by_role("button", name="Stop…").click()
        page.get_by_role("button", name="Stop the scan").click()
        page.get_by_text("Done", exact=True).wait_for(timeout=60_000)
        wait_until(page, lambda: bool(watched.outcome))
    assert isinstance(watched.outcome[0], ScanStoppedError)
