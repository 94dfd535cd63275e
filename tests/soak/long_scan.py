"""One long scan of small tiles on the virtual clock, in a process of its own.

Run as `python -m tests.soak.long_scan FOLDER TILES`: prints, as JSON, what the process
took over each hundred tiles: the peak of its memory and its CPU time. The live page and
the reports take part, as in a scan with `--live`.
"""

import json
import re
import sys
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from bifocus.edge.engine_choice import choose_fuser
from bifocus.edge.live_page import LiveAddress, Onlookers, let_look_on
from bifocus.edge.scan import Scan
from bifocus.edge.scan_events import ScanControl, ScanEvents
from bifocus.edge.scan_folder import ScanFolder
from bifocus.edge.scan_report import write_reports
from tests.scanner import ideal_profile, open_scanner, plan_region, scanner_config

SIDE_PX, STEP_UM, FIELD_UM, COLUMNS = 128, 22.4, 32.0, 20
CHUNK = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """What a hundred tiles took; the last chunk holds the end of the scan, too."""

    tiles: int
    peak_mb: float
    cpu_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LongScan:
    """A long scan: its chunks in order, and what came of its tiles."""

    captured: int
    chunks: tuple[Chunk, ...]


class _Account:
    """Takes the figures of each chunk; its `note` is the scan's progress."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []
        self._begin()

    def note(self, done: int, total: int) -> None:
        if done % CHUNK == 0 and done < total:
            self.close(done)

    def close(self, done: int) -> None:
        cpu_s = time.process_time() - self._start_s
        self.chunks.append(Chunk(tiles=done, peak_mb=_peak_mb(), cpu_s=cpu_s))
        self._begin()

    def _begin(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew: proc(5)
        self._start_s = time.process_time()


def _peak_mb() -> float:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


def scan_long(root: Path, tiles: int) -> LongScan:
    """Scan so many tiles, a multiple of `COLUMNS`."""
    rows = tiles // COLUMNS
    size_um = [FIELD_UM - 1e-6 + STEP_UM * (n - 1) for n in (COLUMNS, rows)]
    config = scanner_config(
        camera={"width_px": SIDE_PX, "height_px": SIDE_PX},
        scan={"overlap": 0.3},
        virtual_slide={"beyond": "mirror"},
        stage={"y_um": (0.0, 400.0 + size_um[1])},
    )
    folder, events, control = ScanFolder(root), ScanEvents(), ScanControl()
    with open_scanner(config) as instrument, closing(choose_fuser()) as fuser:
        profile = ideal_profile(instrument)
        region_um = (380.0, 310.0, size_um[0], size_um[1])
        plan = plan_region(config, profile.focus_um.value, region_um)
        scan = Scan(
            stage=instrument.stage,
            camera=instrument.camera,
            clock=instrument.clock,
            config=config,
            profile=profile,
            plan=plan,
            folder=folder,
            fuser=fuser,
            events=events,
            control=control,
        )
        with let_look_on(
            Onlookers(live=LiveAddress()),
            folder,
            plan,
            config=config,
            profile=profile,
            strategy="two-shot",
            events=events,
            control=control,
        ):
            account = _Account()
            result = scan.run(account.note)
            write_reports(result)
            account.close(len(result.lines))
    statuses = [line.entry.status for line in result.lines]
    return LongScan(captured=statuses.count("captured"), chunks=tuple(account.chunks))


if __name__ == "__main__":
    figures = scan_long(Path(sys.argv[1]), int(sys.argv[2]))
    sys.stdout.write(json.dumps(asdict(figures)))
