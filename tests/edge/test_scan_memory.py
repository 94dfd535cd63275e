"""The memory of a scan must not grow with its number of tiles.

One fresh process scans 10 x 5 tiles, once more, and then 10 x 40 on the same
instrument, and the kernel's peaks of the last two are compared. VmHWM, not ru_maxrss:
that one starts with the size of the parent, pytest.
"""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

logger = logging.getLogger(__name__)

ROOT = Path(__file__).parents[2]

SCRIPT = """
import json, sys
from contextlib import closing
from pathlib import Path
from bifocus.edge.engine_choice import choose_fuser
from bifocus.edge.scan import Scan
from bifocus.edge.scan_folder import ScanFolder
from tests.scanner import ideal_profile, open_scanner, plan_region, scanner_config

SIDE_PX, STEP_UM, FIELD_UM, COLUMNS = 128, 22.4, 32.0, 10

def peak_mb():
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024

config = scanner_config(
    camera={"width_px": SIDE_PX, "height_px": SIDE_PX},
    scan={"overlap": 0.3},
    virtual_slide={"beyond": "mirror"},
    stage={"y_um": (0.0, 2000.0)},
)

def scan(instrument, rows, root, fuser):
    size_um = [FIELD_UM - 1e-6 + STEP_UM * (n - 1) for n in (COLUMNS, rows)]
    profile = ideal_profile(instrument)
    plan = plan_region(config, profile.focus_um.value, (380.0, 310.0, *size_um))
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew, see proc(5)
    result = Scan(
        stage=instrument.stage, camera=instrument.camera, clock=instrument.clock,
        config=config, profile=profile, plan=plan, folder=ScanFolder(root),
        fuser=fuser,
    ).run()
    peak = peak_mb()
    statuses = [line.entry.status for line in result.lines]
    return len(statuses), statuses.count("captured"), peak

root = Path(sys.argv[1])
with open_scanner(config) as instrument, closing(choose_fuser()) as fuser:
    # The first fills the caches of transfer tables, which are bounded.
    scan(instrument, 5, root / "first", fuser)
    # How far the stages overlap differs from run to run, and the peak with it.
    rows = (5, 5, 5, 40, 40)
    found = [scan(instrument, n, root / str(i), fuser) for i, n in enumerate(rows)]
    by_peak = sorted(found[:3], key=lambda one: one[2])
    print(json.dumps([by_peak[-1], min(found[3:], key=lambda one: one[2])]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")
def test_the_peak_does_not_grow_with_the_number_of_tiles(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (few, few_captured, few_mb), (many, many_captured, many_mb) = json.loads(
        done.stdout
    )
    logger.info("peak: %d tiles %.0f MB, %d tiles %.0f MB", few, few_mb, many, many_mb)
    assert (few, many) == (50, 400)
    assert few_captured > 45
    assert many_captured > 360
    # One frame kept of each tile would be 17 MB more, one pair of spectra far more;
    # 0 to 8 MB were measured.
    assert many_mb - few_mb < 14
    assert many_mb < 1.15 * few_mb
