"""`report.json` counts what the journal says, with and without a truth."""

import dataclasses
import json
from pathlib import Path

import pytest

from bifocus.edge.focus_tracking import FocusTracker
from bifocus.edge.journal import TileEntry, TileLine
from bifocus.edge.placement import Placement
from bifocus.edge.plan import plan_scan
from bifocus.edge.report_records import StrategyRow
from bifocus.edge.scan import ScanResult
from bifocus.edge.scan_folder import ScanFolder
from bifocus.edge.scan_report import (
    _tile_row,
    compose_report,
    strategy_row,
    write_reports,
)
from bifocus.edge.truth import TruthReport
from bifocus.records import FocalOffset

TRUTH = TruthReport(
    psnr_db=38.0,
    sharper_psnr_db=36.0,
    offset_error_um={"mean": 0.1, "p95": 0.2, "max": 0.3},
    stitch_error_px={"mean": 0.1, "max": 0.2},
    harm_rate=0.25,
    tiles_compared=4,
)
STATUSES = ("captured", "blank", "flagged", "captured")


def line(number: int, status: str) -> TileLine:
    is_fused = status != "blank"
    return TileLine(
        entry=TileEntry(
            row=number // 2,
            column=number % 2,
            visit=number,
            x_um=50.0 * number,
            y_um=40.0,
            focus_um=12.0,
            status=status,
            shots=2,
            capture_s=0.5,
            offset=FocalOffset(offset_um=0.25, sd_um=0.1, confidence=0.9),
            raw_a="raw/a.png",
            raw_b="raw/b.png",
        ),
        quality=0.9 if is_fused else 0.0,
        fuse_s=0.1 * (number + 1) if is_fused else 0.0,
        sharpness_before=1.0,
        sharpness_after=2.0,
    )


@pytest.fixture
def result(tmp_path: Path) -> ScanResult:
    folder = ScanFolder(tmp_path / "my slide")
    folder.create()
    folder.thumbnail.write_bytes(b"\xff\xd8\xff\xd9")
    plan = plan_scan(
        (0.0, 0.0, 100.0, 100.0),
        field_px=(256, 256),
        pixel_um=0.25,
        overlap=0.1,
        focus_um=12.0,
    )
    tracker = FocusTracker((0.0, 0.0, 12.0), 60.0)
    tracker.add(1000.0, 0.0, 14.0, 0.01)
    return ScanResult(
        folder=folder,
        plan=plan,
        strategy="two-shot",
        lines=tuple(line(number, status) for number, status in enumerate(STATUSES)),
        placement=Placement(
            tiles=(),
            residual_px={((0, 0), (0, 1)): 0.25, ((0, 0), (1, 0)): 0.75},
            n_rejected=3,
            stage_sd_px=None,
            stage_matrix=((1, 0), (0, 1)),
        ),
        tracker=tracker,
        elapsed_s=4.0,
        waits_s={"approach_s": 0.0, "stage_s": 3.0, "camera_s": 1.0, "fuse_s": 0.0},
        shots=10,
        slide_px=(400, 410),
        model="physics",
        engine="numpy",
        faults=("engine a failed; engine b went on",),
        simulated=True,
        truth=TRUTH,
        untrusted_pairs=1,
        half_spacing_um=0.75,
    )


def test_the_counts_are_those_of_the_journal(result: ScanResult) -> None:
    report = compose_report(result)
    assert report["tiles"] == len(result.plan.visits) == 4
    assert (report["captured"], report["fused"]) == (4, 3)
    assert (report["blank"], report["flagged"]) == (1, 1)
    assert report["capture_s_per_tile"] == pytest.approx(1.0)
    assert report["fuse_s_per_tile"] == pytest.approx((0.1 + 0.3 + 0.4) / 3)
    assert report["seam_residual_px"] == {"median": 0.5, "max": 0.75}
    assert report["seams"] == {"used": 2, "untrusted": 1, "rejected": 3}
    assert report["truth"]["psnr_db"] == 38.0


def test_a_real_instrument_has_no_truth(result: ScanResult) -> None:
    real = dataclasses.replace(result, truth=None, simulated=False)
    report = compose_report(real)
    assert "truth" not in report
    assert report["simulated"] is False
    assert strategy_row(real).psnr_db is None


def test_a_scan_of_one_tile_has_no_seams(result: ScanResult) -> None:
    placement = dataclasses.replace(result.placement, residual_px={})
    lone = dataclasses.replace(result, placement=placement, lines=())
    report = compose_report(lone)
    assert report["seam_residual_px"] is None
    assert report["fuse_s_per_tile"] == report["captured"] == 0


def test_rows_show_only_what_was_measured() -> None:
    fused, blank, flagged, _ = (
        _tile_row(line(number, status)) for number, status in enumerate(STATUSES)
    )
    assert (fused.status, fused.offset_um, fused.quality) == ("fused", 0.25, 0.9)
    assert fused.best_focus_um == 12.25
    assert (blank.status, blank.offset_um, blank.quality) == ("blank", None, None)
    assert blank.fuse_s is None
    assert (flagged.status, flagged.offset_um) == ("flagged", 0.25)


def test_a_line_of_the_comparison(result: ScanResult) -> None:
    row = strategy_row(result)
    assert (row.shots, row.seconds, row.seconds_per_tile) == (10, 4.0, 1.0)
    assert (row.psnr_db, row.sharper_psnr_db, row.harm_rate) == (38.0, 36.0, 0.25)
    # One shot a tile has no sharper one to compare with.
    stack = strategy_row(dataclasses.replace(result, strategy="stack"))
    assert (stack.sharper_psnr_db, stack.harm_rate) == (None, None)


def test_both_files_are_written_and_agree(result: ScanResult) -> None:
    other = StrategyRow(strategy="stack", shots=88, seconds=90.0, seconds_per_tile=22.5)
    report = write_reports(result, [other])
    root = result.folder.root
    stored = json.loads((root / "report.json").read_text(encoding="utf-8"))
    assert stored == json.loads(json.dumps(report))
    assert stored["comparison"][0]["seconds_per_tile"] == 22.5
    page = (root / "report.html").read_text(encoding="utf-8")
    assert "my slide: two-shot scan" in page
    assert "simulat" in page.lower()
    assert "http://" not in page.replace("http://www.w3.org", "")
