"""`report.json` and `report.html` of a finished scan."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from bifocus.edge.journal import Journal, TileLine
from bifocus.edge.report import write_json_atomic, write_report
from bifocus.edge.report_records import (
    FocusSurface,
    ReportContents,
    StrategyRow,
    TileRow,
)
from bifocus.edge.scan_result import ScanResult
from bifocus.edge.tile_notes import read_trace

# Property of the journal of a scan that needs nothing more.
FINISHED = "finished"


def compose_report(result: ScanResult) -> dict[str, Any]:
    """Return the contents of `report.json`; keys are listed in the design document."""
    counts = Counter(line.entry.status for line in result.lines)
    fuse_s = [line.fuse_s for line in result.lines if line.fuse_s]
    report: dict[str, Any] = {
        "tiles": len(result.plan.visits),
        "captured": len(result.lines),
        "fused": len(fuse_s),
        "blank": counts["blank"],
        "flagged": counts["flagged"],
        "shots": result.shots,
        "elapsed_s": result.elapsed_s,
        "capture_s_per_tile": _pace_s(result),
        "fuse_s_per_tile": float(np.mean(fuse_s)) if fuse_s else 0.0,
        "waits_s": result.waits_s,
        "timings_ms": {name: dict(of) for name, of in result.timings_ms.items()},
        "shot_again": sum(map(_is_shot_again, result.lines)),
        "sessions": result.sessions,
        "strategy": result.strategy,
        "model": result.model,
        "engine": result.engine,
        "half_spacing_um": result.half_spacing_um,
        "simulated": result.simulated,
        "faults": list(result.faults),
        "slide_px": list(result.slide_px),
        "seam_residual_px": _spread(list(result.placement.residual_px.values())),
        "seams": {
            "used": len(result.placement.residual_px),
            "untrusted": result.untrusted_pairs,
            "rejected": result.placement.n_rejected,
        },
    }
    if result.truth is not None:
        report["truth"] = asdict(result.truth)
    return report


def write_reports(
    result: ScanResult, comparison: Sequence[StrategyRow] = ()
) -> dict[str, Any]:
    """Write both files into the scan folder; return the contents of `report.json`.

    Raises
    ------
    SlideFileError
        If a file cannot be written.
    """
    report = compose_report(result)
    if comparison:
        report["comparison"] = [asdict(row) for row in comparison]
    plane = result.tracker.fit_plane()
    contents = ReportContents(
        title=f"{result.folder.root.name}: {result.strategy} scan",
        tiles=tuple(map(_tile_row, result.lines)),
        thumbnail_jpeg=result.folder.thumbnail.read_bytes(),
        surface=FocusSurface(
            z0_um=plane.z0_um,
            slope_x_mrad=plane.slope_x_mrad,
            slope_y_mrad=plane.slope_y_mrad,
        ),
        comparison=tuple(comparison),
    )
    write_json_atomic(result.folder.report, report)
    write_report(result.folder.root, report, contents)
    if result.folder.journal.exists():
        with Journal(result.folder.journal) as journal:
            journal.set(FINISHED, "yes")
    return report


def strategy_row(result: ScanResult) -> StrategyRow:
    """Return a scan's line in the comparison of strategies."""
    truth = result.truth
    is_pair = result.strategy == "two-shot"
    return StrategyRow(
        strategy=result.strategy,
        shots=result.shots,
        seconds=result.elapsed_s,
        seconds_per_tile=_pace_s(result),
        psnr_db=truth.psnr_db if truth else None,
        sharper_psnr_db=truth.sharper_psnr_db if truth and is_pair else None,
        harm_rate=truth.harm_rate if truth and is_pair else None,
    )


def _pace_s(result: ScanResult) -> float:
    """Return the mean time from one tile to the next, without the way to the first."""
    scanning_s = result.elapsed_s - result.waits_s["approach_s"]
    return scanning_s / max(len(result.lines), 1)


def _tile_row(line: TileLine) -> TileRow:
    entry, offset = line.entry, line.entry.offset
    is_blank = entry.status == "blank"
    status = "fused" if entry.status == "captured" and line.fuse_s else entry.status
    measured = offset if offset is not None and not is_blank else None
    return TileRow(
        row=entry.row,
        column=entry.column,
        x_um=entry.x_um,
        y_um=entry.y_um,
        planned_focus_um=entry.focus_um,
        status=status,
        offset_um=measured.offset_um if measured else None,
        sd_um=measured.sd_um if measured else None,
        quality=line.quality if not is_blank else None,
        capture_s=entry.capture_s,
        fuse_s=line.fuse_s or None,
        sharpness_before=line.sharpness_before,
        sharpness_after=line.sharpness_after,
    )


def _is_shot_again(line: TileLine) -> bool:
    return len(read_trace(line.entry.trace)) > 1


def _spread(values: list[float]) -> dict[str, float] | None:
    if not values:
        return None
    return {"median": float(np.median(values)), "max": float(np.max(values))}
