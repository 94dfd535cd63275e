"""A headless Chromium for the tests of this folder, started once."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bifocus.edge.fetch_viewer import is_installed
from tests.browser.chromium import find_chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

OpenPage = Callable[..., "Page"]


@pytest.fixture(scope="package")
def browser() -> Iterator["Browser"]:
    playwright_api = pytest.importorskip(
        "playwright.sync_api", reason="needs playwright, of the dev group"
    )
    path = find_chromium()
    if path is None:
        pytest.skip("needs Chromium: install it, or name it in BIFOCUS_CHROMIUM")
    if not is_installed():
        pytest.skip("needs OpenSeadragon: make viewer")
    # Chromium's own sandbox refuses to run for root, as in most containers.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    arguments.append("--disable-dev-shm-usage")  # which is tiny in containers
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: "Browser", tmp_path: Path) -> Iterator[OpenPage]:
    """Open pages in fresh contexts; an error on the console fails the test.

    `expected` are parts of errors that the test provokes.
    """
    complaints: list[str] = []
    contexts: list[BrowserContext] = []

    def open_(url: str, *, expected: tuple[str, ...] = (), **options: Any) -> "Page":
        def complain(text: str) -> None:
            if not any(part in text for part in expected):
                complaints.append(text)

        context = browser.new_context(**options)
        context.set_default_timeout(15_000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complain(str(error)))
        page.on(
            "console",
            lambda said: complain(said.text) if said.type == "error" else None,
        )
        page.goto(url)
        return page

    yield open_
    for context in contexts:
        for number, page in enumerate(context.pages):
            # Not by `path=`, for which playwright would leave threads behind.
            (tmp_path / f"last-{number}.png").write_bytes(page.screenshot())
        context.close()
    assert complaints == []
