"""Find the system's Chromium; no browser is ever downloaded."""

import os
import shutil
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_chromium() -> Path | None:
    """Return BIFOCUS_CHROMIUM, or what is on PATH."""
    named = os.environ.get("BIFOCUS_CHROMIUM")
    found = named or next(filter(None, map(shutil.which, NAMES)), None)
    return Path(found) if found else None
